"""Layers that need no state once they see all time steps at once: they count steps, or hand each step on later."""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import layer
from torch import nn

from .errors import ExportError
from .fixed_steps import THROUGH_TIME

__all__ = ["see_all_steps"]


def see_all_steps(net: nn.Module, stateful: bool) -> None:
    """Give BatchNormThroughTime and Delay a forward pass over whole sequences; changed in place.

    Args:
        net: the network.
        stateful: whether it is exported with its states, of which these layers then have one after all.

    Raises:
        ExportError: ``stateful``, and there is such a layer.
    """
    for path, module in net.named_modules():
        if not isinstance(module, (*THROUGH_TIME, layer.Delay)) or module.step_mode != "m":
            continue
        if stateful:
            raise ExportError(
                f"The module {path!r} ({type(module).__name__}) remembers steps rather than a state per neuron, which cannot be "
                "carried from chunk to chunk: export without stateful."
            )
        module.forward = _delayed(module.delay_steps) if isinstance(module, layer.Delay) else _each_step(module.bn_list)


def _delayed(steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The first steps give nothing, the last ones are not waited for."""
    return lambda x: torch.cat((x.new_zeros(steps, *x.shape[1:]), x))[: x.shape[0]]


def _each_step(norms: nn.ModuleList) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.stack([norm(x[t]) for t, norm in enumerate(norms)])
