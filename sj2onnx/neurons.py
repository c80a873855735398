"""SpikingJelly's neurons that have an operator of their own: a table from class to operator and attributes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import neuron
from torch import nn

__all__ = ["OPERATORS", "Translation", "translation"]


@dataclass(frozen=True)
class Translation:
    """How a neuron class is written.

    Args:
        operator: the operator of the domain ``snn``.
        attributes: the node's attributes, from an instance.
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


OPERATORS: dict[type, Translation] = {
    neuron.IFNode: Translation("IF", _threshold, ("v",), _potential),
    neuron.LIFNode: Translation("LIF", _lif, ("v",), _potential),
    neuron.ParametricLIFNode: Translation("LIF", _parametric_lif, ("v",), _potential),
    # What they do otherwise is for training.
    neuron.OTTTLIFNode: Translation("LIF", _lif, ("v",), _potential),
    neuron.SLTTLIFNode: Translation("LIF", _lif, ("v",), _potential),
}
"""Which operator a class becomes; a new one is a line here and an operator in ``custom_ops/operators``."""


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
