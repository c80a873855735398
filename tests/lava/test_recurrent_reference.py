"""`reference.recurrent_cuba_lif` against NetX's recurrent layer on Lava's simulation, spike by spike."""

from pathlib import Path

import numpy as np
import pytest

from custom_ops import reference
from onnx2lava import CubaNeuron, Dense, Edge, Input, Network, Population, run_netx, save_netx


@pytest.mark.parametrize("i_decay", [4096, 1000])
def test_every_spike_equals_lavas(i_decay: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = (rng.random((60, 2, 20)) < 0.3).astype(np.float32)
    weight, back = (2 * rng.integers(-60, 75, (30, inputs)).astype(np.int32) for inputs in (20, 30))
    bias = rng.integers(-40, 40, 30).astype(np.int32)
    neuron = CubaNeuron(i_decay, 200, 400)
    edges = (Edge("input", Dense(weight)), Edge("a", Dense(back), 1))
    network = Network("n", {"input": Input((20,))}, (Population("a", (30,), neuron, edges, bias),), ("a",))
    save_netx(network, tmp_path / "a.net")
    found = run_netx(tmp_path / "a.net", x)
    attributes = {"i_decay": i_decay, "v_decay": 200, "v_threshold": 400, "bias": bias}
    ours = reference.recurrent_cuba_lif(x @ weight.T.astype(np.float32), back.T, **attributes)
    assert 0.02 < ours.s.mean() < 0.98
    np.testing.assert_array_equal(found, ours.s)
    unheard = reference.recurrent_cuba_lif(x @ weight.T.astype(np.float32), 0 * back.T, **attributes)
    assert (unheard.s != ours.s).any()
