"""SpikingJelly's neurons that have an operator of their own: a table from class to operator and attributes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import lava_exchange, neuron
from torch import nn

from custom_ops.operators import NO_LIMIT

from .cuba_neuron import CubaLIFNode
from .errors import BlockError

__all__ = ["OPERATORS", "Translation", "translation"]


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


def _threshold(node: neuron.BaseNode) -> dict[str, int | float]:
    reset = {} if node.v_reset is None else {"v_reset": float(node.v_reset)}
    return {"v_threshold": float(node.v_threshold), **reset}


def _potential(node: neuron.BaseNode) -> tuple[float, ...]:
    return (0.0 if node.v_reset is None else float(node.v_reset),)


def _lif(node: neuron.LIFNode) -> dict[str, int | float]:
    return {**_threshold(node), "tau": float(node.tau), "decay_input": int(node.decay_input)}


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

    A subclass may have other dynamics, a surrogate function with ``spiking=False`` gives no spikes, and a time constant that is
    one number per channel has no place in an attribute.
    """
    known = OPERATORS.get(type(module))
    if known is None or not getattr(module.surrogate_function, "spiking", True):
        return None
    if isinstance(module, neuron.ParametricLIFNode) and module.w.numel() != 1:
        return None
    if any(isinstance(getattr(module, name), torch.Tensor) for name in ("v_threshold", "v_reset")):
        return None
    return known
