"""The neurons that have an operator of their own: what the definitions in ``custom_ops/operators`` say of classes."""

import math
import sys
from collections.abc import Mapping

import torch
from torch import nn

from custom_ops.operators import OPERATORS, Operator, TrainedClass
from custom_ops.operators.float_neuron import number

__all__ = ["classes", "overrides_forward", "translation"]


def classes() -> Mapping[type, tuple[Operator, TrainedClass]]:
    """Every class that an operator stands for, of those whose modules are imported: of others there are no instances."""
    found = {}
    for operator in OPERATORS.values():
        for trained in operator.classes:
            module, _, name = trained.name.rpartition(".")
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                found[kind] = operator, trained
    return found


def translation(module: nn.Module) -> tuple[Operator, TrainedClass] | None:
    """The operator for ``module`` and what it says of its class; None where its dynamics are not exactly those of its class.

    A subclass that changes nothing of what its base does in a step counts as that base. A surrogate function with
    ``spiking=False`` gives no spikes, a number for each channel has no place in an attribute, and a soft reset by an infinite
    threshold is not a number.
    """
    table = classes()
    known = next((found for kind, found in table.items() if _behaves_as(type(module), kind, table)), None)
    if known is None or not getattr(module.surrogate_function, "spiking", True):
        return None
    numbers = [getattr(module, name, None) for name in ("tau", "w", "v_threshold", "v_reset")]
    if any(isinstance(value, torch.Tensor) and value.numel() != 1 for value in numbers):
        return None
    if module.v_reset is None and math.isinf(number(module.v_threshold)):
        return None
    return known


def overrides_forward(module: nn.Module) -> bool:
    """Whether a class outside of SpikingJelly says what ``module`` does when it is called, rather than what a step does."""
    names = ("forward", "single_step_forward", "multi_step_forward")
    return any(_owner(type(module), name).__module__.split(".")[0] not in _KNOWN_PACKAGES for name in names)


_KNOWN_PACKAGES = ("spikingjelly", "sj2onnx", "torch")
_HARMLESS = {"extra_repr", "supported_step_mode"}
_HOOKS = {"__call__", "__getattr__", "__getattribute__", "__setattr__"}


def _owner(kind: type, name: str) -> type:
    return next((base for base in kind.__mro__ if name in vars(base)), object)


def _behaves_as(kind: type, base: type, table: Mapping[type, object]) -> bool:
    """Whether ``kind`` is ``base``, or a subclass that redefines nothing of it but how it is made and shown."""
    if kind is base:
        return True
    if not issubclass(kind, base) or kind in table or kind.__module__.split(".")[0] in _KNOWN_PACKAGES:
        return False
    own = {name for between in kind.__mro__[: kind.__mro__.index(base)] for name in vars(between)}
    redefined = {name for name in own if hasattr(base, name) and name not in _HARMLESS}
    return all(name.startswith("__") and name not in _HOOKS for name in redefined)
