"""The report page: all in one file, true to the spikes, and safe to open."""

import re
import sys

import numpy as np
import pytest

from custom_ops.trace import Trace
from onnx2lava import to_onnx
from onnx2lava.errors import ConversionError
from onnx2lava.report_page import write_report
from onnx2lava.report_page.window import NEURONS, Disagreement, choose_window, first_disagreement
from onnx2lava.simulate import simulate
from onnx2lava.verify import verify
from tests.onnx2lava.networks import examples, like_trained, spikes

NETWORK = examples()["strided, dilated, grouped, odd, biased"]
PNG = b"\x89PNG\r\n\x1a\n"


def test_page_names_the_first_disagreement_and_holds_its_pictures(tmp_path):
    x = spikes(NETWORK, 6, 3)
    trace = Trace(x, {name: values.copy() for name, values in simulate(NETWORK, x).items()})
    layer = NETWORK.blocks[1].name
    trace.spikes[layer][4, 2].flat[3] = 1 - trace.spikes[layer][4, 2].flat[3]
    trace.spikes[layer][5, 0].flat[0] = 1 - trace.spikes[layer][5, 0].flat[0]
    result = verify(to_onnx(NETWORK), x, trace=trace, against=["numpy"])
    page = write_report(result, tmp_path / "report", title="<script>alert(1)</script>.onnx").read_text(encoding="utf-8")
    assert "4 spikes differ" in page  # two in NumPy and two in the file itself
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


def test_page_of_a_float_network_shows_what_rounding_cost(tmp_path):
    network = like_trained()
    result = verify(network, spikes(network, 8, 2), against=["numpy"], scale=64)
    page = write_report(result, tmp_path, title="trained").read_text(encoding="utf-8")
    assert "Every spike of every layer is the same" in page
    assert page.count("scale 64, ") == len(network.blocks)
    assert page.count("and before rounding") == len(network.blocks)
    assert page.count("<figcaption>float network</figcaption>") == len(network.blocks)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"b": (5, 0, 1)}, Disagreement("b", 5, 0, 1)),
        ({"b": (5, 0, 1), "c": (3, 1, 2)}, Disagreement("c", 3, 1, 2)),
        ({"b": (3, 1, 0), "c": (3, 0, 0)}, Disagreement("b", 3, 1, 0)),
    ],
)
def test_first_disagreement_is_the_earliest_in_time(change, expected):
    runs = {name: np.zeros((8, 2, 3)) for name in "abc"}
    for name, place in change.items():
        runs[name][place] = 1
    assert first_disagreement(runs, "a") == expected


def test_window_shows_the_disagreement_and_neurons_that_fire():
    layer = np.zeros((1000, 3, 500))
    layer[:, :, 250:] = 1
    window = choose_window(layer, Disagreement("b", 700, 2, 7))
    assert window.sample == 2
    assert window.start < 700 < window.stop
    assert 7 in window.neurons
    assert len(set(window.neurons)) == NEURONS
    assert (np.diff(window.neurons) > 0).all()
    assert window.cut(layer).mean() == (NEURONS - 1) / NEURONS
    assert window.cut(layer).shape == (NEURONS, window.stop - window.start)
    assert choose_window(np.zeros((2, 1, 5)), None).neurons.tolist() == [0, 1, 2, 3, 4]


def test_without_matplotlib_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    x = spikes(NETWORK, 2, 1)
    result = verify(to_onnx(NETWORK), x, against=["numpy"])
    with pytest.raises(ConversionError, match=r"sj2lava\[report\]"):
        write_report(result, tmp_path, title="a")
