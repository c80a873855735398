"""Containers that run single-step modules step by step, as multi-step modules that see all time steps at once.

A loop over time has no place in a graph whose number of steps is open. What the loop does module by module, each module can do
for all steps: neurons and blocks have a step mode for that, and modules without state fold time into the batch.
"""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import base, functional, layer
from torch import nn

from .integer_block import IntegerBlock

__all__ = ["has_containers", "unroll_containers"]


def unroll_containers(net: nn.Module) -> None:
    """Let every MultiStepContainer, stateful StepModeContainer and TLastMultiStepContainer of ``net`` work on all steps at once.

    Modules keep their paths; only their forward passes change, in place. A container that holds a module of the user's own with
    states inside stays the loop that it is.
    """
    for module in list(net.modules()):
        if not all(_has_multi_step_form(child) for child in module.children()):
            continue
        if isinstance(module, layer.TLastMultiStepContainer):
            module.forward = _time_last(module)
        elif isinstance(module, layer.MultiStepContainer) or (
            isinstance(module, layer.StepModeContainer) and module.stateful and module.step_mode == "m"
        ):
            module.forward = _in_a_row(module)
        else:
            continue
        for child in module.children():
            _make_multi_step(child)


def has_containers(net: nn.Module) -> bool:
    """Whether ``net`` has any of them."""
    kinds = layer.MultiStepContainer | layer.StepModeContainer | layer.TLastMultiStepContainer
    return any(isinstance(module, kinds) for module in net.modules())


def _has_multi_step_form(module: nn.Module) -> bool:
    if not any(isinstance(part, base.MemoryModule | IntegerBlock) for part in module.modules()):
        return True
    if type(module) is nn.Sequential:
        return all(_has_multi_step_form(child) for child in module)
    return isinstance(module, base.MemoryModule | IntegerBlock)


def _in_a_row(container: nn.Sequential) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nn.Sequential.forward(container, x)  # type: ignore[no-untyped-call]


def _time_last(container: nn.Sequential) -> Callable[[torch.Tensor], torch.Tensor]:
    in_a_row = _in_a_row(container)
    return lambda x: in_a_row(x.movedim(-1, 0)).movedim(0, -1)


def _make_multi_step(module: nn.Module) -> None:
    """Let a single-step module take ``[T, N, *]``."""
    if isinstance(module, base.MemoryModule | IntegerBlock):
        module.step_mode = "m"
    elif any(isinstance(part, base.MemoryModule | IntegerBlock) for part in module.modules()):
        for child in module.children():
            _make_multi_step(child)
    else:
        # What it does to one step it does to all of them as one batch.
        module.forward = _folded(module.forward)


def _folded(forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: functional.seq_to_ann_forward(x, (forward,))
