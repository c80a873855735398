"""Layers that see all time steps at once, and so need no state in the graph."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.neuron.inter_layer_connection import ILCBaseNode
from spikingjelly.activation_based.neuron.noisy import NoisyBaseNode, NoisyNonSpikingBaseNode
from torch import nn

from .errors import ExportError
from .fixed_steps import THROUGH_TIME

__all__ = ["see_all_steps"]

_Forward: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


def see_all_steps(net: nn.Module, stateful: bool) -> None:
    """Give these layers a forward pass over whole sequences; changed in place.

    BatchNormThroughTime, Delay, MaskedPSN and SlidingPSN look at steps rather than at a state; the other neurons among them
    have a multi-step function only, which a trace unrolls.

    Args:
        net: the network.
        stateful: whether it is exported with its states, of which these layers then have one after all.

    Raises:
        ExportError: ``stateful``, and there is such a layer.
    """
    for path, module in net.named_modules():
        make = next((make for kinds, make in _WHOLE if isinstance(module, kinds)), None)
        if make is None or getattr(module, "step_mode", "m") != "m":
            continue
        if getattr(module, "is_training", False):
            raise ExportError(
                f"The module {path!r} ({type(module).__name__}) draws random numbers: set its is_training to False."
            )
        if stateful:
            raise ExportError(
                f"The module {path!r} ({type(module).__name__}) sees all time steps at once and has no state that could be "
                "carried from chunk to chunk: export without stateful."
            )
        module.forward = make(module)


def _delayed(module: Any) -> _Forward:
    """The first steps give nothing, the last ones are not waited for."""
    return lambda x: torch.cat((x.new_zeros(module.delay_steps, *x.shape[1:]), x))[: x.shape[0]]


def _each_step(module: Any) -> _Forward:
    return lambda x: torch.stack([norm(x[t]) for t, norm in enumerate(module.bn_list)])


def _on_a_copy(module: Any) -> _Forward:
    """Such neurons keep their potential as an attribute, and some add to their input: neither must be left over from a trace."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        with _traceable_data():
            return type(module).forward(copy.copy(module), x.clone())  # type: ignore[no-any-return]

    return forward


@contextlib.contextmanager
def _traceable_data() -> Iterator[None]:
    """Let ``tensor.data``, which such neurons ask for a shape and a trace cannot follow, be ``tensor.detach()``."""
    torch.Tensor.data = property(torch.Tensor.detach)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del torch.Tensor.data  # the C++ attribute of the base class shows again


def _masked(module: Any) -> _Forward:
    """The mask depends on a number that does not change any more."""
    weight = module.masked_weight().detach()
    module.masked_weight = lambda: weight
    return _multi_step(module)


def _multi_step(module: Any) -> _Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        states = module.materialize_states((x,), tuple(module._memories.values()), "m")
        (y,), _ = module.multi_step_functional_forward((x,), states)
        return y  # type: ignore[no-any-return]

    return forward


_WHOLE: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any], _Forward]], ...] = (
    (THROUGH_TIME, _each_step),
    ((layer.Delay,), _delayed),
    ((neuron.MaskedPSN,), _masked),
    ((ILCBaseNode, NoisyBaseNode, NoisyNonSpikingBaseNode), _on_a_copy),
    ((neuron.SlidingPSN, neuron.GatedLIFNode, neuron.DSRIFNode, neuron.DSRLIFNode), _multi_step),
)
