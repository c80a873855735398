"""The report page: all in one file, true to the spikes, and safe to open."""

import re
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from custom_ops.trace import Trace
from onnx2lava import to_onnx, verify
from onnx2lava.errors import ConversionError, ModelFileError
from onnx2lava.network import INPUT
from onnx2lava.targets.numpy import simulate
from onnx2lava.verification import Disagreement, read_json, write_json
from onnx2lava.verification.page import write_report
from onnx2lava.verification.page.window import NEURONS, choose_window
from tests.onnx2lava.commands import run
from tests.onnx2lava.networks import chains, graphs, like_trained, spikes

NETWORK = chains()["strided, dilated, grouped, odd, biased"]
PNG = b"\x89PNG\r\n\x1a\n"


def doctored():
    """A trace with two wrong spikes, and the input."""
    x = spikes(NETWORK, 6, 3)[INPUT]
    trace = Trace(x, {name: values.copy() for name, values in simulate(NETWORK, {INPUT: x}).items()})
    layer = trace.spikes["conv_fc.1"]
    layer[4, 2].flat[3] = 1 - layer[4, 2].flat[3]
    layer[5, 0].flat[0] = 1 - layer[5, 0].flat[0]
    return trace, x


def test_page_names_the_first_disagreement_and_holds_its_pictures(tmp_path):
    trace, x = doctored()
    result = verify(to_onnx(NETWORK), x, trace=trace, against=["numpy"])
    page = write_report(result, tmp_path / "report", title="<script>alert(1)</script>.onnx").read_text(encoding="utf-8")
    assert "2 spikes differ: first in &#39;conv_fc.1&#39; at time step 4, sample 2, neuron 3" in page
    (found,) = re.findall(r"first disagreement: (.*?)\.</p>", page, re.DOTALL)
    assert " ".join(found.split()) == "onnxruntime, the file as it is at time step 4, sample 2, neuron 3"
    assert "<script>" not in page
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    pictures = sorted((tmp_path / "report").glob("*.png"))
    assert len(pictures) == sum(source.startswith("data:") for source in sources)
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)
    assert {picture.suffixes[-2] for picture in pictures} == {".light", ".dark"}


def test_page_of_a_result_that_was_read_shows_the_same_rasters(tmp_path):
    trace, x = doctored()
    result = verify(to_onnx(NETWORK), x, trace=trace, against=["numpy"])
    write_json(result, tmp_path / "result.json", spikes=True)
    for name, each in (("here", result), ("read", read_json(tmp_path / "result.json"))):
        write_report(each, tmp_path / name, title="a")
    rasters = {path.name for path in (tmp_path / "read").glob("*.png")}
    assert any("numpy" in name for name in rasters)
    for name in rasters:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "read" / name).read_bytes()


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
    ids = re.findall(r'<section id="([^"]*)"', page)
    assert len(set(ids)) == 4
    assert len(list(tmp_path.glob("*.weights.light.png"))) == 4


def test_page_of_a_float_network_shows_what_rounding_cost(tmp_path):
    network = like_trained()
    result = verify(network, spikes(network, 8, 2), against=["ort", "numpy"], scale=64)
    page = write_report(result, tmp_path, title="trained").read_text(encoding="utf-8")
    assert "Every spike is the same in" in page
    assert "Against the network before quantisation" in page
    assert page.count("scale 64, ") == len(network.populations)
    assert page.count("and before rounding") == len(network.populations)
    assert page.count("<figcaption>float network, the file as it is</figcaption>") == len(network.populations)


def test_window_shows_the_disagreement_and_neurons_that_fire():
    layer = np.zeros((1000, 500))
    layer[:, 250:] = 1
    window = choose_window(layer, 2, Disagreement(700, 2, 7, "b"))
    assert window.sample == 2
    assert window.start < 700 < window.stop
    assert 7 in window.neurons
    assert len(set(window.neurons)) == NEURONS
    assert (np.diff(window.neurons) > 0).all()
    assert window.cut(layer).mean() == (NEURONS - 1) / NEURONS
    assert window.cut(layer).shape == (NEURONS, window.stop - window.start)
    small = np.zeros((2, 5))
    small[:, 3] = 1  # of few neurons all are shown, as the classes of an output are
    assert choose_window(small, 0, None).neurons.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_without_what_a_page_needs_one_sentence_says_what_to_install(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    result = verify(to_onnx(NETWORK), spikes(NETWORK, 2, 1), against=["numpy"])
    with pytest.raises(ConversionError, match=rf"{missing}.*sj2lava\[report\]"):
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
