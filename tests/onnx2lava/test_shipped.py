"""The trained network that comes with the project, against the spikes that SpikingJelly recorded."""

from pathlib import Path

import pytest

from custom_ops.files.trace import read_trace
from onnx2lava import verify

MODELS = Path(__file__).parents[2] / "models"


# The file as it stands, on its own function bodies, runs every time and needs no naming.
@pytest.mark.parametrize("runtime", ["ort", "ort-native", "numpy"])
def test_the_shipped_network_spikes_as_recorded(runtime: str) -> None:
    trace = read_trace(MODELS / "digits_csnn.npz")
    result = verify(MODELS / "digits_csnn.onnx", trace.input, trace=trace, labels=trace.labels, against=[runtime])
    assert result.mismatches == 0
    assert all(0 < layer.rate < 1 for layer in result.layers)
    assert {"file", runtime} <= set(result.accuracy)
    assert len(set(result.accuracy.values())) == 1
    assert result.accuracy[runtime] > 0.9
