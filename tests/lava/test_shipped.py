"""The trained network that comes with the project, in Lava-DL and in NetX on Lava's simulation."""

from pathlib import Path

import pytest

from custom_ops.files.trace import read_trace
from onnx2lava import verify

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("runtime", ["slayer", "netx"])
def test_the_shipped_network_spikes_as_recorded(runtime: str) -> None:
    trace = read_trace(MODELS / "digits_csnn.npz")
    result = verify(MODELS / "digits_csnn.onnx", trace.input, trace=trace, labels=trace.labels, against=[runtime])
    assert result.mismatches == 0
    assert result.accuracy[runtime] == result.accuracy["trace"] > 0.9
