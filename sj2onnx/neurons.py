"""SpikingJelly's neurons that have an operator of their own: a table from class to operator and attributes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import lava_exchange, neuron
from torch import nn

from custom_ops.operators import NO_LIMIT
from custom_ops.operators.float_neuron import LARGEST

from .cuba_neuron import CubaLIFNode
from .errors import BlockError

__all__ = ["OPERATORS", "Translation", "overrides_forward", "translation"]


@dataclass(frozen=True)
class Translation:
    """How a neuron class is written.

    Args:
        operator: the operator of the domain ``snn``.
        attributes: the node's attributes, from an instance; raises BlockError where it has numbers that they cannot say.
        states: the names of the states, in the order of the operator's inputs and outputs.
        initial: what each state starts with, from an instance.
    """

    operator: str
    attributes: Callable[[nn.Module], Mapping[str, int | float]]
    states: tuple[str, ...]
    initial: Callable[[nn.Module], tuple[float, ...]]


def _number(value: float | torch.Tensor) -> float:
    """A number that may be trained."""
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def _threshold(node: neuron.BaseNode) -> dict[str, int | float]:
    reset = {} if node.v_reset is None else {"v_reset": _number(node.v_reset)}
    # An infinite threshold is never reached, and no finite potential is above the largest finite one.
    return {"v_threshold": min(_number(node.v_threshold), LARGEST), **reset}


def _potential(node: neuron.BaseNode) -> tuple[float, ...]:
    return (0.0 if node.v_reset is None else _number(node.v_reset),)


def _lif(node: neuron.LIFNode) -> dict[str, int | float]:
    return {**_threshold(node), "tau": _number(node.tau), "decay_input": int(node.decay_input)}


def _parametric_lif(node: neuron.ParametricLIFNode) -> dict[str, int | float]:
    # In float32, as the neuron itself computes it.
    decay = float(node.w.detach().float().sigmoid())
    return {**_threshold(node), "decay": decay, "decay_input": int(node.decay_input)}


def _cuba(node: nn.Module) -> dict[str, int | float]:
    assert isinstance(node, CubaLIFNode)
    _refuse_norm(node)
    params = node.device_params
    decays = {name: params[name] for name in ("i_decay", "v_decay")}
    return {**decays, "scale": node.scale, "lowest": 64 * params["v_threshold"] + 1, "limit": 2**23}


def _published_cuba(node: lava_exchange.CubaLIFNode) -> dict[str, int | float]:
    """SpikingJelly's arithmetic, in which whole state units are float32: exact where dividing by the scale is."""
    _refuse_norm(node)
    if node.s_scale != 64 * node.scale or not 0 < node.scale <= 2**18 or node.scale & (node.scale - 1):
        raise BlockError(
            f"its scale of {node.s_scale / 64:g} is not a power of two up to 2**18, so that its states are rounded at each step: "
            "use one, or sj2onnx.CubaLIFNode"
        )
    decays = [float(decay.detach().clamp(0, node.p_scale).round()) for decay in (node.current_decay, node.voltage_decay)]
    # Compared in float32, where v_threshold_eps may be lost.
    lowest = float(np.float32(node.v_threshold + node.v_threshold_eps)) * node.s_scale
    if not all(map(math.isfinite, [*decays, lowest])) or abs(lowest) > 2**53:
        raise BlockError("its decays or its threshold are not finite numbers: train again with a smaller learning rate")
    i_decay, v_decay = map(int, decays)
    return {"i_decay": i_decay, "v_decay": v_decay, "scale": node.scale, "lowest": math.ceil(lowest), "limit": NO_LIMIT}


def _refuse_norm(node: lava_exchange.CubaLIFNode) -> None:
    if node.norm is not None:
        raise BlockError("its norm has to go into the weights of a synapse: put both into a sj2onnx.BlockContainer")


_CUBA_STATES = ("current_state", "voltage_state")


def _at_rest(node: nn.Module) -> tuple[float, ...]:
    return (0.0, 0.0)


OPERATORS: dict[type, Translation] = {
    neuron.IFNode: Translation("IF", _threshold, ("v",), _potential),
    neuron.LIFNode: Translation("LIF", _lif, ("v",), _potential),
    neuron.ParametricLIFNode: Translation("LIF", _parametric_lif, ("v",), _potential),
    # What they do otherwise is for training.
    neuron.OTTTLIFNode: Translation("LIF", _lif, ("v",), _potential),
    neuron.SLTTLIFNode: Translation("LIF", _lif, ("v",), _potential),
    # Alone, fed with real numbers. Inside a BlockContainer it is snn.CubaLIF.
    CubaLIFNode: Translation("CubaLIFNode", _cuba, _CUBA_STATES, _at_rest),
    lava_exchange.CubaLIFNode: Translation("CubaLIFNode", _published_cuba, _CUBA_STATES, _at_rest),
}
"""Which operator, or function, a class becomes; a new one is a line here and a definition in ``custom_ops/operators``."""


def translation(module: nn.Module) -> Translation | None:
    """The line of :data:`OPERATORS` for ``module``; None where its dynamics are not exactly those of its class.

    A subclass that changes nothing of what its base does in a step counts as that base. A surrogate function with
    ``spiking=False`` gives no spikes, a number for each channel has no place in an attribute, and a soft reset by an infinite
    threshold is not a number.
    """
    known = next((line for kind, line in OPERATORS.items() if _behaves_as(type(module), kind)), None)
    if known is None or not getattr(module.surrogate_function, "spiking", True):
        return None
    numbers = [getattr(module, name, None) for name in ("tau", "w", "v_threshold", "v_reset")]
    if any(isinstance(value, torch.Tensor) and value.numel() != 1 for value in numbers):
        return None
    if module.v_reset is None and math.isinf(_number(module.v_threshold)):
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


def _behaves_as(kind: type, base: type) -> bool:
    """Whether ``kind`` is ``base``, or a subclass that redefines nothing of it but how it is made and shown."""
    if kind is base:
        return True
    if not issubclass(kind, base) or kind in OPERATORS or kind.__module__.split(".")[0] in _KNOWN_PACKAGES:
        return False
    own = {name for between in kind.__mro__[: kind.__mro__.index(base)] for name in vars(between)}
    redefined = {name for name in own if hasattr(base, name) and name not in _HARMLESS}
    return all(name.startswith("__") and name not in _HOOKS for name in redefined)
