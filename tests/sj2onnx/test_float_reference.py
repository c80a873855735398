"""`reference.if_` and `reference.lif` against SpikingJelly itself, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate

from custom_ops import reference

torch.set_num_threads(1)
# A surrogate that SpikingJelly runs in its own operators, and one that goes through its Torch reference: two different paths.
SURROGATES = {"registered": surrogate.ATan(), "torch": surrogate.S2NN()}


def run_spikingjelly(node: neuron.BaseNode, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    node.step_mode = "m"
    node.eval()
    with torch.no_grad():
        spikes = node(torch.from_numpy(x))
        return spikes.numpy(), torch.as_tensor(node.v).expand(x.shape[1:]).numpy()


@st.composite
def inputs(draw: st.DrawFn) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = (rng.normal(0.3, 1, (draw(st.integers(1, 9)), 2, 37)) * draw(st.sampled_from([1, 4, 1e-3, 1e37]))).astype(np.float32)
    if draw(st.booleans()):
        x[rng.random(x.shape) < 0.02] = draw(st.sampled_from([np.inf, -np.inf, np.nan, 1e-42]))
    return x


thresholds = st.sampled_from([1.0, 0.1, 0.7310586, -0.5])
resets = st.sampled_from([None, 0.0, -0.3, 0.1])
taus = st.sampled_from([1.1, 2.0, 3.0, 7.3, 100.0])


@pytest.mark.parametrize("path", SURROGATES)
@given(inputs(), thresholds, resets)
@settings(deadline=None, max_examples=60)
def test_if(path: str, x: np.ndarray, v_threshold: float, v_reset: float | None) -> None:
    node = neuron.IFNode(v_threshold, v_reset, SURROGATES[path])
    check(run_spikingjelly(node, x), reference.if_(x, v_threshold, v_reset))


@pytest.mark.parametrize("path", SURROGATES)
@given(inputs(), thresholds, resets, taus, st.booleans())
@settings(deadline=None, max_examples=120)
def test_lif(path: str, x: np.ndarray, v_threshold: float, v_reset: float | None, tau: float, decay_input: bool) -> None:
    node = neuron.LIFNode(tau, decay_input, v_threshold, v_reset, SURROGATES[path])
    check(run_spikingjelly(node, x), reference.lif(x, v_threshold, v_reset, tau=tau, decay_input=decay_input))


@pytest.mark.parametrize("path", SURROGATES)
@given(inputs(), thresholds, resets, taus, st.booleans())
@settings(deadline=None, max_examples=120)
def test_parametric_lif(
    path: str, x: np.ndarray, v_threshold: float, v_reset: float | None, tau: float, decay_input: bool
) -> None:
    node = neuron.ParametricLIFNode(tau, decay_input, v_threshold, v_reset, SURROGATES[path])
    decay = float(node.w.detach().sigmoid())
    check(run_spikingjelly(node, x), reference.lif(x, v_threshold, v_reset, decay=decay, decay_input=decay_input))


def check(spikingjelly: tuple[Any, Any], ours: reference.FloatResult) -> None:
    np.testing.assert_array_equal(ours.s, spikingjelly[0])
    np.testing.assert_array_equal(ours.v, spikingjelly[1])
