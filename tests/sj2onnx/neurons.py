"""Every neuron class of ``spikingjelly.activation_based.neuron``, exported and compared over 64 steps; and a page that says so.

``python -m tests.sj2onnx.neurons`` writes ``docs/neurons.md``.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from spikingjelly.activation_based import base, functional, layer, neuron
from torch import nn

import custom_ops
import sj2onnx

__all__ = ["NEURONS", "PAGE", "Found", "examined", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "neurons.md"
STEPS, SAMPLES, FEATURES = 64, 8, (4, 3, 3)
_LINEAR = (12,)
_TABLE = neuron.FewSpikeTable([0.8, 0.4, 0.2, 0.1], [0.8, 0.4, 0.2, 0.1], [0.8, 0.4, 0.2, 0.1])
_HALF = neuron.FewSpikeTable([1.6, 0.8, 0.4, 0.2], [1.6, 0.8, 0.4, 0.2], [1.6, 0.8, 0.4, 0.2])


def _flex_core(x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    h = v + x
    spike = (h >= 1.0).to(h)
    return spike, h - spike


def _with_bias(module: nn.Module) -> nn.Module:
    """The usual bias of -1 would keep a neuron with random weights silent."""
    nn.init.constant_(module.bias, 0.0)
    return module


@dataclass(frozen=True)
class _Entry:
    make: Callable[[], nn.Module]
    features: tuple[int, ...] = FEATURES
    steps: int = STEPS


NEURONS: dict[str, _Entry] = {
    "IFNode": _Entry(lambda: neuron.IFNode(v_threshold=0.9, v_reset=None)),
    "LIFNode": _Entry(lambda: neuron.LIFNode(tau=3.0, v_reset=-0.2)),
    "ParametricLIFNode": _Entry(lambda: neuron.ParametricLIFNode(init_tau=2.5, decay_input=False)),
    "SimpleIFNode": _Entry(lambda: neuron.SimpleIFNode(v_reset=None)),
    "SimpleLIFNode": _Entry(lambda: neuron.SimpleLIFNode(2.0, False)),
    "HalfThresholdIFNode": _Entry(lambda: neuron.HalfThresholdIFNode(0.8)),
    "ActivationAwareIFNode": _Entry(
        lambda: neuron.ActivationAwareIFNode(torch.rand(4) + 0.5, 0.1 * torch.rand(4), channel_dim=1)
    ),
    "ILIFNode": _Entry(lambda: neuron.ILIFNode()),
    "KLIFNode": _Entry(lambda: neuron.KLIFNode(scale_reset=True, tau=1.5)),
    "ComplementaryLIFNode": _Entry(lambda: neuron.ComplementaryLIFNode()),
    "CUBALIFNode": _Entry(lambda: neuron.CUBALIFNode()),
    "LIAFNode": _Entry(lambda: neuron.LIAFNode(torch.relu, True, decay_input=False)),
    "MPBNLIFNode": _Entry(lambda: neuron.MPBNLIFNode(out_channels=4)),
    "IzhikevichNode": _Entry(lambda: neuron.IzhikevichNode(tau=1.5, a=0.1, b=0.1)),
    "QIFNode": _Entry(lambda: neuron.QIFNode(tau=1.5)),
    "EIFNode": _Entry(lambda: neuron.EIFNode(tau=1.5)),
    "RAFNode": _Entry(lambda: neuron.RAFNode()),
    "TernaryIFNode": _Entry(lambda: neuron.TernaryIFNode()),
    "TernaryLIFNode": _Entry(lambda: neuron.TernaryLIFNode()),
    "STBIFNode": _Entry(lambda: neuron.STBIFNode(0.5, 4)),
    "OTTTLIFNode": _Entry(lambda: neuron.OTTTLIFNode()),
    "SLTTLIFNode": _Entry(lambda: neuron.SLTTLIFNode(decay_input=False)),
    "GatedLIFNode": _Entry(lambda: neuron.GatedLIFNode(16, 4), steps=16),
    "PSN": _Entry(lambda: _with_bias(neuron.PSN(STEPS))),
    "MaskedPSN": _Entry(lambda: _with_bias(neuron.MaskedPSN(4, STEPS, lambda_init=1.0))),
    "SlidingPSN": _Entry(lambda: neuron.SlidingPSN(4), steps=16),
    "DSRIFNode": _Entry(lambda: neuron.DSRIFNode(T=16, v_threshold=1.0), steps=16),
    "DSRLIFNode": _Entry(lambda: neuron.DSRLIFNode(T=16, v_threshold=0.2), steps=16),
    "NonSpikingIFNode": _Entry(lambda: neuron.NonSpikingIFNode("last_mem"), steps=16),
    "NonSpikingLIFNode": _Entry(lambda: neuron.NonSpikingLIFNode(2.0, "max-mem"), steps=16),
    "ILCIFNode": _Entry(lambda: neuron.ILCIFNode(3, 4), _LINEAR, 16),
    "ILCLIFNode": _Entry(lambda: neuron.ILCLIFNode(3, 4), _LINEAR, 16),
    "ILCCUBALIFNode": _Entry(lambda: neuron.ILCCUBALIFNode(3, 4), _LINEAR, 16),
    "NoisyCUBALIFNode": _Entry(lambda: neuron.NoisyCUBALIFNode(12, is_training=False), _LINEAR, 16),
    "NoisyILCCUBALIFNode": _Entry(lambda: neuron.NoisyILCCUBALIFNode(3, 4, is_training=False), _LINEAR, 16),
    "NoisyNonSpikingIFNode": _Entry(lambda: neuron.NoisyNonSpikingIFNode(12, is_training=False), _LINEAR, 16),
    "FewSpikeNode": _Entry(lambda: neuron.FewSpikeNode(_TABLE), steps=4),
    "OutlierAwareThresholdNode": _Entry(lambda: neuron.OutlierAwareThresholdNode(_TABLE, _HALF, 1.0), steps=4),
    "HGNode": _Entry(lambda: neuron.HGNode([_TABLE, _HALF], [0.0]), steps=4),
    "FlexSN": _Entry(lambda: neuron.FlexSN(_flex_core, 1)),
    # Not neurons, but stateful, and traced in the same way.
    "SynapseFilter": _Entry(lambda: layer.SynapseFilter(tau=5.0, learnable=True)),
    "NeuNorm": _Entry(lambda: layer.NeuNorm(*FEATURES)),
    "ElementWiseRecurrentContainer": _Entry(
        lambda: layer.ElementWiseRecurrentContainer(neuron.LIFNode(decay_input=False), lambda y, x: x - 0.5 * y)
    ),
    "LinearRecurrentContainer": _Entry(lambda: layer.LinearRecurrentContainer(neuron.IFNode(), 12, 12), _LINEAR),
}
"""How each class is made for the comparison; features of one sample; time steps."""

ABSTRACT = {
    "AdaptBaseNode",
    "BaseNode",
    "ILCBaseNode",
    "MPBNBaseNode",
    "NoisyBaseNode",
    "NoisyILCBaseNode",
    "NoisyNonSpikingBaseNode",
    "NonSpikingBaseNode",
    "SimpleBaseNode",
}
"""Classes that are there to be derived from."""


@dataclass(frozen=True)
class Found:
    """What exporting one class gave.

    Args:
        becomes: the operator or function; empty where the class was refused.
        states: the states that a file exported with ``stateful`` carries.
        values: how many results were compared.
        differ: how many of them are not equal (spikes), or not within 1e-5 (real numbers).
        spikes: whether the results are spikes: whole numbers, some of them other than 0.
        refusal: why the class is not exported.
    """

    becomes: str = ""
    states: tuple[str, ...] = ()
    values: int = 0
    differ: int = 0
    spikes: bool = True
    refusal: str = ""


def public_classes() -> set[str]:
    """The names of all neurons that SpikingJelly offers."""
    return {
        name
        for name, value in vars(neuron).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    }


@cache
def examined(name: str) -> Found:
    """Export ``NEURONS[name]`` and compare it with SpikingJelly, from random states where there are states."""
    entry = NEURONS[name]
    torch.manual_seed(0)
    np.random.seed(0)
    module = entry.make()
    net = nn.Sequential(nn.Identity(), module)
    if hasattr(module, "step_mode"):
        module.step_mode = "m"
    net.eval()
    x = torch.randn(entry.steps, SAMPLES, *entry.features) * 0.8 + 0.3
    stream = None
    try:
        model = _stateful(net, x)
        if model is None:
            model = sj2onnx.export(net, x)
        else:
            stream = custom_ops.Stream(model, native=False)
    except sj2onnx.ExportError as error:
        return Found(refusal=str(error))
    operators = [node.op_type for node in model.graph.node if node.domain == custom_ops.DOMAIN]
    if stream is None:
        functional.reset_net(net)
        with torch.no_grad():
            y = net(x.clone())
        expected = (torch.stack(y) if isinstance(y, list) else y).numpy()
        actual = _run(model, x)
        states: tuple[str, ...] = ()
    else:
        stream(x[:1].numpy())
        generator = np.random.default_rng(1)
        random = {key: generator.normal(0, 0.4, value.shape).astype(value.dtype) for key, value in stream.states.items()}
        stream.states = random
        actual = stream(x.numpy())
        expected = _stepped(module, x, {key.removeprefix("1."): value for key, value in random.items()})
        states = tuple(key.removeprefix("1.") for key in random)
    spikes = bool((expected == np.rint(expected)).all() and expected.any())
    differ = actual != expected if spikes else ~np.isclose(actual, expected, rtol=1e-5, atol=1e-5)
    return Found(operators[0] if operators else "standard operators", states, expected.size, int(differ.sum()), spikes)


def _stateful(net: nn.Module, x: torch.Tensor) -> onnx.ModelProto | None:
    """Exported with its states; None where it has none, or sees whole sequences."""
    try:
        model = sj2onnx.export(net, x, stateful=True)
    except sj2onnx.ExportError as error:
        if "export without stateful" in str(error):
            return None
        raise
    return model if len(model.graph.input) > 1 else None


def _run(model: Any, x: torch.Tensor) -> np.ndarray[Any, Any]:
    ys = custom_ops.session(model, native=False).run(None, {"input": x.numpy()})
    return np.stack(ys) if len(ys) > 1 else np.asarray(ys[0])


def _stepped(module: nn.Module, x: torch.Tensor, states: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """What SpikingJelly gives step by step from given states."""
    functional.reset_net(module)
    functional.set_step_mode(module, "s")
    for path, part in module.named_modules():
        if isinstance(part, base.MemoryModule):
            for name in part._memories:
                key = f"{path}.{name}" if path else name
                if key in states:
                    part._memories[name] = torch.from_numpy(states[key].copy())
    with torch.no_grad():
        return np.stack([module(step).numpy() for step in x])


_HEAD = f"""\
# Neurons

Which of SpikingJelly 2.0.0's stateful classes `sj2onnx.export` writes, and as what. IF, LIF and CubaLIF are operators with native
kernels; every other class becomes a function that is named after it and traced from its own single-step function, so that the
file runs on any onnxruntime.

This page is made by `python -m tests.sj2onnx.neurons` and kept true by a test. Each class that has states runs for {STEPS} time
steps from random ones; the others see whole sequences, and the file fixes their number of time steps. Spikes are compared
with `==`, real numbers within 1e-5.

| class | becomes | states | compared | differ |
| --- | --- | --- | --: | --: |"""

_TAIL = """
`BlockContainer` becomes `snn.CubaLIF`, Loihi's integers. A `CubaLIFNode` alone, SpikingJelly's `lava_exchange.CubaLIFNode` or
`sj2onnx.CubaLIFNode`, reads real numbers and becomes the function `snn.CubaLIFNode`, with the same spikes. A class of your own is
traced as well, if it implements SpikingJelly's `single_step_functional_forward`.
"""


def page() -> str:
    """``docs/neurons.md``."""
    lines = _HEAD.splitlines()
    refused = []
    for name in NEURONS:
        found = examined(name)
        if found.refusal:
            refused.append(f"- `{name}`: {found.refusal}")
            continue
        kind = "spikes" if found.spikes else "numbers"
        states = ", ".join(f"`{state}`" for state in found.states)
        becomes = found.becomes if found.becomes == "standard operators" else f"`snn.{found.becomes}`"
        lines.append(f"| `{name}` | {becomes} | {states} | {found.values:,} {kind} | {found.differ:,} |")
    lines += ["", "Not exported:", "", *refused, "- the noisy neurons with `is_training=True`, which draw random numbers.", ""]
    return "\n".join(lines) + _TAIL


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
