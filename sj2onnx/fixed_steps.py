"""Layers that fix the number of time steps: with parameters for each step, or with a loop over steps of their own."""

from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.neuron.inter_layer_connection import ILCBaseNode
from spikingjelly.activation_based.neuron.noisy import NoisyBaseNode, NoisyNonSpikingBaseNode
from torch import nn

from .errors import ExportError
from .own_loops import OverTime

__all__ = ["THROUGH_TIME", "fixed_steps"]

THROUGH_TIME = (layer.BatchNormThroughTime1d, layer.BatchNormThroughTime2d, layer.BatchNormThroughTime3d)
"""Batch normalisation with statistics of its own for each step."""
_OWN_STEPS: dict[type[nn.Module], Callable[[Any], int | None]] = {
    **dict.fromkeys(THROUGH_TIME, lambda module: int(module.T)),
    layer.TemporalEffectiveBatchNorm1d: lambda module: module.scale.numel(),
    layer.TemporalEffectiveBatchNorm2d: lambda module: module.scale.numel(),
    layer.TemporalEffectiveBatchNorm3d: lambda module: module.scale.numel(),
    **dict.fromkeys((neuron.PSN, neuron.MaskedPSN, neuron.GatedLIFNode), lambda module: int(module.T)),
    **dict.fromkeys(
        (neuron.FewSpikeNode, neuron.OutlierAwareThresholdNode, neuron.HGNode),
        lambda module: int(module.K) if module.step_mode == "m" else None,
    ),
    layer.TemporalWiseAttention: lambda module: module.sharedMLP[0].in_features,
    layer.MultiDimensionalAttention: lambda module: None if module.ta is None else module.ta.sharedMLP[0].in_channels,
}
"""How many steps a layer of each of these classes has parameters for; None where it takes any number."""

_AS_GIVEN = (
    layer.TemporalBinSum,
    neuron.SlidingPSN,
    neuron.DSRIFNode,
    neuron.DSRLIFNode,
    ILCBaseNode,
    NoisyBaseNode,
    NoisyNonSpikingBaseNode,
)
"""Layers that regroup steps, or loop over them in Python, which a trace unrolls for the example's number of steps."""


def fixed_steps(net: nn.Module, given: int) -> int | None:
    """The number of time steps that the layers of ``net`` allow; None where it is free.

    Args:
        net: the network.
        given: the number of steps of the example, which layers that loop over steps themselves take as it is.

    Raises:
        ExportError: two layers are made for different numbers of steps, or the example has another one.
    """
    found: dict[str, int] = {}
    for path, module in net.named_modules():
        own = module.only_steps if isinstance(module, OverTime) else given if isinstance(module, _AS_GIVEN) else None
        if type(module) in _OWN_STEPS:
            own = _OWN_STEPS[type(module)](module)
        if own is not None:
            found[f"{path!r} ({type(module).__name__})"] = own
    for name, steps in found.items():
        if steps != given:
            raise ExportError(
                f"The module {name} is made for {steps} time steps, but the example has {given}: give one of {steps} steps."
            )
    return given if found else None
