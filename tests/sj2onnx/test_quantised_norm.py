"""SpikingJelly's quantised BatchNorm2d inside a CubaLIFNode: in weights, bias and threshold of Loihi, or refused."""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, lava_exchange, layer, neuron, surrogate
from torch import nn

import custom_ops
import sj2onnx
from custom_ops.files.trace import write_trace
from custom_ops.reference import cuba_lif
from sj2onnx import BlockContainer, BlockError, CubaLIFNode, SumPool2d
from sj2onnx.record import record

ROOT = Path(__file__).parents[2]
C = 3


def norm(exponent: int, mean: Any = 0.0, bits: int = 3) -> lava_exchange.BatchNorm2d:
    """A trained norm that subtracts ``mean`` and divides by ``2 ** exponent``."""
    made = lava_exchange.BatchNorm2d(C, weight_exp_bits=bits)
    made.running_mean = torch.as_tensor(mean, dtype=torch.float32).expand(C).clone()
    made.running_var = torch.tensor([0.9 * 4.0**exponent])
    return made


def published(exponent: int, mean: Any, v_decay: float, threshold: float, scale: int = 64, bits: int = 3) -> nn.Module:
    return lava_exchange.CubaLIFNode(
        1.0, v_decay, threshold, scale=scale, norm=norm(exponent, mean, bits), surrogate_function=surrogate.ATan(), step_mode="m"
    )


def by_spikingjelly(conv: nn.Module, node: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What SpikingJelly's own neuron makes of the sums of ``conv``, whose weights are on the grid already."""
    node.reset()
    with torch.no_grad():
        spikes = node(functional.seq_to_ann_forward(x, conv))
    node.reset()
    return spikes


def by_integers(block: BlockContainer, x: torch.Tensor) -> np.ndarray[Any, Any]:
    found = block.integers()
    sums = F.conv2d(x.flatten(0, 1), found.weight.float(), padding=1).unflatten(0, x.shape[:2])
    return cuba_lif(sums.numpy(), bias=None if found.bias is None else found.bias.numpy(), **found.neuron).s


def conv_of(weight: np.ndarray[Any, Any]) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    conv.weight.data = torch.from_numpy(weight).float()
    return conv


@settings(max_examples=150, deadline=None)
@given(
    exponent=st.integers(-3, 3),
    v_decay=st.one_of(st.sampled_from([0, 4096]), st.integers(0, 4096)),
    mantissa=st.integers(0, 300),
    grain=st.sampled_from([1, 8]),
    span=st.sampled_from([3, 15, 127]),
    bits=st.integers(3, 8),
    seed=st.integers(0, 2**32 - 1),
)
@example(exponent=3, v_decay=1000, mantissa=90, grain=8, span=15, bits=6, seed=0)
@example(exponent=-3, v_decay=1000, mantissa=90, grain=1, span=15, bits=6, seed=0)
@example(exponent=3, v_decay=0, mantissa=90, grain=1, span=127, bits=6, seed=0)
@example(exponent=-2, v_decay=4096, mantissa=91, grain=1, span=127, bits=6, seed=0)
def test_what_converts_spikes_as_spikingjelly(
    exponent: int, v_decay: int, mantissa: int, grain: int, span: int, bits: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scale = 2**bits
    conv = conv_of(2 * grain * rng.integers(-(span // grain), span // grain + 1, (C, 2, 3, 3)) / scale)
    mean = 2 * grain * rng.integers(-12 // grain, 12 // grain + 1, C) / scale
    node = published(exponent, mean + rng.uniform(-0.9, 0.9, C) / scale, v_decay / 4096, mantissa / scale, scale)
    x = torch.from_numpy(rng.random((12, 2, 2, 5, 5)) < 0.4).float()
    expected = by_spikingjelly(conv, node.eval(), x)
    block = BlockContainer(conv, node).eval()
    with torch.no_grad():
        assert torch.equal(block(x), expected)
    try:
        found = by_integers(block, x)
    except BlockError:
        # Only a leak needs the factor in the weights; there they may turn out odd, or too large.
        assert v_decay not in (0, 4096)
        assert exponent > 0 or span * 2**-exponent > 127
        return
    np.testing.assert_array_equal(found, expected.numpy())


# exponent, mean, voltage decay, threshold, factor of the weights; then what the weights are multiplied by, and the mantissa.
WHERE_IT_GOES = {
    "no leak, divided": ((3, 0.25, 0.0, 1.5, 1), 1, 768),
    "no leak, multiplied": ((-3, 0.25, 0.0, 101 / 64, 1), 1, 12),
    "nothing kept, divided": ((2, 0.25, 1.0, 1.5, 1), 1, 384),
    "no leak, threshold between weight units": ((-1, 0.25, 0.0, 1.51, 1), 1, 48),
    "no leak, threshold too high": ((2, 0.25, 0.0, 1000.0, 2), 0.5, 128000),
    "leak, multiplied": ((-3, 0.25, 0.1, 1.5, 1), 8, 96),
    "leak, divided": ((3, 0.25, 0.1, 1.5, 8), 0.125, 96),
    "leak, neither": ((0, 0.25, 0.1, 1.5, 1), 1, 96),
    "no leak, as far as state units go": ((7, 0.25, 0.0, 2 / 64, 1), 1, 256),
}


@pytest.mark.parametrize("case", WHERE_IT_GOES)
def test_where_it_goes(case: str) -> None:
    (exponent, mean, v_decay, threshold, factor), weights, mantissa = WHERE_IT_GOES[case]
    rng = np.random.default_rng(0)
    conv = conv_of(2 * factor * rng.integers(-(12 // factor) - 1, 13 // factor + 2, (C, 2, 3, 3)) / 64)
    node = published(exponent, mean, v_decay, threshold, bits=8)
    x = torch.from_numpy(rng.random((20, 2, 2, 5, 5)) < 0.5).float()
    expected = by_spikingjelly(conv, node.eval(), x)
    block = BlockContainer(conv, node).eval()
    found = block.integers()
    np.testing.assert_array_equal(found.weight, block.integer_weight() * weights)
    assert found.neuron["v_threshold"] == mantissa
    assert (0 if found.bias is None else set(found.bias.flatten().tolist())) == ({-64 * mean * weights} if mean else 0)
    np.testing.assert_array_equal(by_integers(block, x), expected.numpy())


def test_registers_are_those_of_the_chip() -> None:
    """Beyond 24 bits SpikingJelly counts on; the block wraps and clips as what it is exported as."""
    rng = np.random.default_rng(0)
    conv = conv_of(2 * rng.integers(-127, 128, (C, 2, 3, 3)) / 64)
    x = torch.from_numpy(rng.integers(0, 200, (12, 2, 2, 5, 5))).float()
    # Sums that wrap, of which the same without the mean would not.
    conv.weight.data[0] = conv.weight.data[:, 0] = 0
    conv.weight.data[0, 0, 1, 1] = 2 / 64
    x[0, 0, 0] = 2**16 + torch.arange(25.0).view(5, 5)
    for exponent, v_decay in ((3, 0.0), (-3, 0.0), (0, 0.1)):
        node = published(exponent, [0.25, -3.9, 3.9], v_decay, 200.0)
        expected = by_spikingjelly(conv, node.eval(), x).numpy()
        block = BlockContainer(conv, node).eval()
        with torch.no_grad():
            found = block(x).numpy()
        assert (found != expected).any()
        np.testing.assert_array_equal(found, by_integers(block, x))


def test_training_is_that_of_spikingjelly() -> None:
    """Batch statistics, running ones, spikes and gradients."""
    found = []
    for make in (lava_exchange.CubaLIFNode, CubaLIFNode):
        torch.manual_seed(0)
        node = make(1.0, 0.125, 0.5, norm=norm(0), surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")
        x = torch.randn(8, 3, C, 4, 4, requires_grad=True)
        loss = ((spikes := node(x)) * torch.randn(x.shape)).sum()
        loss.backward()
        found.append((spikes.detach(), node.norm.running_mean, node.norm.running_var, x.grad))
    (spikes, mean, var, grad), (our_spikes, our_mean, our_var, our_grad) = found
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(our_spikes, spikes)
    assert torch.equal(our_mean, mean)
    assert torch.equal(our_var, var)
    # Of about 0.1; the surrogates look at thresholds that are half a state unit apart.
    torch.testing.assert_close(our_grad, grad, rtol=0, atol=1e-3)


def network() -> nn.Sequential:
    """Norms that go into thresholds and into weights, behind convolutions and sum pooling, among layers without one."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def grid(*shape: int, span: int, grain: int = 1) -> np.ndarray[Any, Any]:
        return 2 * grain * rng.integers(-span, span + 1, shape) / 64

    net = nn.Sequential(
        BlockContainer(conv_of(grid(C, 1, 3, 3, span=20)), published(2, [0.2, -0.4, 0.1], 0.0, 0.25)),
        BlockContainer(conv_of(grid(C, C, 3, 3, span=10)), published(-1, [0.3, -0.1, 0.2], 0.1, 1.5)),
        BlockContainer(conv_of(grid(C, C, 3, 3, span=5, grain=4)), published(2, [0.5, -0.375, 0.25], 0.2, 0.125)),
        BlockContainer(SumPool2d(2), published(1, [0.5, 0.25, 0.0], 0.05, 0.75)),
        BlockContainer(layer.Flatten(), None),
        BlockContainer(nn.Linear(C * 16, 6, bias=False), neuron.IFNode(v_threshold=0.25)),
        BlockContainer(nn.Linear(6, 5, bias=False), CubaLIFNode(0.5, 0.25, 0.1)),
    )
    for block in (net[5], net[6]):
        nn.init.normal_(block.synapse.weight, 0.1, 0.3)
    return net.eval()


def test_every_spike_of_a_network_arrives_everywhere(tmp_path: Path, lava_python: Path) -> None:
    net = network()
    x = (torch.rand(12, 3, 1, 8, 8) < 0.4).float()
    trace = record(net, x, labels=torch.tensor([0, 1, 2]))
    for name, spikes in trace.spikes.items():
        assert 0.02 < spikes.mean() < 0.98, name
    write_trace(trace, tmp_path / "trace.npz")
    model = sj2onnx.export(net, x, tmp_path / "net.onnx")
    for native in (False, "auto"):
        (spikes,) = custom_ops.session(model, native=native).run(None, {"input": x.numpy()})
        assert (spikes == trace.spikes["6"]).all()
        stream = custom_ops.Stream(sj2onnx.export(net, x, stateful=True), native=native)
        assert (np.concatenate([stream(x[:5].numpy()), stream(x[5:].numpy())]) == trace.spikes["6"]).all()
    command = ["verify", tmp_path / "net.onnx", "--trace", tmp_path / "trace.npz", "--against", "ort,numpy,slayer,netx"]
    result = subprocess.run([lava_python, "-m", "onnx2lava", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Every spike is the same" in result.stdout


def test_the_blocks_of_that_network_spike_as_spikingjellys_own_neurons() -> None:
    x = (torch.rand(12, 3, 1, 8, 8) < 0.4).float()
    for block in network()[:4]:
        ours = block.neuron
        own = lava_exchange.CubaLIFNode(
            1.0, ours.voltage_decay.item() / 4096, ours.v_threshold, norm=ours.norm, step_mode="m"
        ).eval()
        expected = by_spikingjelly(block.synapse, own, x)
        if isinstance(block.synapse, SumPool2d):
            assert torch.equal(block.integer_weight(), torch.full_like(block.integer_weight(), 64))
        own.norm.pre_hook_fx = ours.quantize_8bit
        with torch.no_grad():
            x = block(x)
        assert torch.equal(x, expected)


MISUSE = {
    "leak, multiplied": ((-3, 0.1, 0.1, 1.0), {}, "multiplies the synaptic current by 8, after which the weights"),
    "leak, divided": ((1, 0.125, 0.1, 1.0), {}, "divides the synaptic current by 2, after which the weights"),
    "beyond state units": ((8, 0.25, 0.0, 1.0), {}, "divides the synaptic current by 256, after which the weights"),
    "leak, mean divided": ((2, 10 / 64, 0.1, 1.0), {"factor": 0}, "divides the synaptic current by 4, after which the biases"),
    "threshold": ((0, 0.1, 0.1, 1.01), {}, "64.64 weight units, which Lava-DL truncates"),
    "threshold, divided": ((1, 0.1, 0.0, 1.01), {}, "64.64 weight units, which Lava-DL truncates"),
    "mean": ((0, 3.99, 0.0, 1.0), {}, "reaches 255.36 weight units"),
    "mean NaN": ((0, float("nan"), 0.0, 1.0), {}, "not finite"),
    "kept current": ((0, 0.1, 0.0, 1.0), {"current_decay": 2048.0}, "current_decay is 2048 / 4096"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_what_integers_cannot_say_is_refused(case: str) -> None:
    arguments, changes, message = MISUSE[case]
    conv = conv_of(2 * changes.get("factor", 1) * np.arange(C * 18).reshape(C, 2, 3, 3) / 64)
    block = BlockContainer(conv, published(*arguments, bits=8))
    if "current_decay" in changes:  # as training may leave it
        block.neuron.current_decay.fill_(changes["current_decay"])
    with pytest.raises(sj2onnx.ExportError) as raised:
        sj2onnx.export(nn.Sequential(nn.Sequential(block)), torch.zeros(4, 2, 2, 5, 5))
    text = str(raised.value)
    assert re.match(r"The module '0\.0(' \(BlockContainer|\.neuron' \(CubaLIFNode)\) cannot be exported: ", text)
    assert message in text
    assert text.endswith(".")
