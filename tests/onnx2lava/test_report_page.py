"""The report page: all in one file, true to the spikes, and safe to open."""

import base64
import json
import re
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from custom_ops.files.trace import Trace
from onnx2lava import to_onnx, verify
from onnx2lava.errors import ConversionError, ModelFileError
from onnx2lava.network import INPUT, Conv, CubaNeuron, Edge, Input, Network, Population
from onnx2lava.targets.numpy import simulate
from onnx2lava.verification import Disagreement, merged, read_json, write_json
from onnx2lava.verification.page import write_report
from onnx2lava.verification.page.window import NEURONS, choose_window
from tests.onnx2lava.commands import run
from tests.onnx2lava.networks import chains, graphs, like_trained, spikes

NETWORK = chains()["strided, dilated, grouped, odd, biased"]


def doctored():
    """A trace with two wrong spikes, and the input."""
    x = spikes(NETWORK, 6, 3)[INPUT]
    trace = Trace(x, {name: values.copy() for name, values in simulate(NETWORK, {INPUT: x}).items()})
    layer = trace.spikes["conv_fc.1"]
    layer[4, 2].flat[3] = 1 - layer[4, 2].flat[3]
    layer[5, 0].flat[0] = 1 - layer[5, 0].flat[0]
    return trace, x


def data_of(page):
    """What the page's program reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def rows(layer, runtime, sample):
    """``[neurons, steps]`` of one raster."""
    text = layer["runs"][runtime][str(sample)] or layer["runs"][layer["reference"]][str(sample)]
    shape = len(layer["neurons"]), layer["stop"] - layer["start"]
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[: shape[0] * shape[1]].reshape(shape)


def potential(layer, sample):
    bits, text = layer["potentials"][str(sample)]
    return np.frombuffer(base64.b64decode(text), f"<i{bits // 8}").reshape(len(layer["neurons"]), -1)


def test_page_leads_to_the_first_disagreement_and_needs_no_other_file(tmp_path):
    trace, x = doctored()
    result = verify(to_onnx(NETWORK), x, trace=trace, against=["numpy"])
    page = write_report(result, tmp_path / "report", title="<script>alert(1)</script>.onnx").read_text(encoding="utf-8")
    assert "2 spikes differ: first in &#39;conv_fc.1&#39; at time step 4, sample 2, neuron 3" in page
    (found,) = re.findall(r'first disagreement: <a href="#layer-1" data-first="layer-1">(.*?)</a>', page, re.DOTALL)
    assert " ".join(found.split()) == "onnxruntime, the file as it is at time step 4, sample 2, neuron 3"
    assert re.search(r'<a href="#layer-1" data-first="layer-1">2</a>', page), "the table leads there"
    assert "<script>" not in page
    assert not re.search(r"""(?:src|srcset)=|https?:|url\(|@import|fetch\(|XMLHttp""", page)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    layer = data_of(page)["layers"][1]
    assert layer["first"] == {"sample": 2, "step": 4, "neuron": 3, "runtime": "file"}
    differ = rows(layer, "numpy", 2) != rows(layer, "trace", 2)
    assert np.argwhere(differ).tolist() == [[layer["neurons"].index(3), 4]]


@pytest.mark.parametrize("name", [*chains(), *graphs()])
def test_potentials_cross_the_threshold_where_neurons_fire(tmp_path, name):
    network = {**chains(), **graphs()}[name]
    x = spikes(network, 6, 2)
    data = data_of(write_report(verify(network, x, against=["numpy"]), tmp_path, title="a").read_text(encoding="utf-8"))
    expected = simulate(network, x)
    for layer in data["layers"]:
        for sample in data["samples"]:
            fired = expected[layer["name"]][:, sample].reshape(6, -1)[:, layer["neurons"]].T
            assert (rows(layer, layer["reference"], sample) == fired).all()
            assert ((potential(layer, sample) > np.array(layer["thresholds"])[:, None]) <= (fired > 0)).all()
            above = potential(layer, sample) >= np.array(layer["thresholds"])[:, None]  # fractions of a unit are not shown
            assert (above >= (fired > 0)).all()


def test_page_shows_each_sample_its_votes_and_who_is_confused_with_whom(tmp_path):
    network = chains()["dense"]
    x = spikes(network, 8, 6)
    labels = np.array([0, 1, 0, 1, 1, 1])
    result = verify(network, x, against=["ort", "numpy"], labels=labels)
    page = write_report(result, tmp_path, title="a").read_text(encoding="utf-8")
    data = data_of(page)
    said = simulate(network, x)[network.outputs[0]].sum(0).reshape(6, -1)
    assert data["samples"] == list(range(6))
    assert data["labels"] == labels.tolist()
    assert data["scores"]["ort"] == said.tolist()
    matrix = np.zeros((said.shape[1],) * 2, int)
    np.add.at(matrix, (labels, said.argmax(1)), 1)
    assert np.array_equal(result.votes["numpy"].confusion, matrix)
    cells = re.findall(r'<td class="(right|wrong)">(\d+)</td>', page)
    assert sum(int(count) for kind, count in cells if kind == "right") == matrix.trace()
    assert sum(int(count) for _, count in cells) == 6
    halves = [verify(network, x, against=["ort", "numpy"], labels=labels, samples=each) for each in ((0, 2), (2, None))]
    assert merged(halves).votes == result.votes
    shown = np.unpackbits(np.frombuffer(base64.b64decode(data["inputs"][0]["samples"]["3"]), np.uint8))
    given = data["inputs"][0]
    (values,) = x.values()
    expected = values[:, 3].reshape(8, -1)[:, given["neurons"]].T
    assert (shown[: expected.size].reshape(expected.shape) == (expected != 0)).all()


def test_page_of_a_large_network_stays_below_three_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    populations, source, channels = [], INPUT, 2
    for index in range(8):
        conv = Conv(2 * generator.integers(-20, 30, (2, channels, 3, 3)).astype(np.int32), pads=(1, 1, 1, 1))
        populations.append(Population(f"layer {index}", (2, 128, 128), CubaNeuron(2048, 128, 100), (Edge(source, conv),)))
        source, channels = f"layer {index}", 2
    network = Network("large", {INPUT: Input((2, 128, 128))}, tuple(populations), (source,))
    x = (generator.random((100, 1, 2, 128, 128)) < 0.05).astype(np.uint8)
    result = verify(network, x, against=["ort"])
    # As many samples as are kept of smaller networks.
    result = replace(
        result,
        spikes={name: {key: np.repeat(each, 16, 1) for key, each in layers.items()} for name, layers in result.spikes.items()},
        inputs={name: np.repeat(each, 16, 1) for name, each in result.inputs.items()},
    )
    page = write_report(result, tmp_path, title="large")
    data = data_of(page.read_text(encoding="utf-8"))
    assert len(data["samples"]) == 16
    assert all(layer["stop"] == 100 and len(layer["neurons"]) == 32 for layer in data["layers"])
    assert page.stat().st_size < 3_000_000


def test_page_of_a_result_that_was_read_shows_the_same_rasters(tmp_path):
    trace, x = doctored()
    result = verify(to_onnx(NETWORK), x, trace=trace, against=["numpy"])
    write_json(result, tmp_path / "result.json", spikes=True)
    here, read = (
        data_of(write_report(each, tmp_path / "page", title="a").read_text(encoding="utf-8"))
        for each in (result, read_json(tmp_path / "result.json"))
    )
    assert [layer["runs"] for layer in here["layers"]] == [layer["runs"] for layer in read["layers"]]
    assert here["inputs"] == read["inputs"]
    assert here["scores"] == read["scores"]


def test_page_of_a_graph_whose_names_are_alike_or_very_long(tmp_path):
    network = graphs()["two inputs and two outputs"]
    names = {"seen": "a b", "heard": "a_b", "both": "x" * 400, "last": "<b>"}
    populations = [
        replace(
            each,
            name=names[each.name],
            edges=tuple(replace(edge, source=names.get(edge.source, edge.source)) for edge in each.edges),
        )
        for each in network.populations
    ]
    renamed = replace(network, populations=tuple(populations), outputs=("<b>", "a_b"))
    page = write_report(verify(renamed, spikes(renamed, 4, 2), against=["ort", "numpy"]), tmp_path, title="g").read_text()
    ids = re.findall(r'<section id="(layer-[^"]*)"', page)
    assert len(set(ids)) == 4
    assert [layer["name"] for layer in data_of(page)["layers"]] == [
        names.get(each, each) for each in ("seen", "heard", "both", "last")
    ]


def test_page_of_a_float_network_shows_what_rounding_cost(tmp_path):
    network = like_trained()
    result = verify(network, spikes(network, 8, 2), against=["ort", "numpy"], scale=64)
    page = write_report(result, tmp_path, title="trained").read_text(encoding="utf-8")
    assert "Every spike is the same in" in page
    assert "Against the network before quantisation" in page
    assert page.count("scale 64, ") == len(network.populations)
    for layer in data_of(page)["layers"]:
        assert sum(layer["weights"]["counts"]) == sum(layer["weights"]["before"]) == network[layer["name"]].weights().size
        assert list(layer["runs"])[:2] == ["float", layer["reference"]]


def test_window_shows_the_disagreement_and_neurons_that_fire():
    layer = np.zeros((1000, 500))
    layer[:, 250:] = 1
    window = choose_window([np.zeros((1000, 500)), layer], Disagreement(700, 2, 7, "b"))
    assert window.start < 700 < window.stop
    assert 7 in window.neurons
    assert len(set(window.neurons)) == NEURONS
    assert (np.diff(window.neurons) > 0).all()
    assert window.cut(layer).mean() == (NEURONS - 1) / NEURONS
    assert window.cut(layer).shape == (NEURONS, window.stop - window.start)
    small = np.zeros((2, 5))
    small[:, 3] = 1  # of few neurons all are shown, as the classes of an output are
    assert choose_window([small], None).neurons.tolist() == [0, 1, 2, 3, 4]


def test_without_what_a_page_needs_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = verify(to_onnx(NETWORK), spikes(NETWORK, 2, 1), against=["numpy"])
    with pytest.raises(ConversionError, match=r"jinja2.*sj2lava\[report\]"):
        write_report(result, tmp_path, title="a")


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    result = verify(NETWORK, spikes(NETWORK, 2, 1), against=["numpy"])
    with pytest.raises(ModelFileError, match="Cannot write to"):
        write_report(result, tmp_path / "file", title="a")


def test_merged_parts_have_a_page(tmp_path):
    x = spikes(NETWORK, 6, 4)
    np.save(tmp_path / "x.npy", x[INPUT])
    onnx.save(to_onnx(NETWORK), tmp_path / "in.onnx")
    for samples, name in (("0:2", "a.json"), ("2:", "b.json")):
        command = ("verify", "in.onnx", "--input", "x.npy", "--against", "ort,numpy", "--samples", samples, "--json", name)
        run(*command, folder=tmp_path, code=0)
    run("merge", "a.json", "b.json", "--report", "page", folder=tmp_path, code=0)
    assert "4 samples, 6 time steps" in (tmp_path / "page" / "index.html").read_text()
    command = ("verify", "in.onnx", "--input", "x.npy", "--report", "in.onnx")
    assert "Cannot write to in.onnx" in run(*command, folder=tmp_path, code=2)
