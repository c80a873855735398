"""What a random graph computes in fractions, and where floating point may come to something else.

1/9 is no binary number: where a sum of ninths meets its threshold exactly, SpikingJelly fires or not as its sums happen to be
rounded, which depends on the order in which they are added.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from .random_graphs import JOINS, OF_SPIKES, Graph

__all__ = ["OTHER", "SAME", "Exact", "exact"]

Array = npt.NDArray[Any]

SAME, ROUNDED, OTHER = range(3)
"""What floating point gives for a value: the same, nearly the same, or possibly something else, behind a tie."""

_LARGEST_DENOMINATOR = 2**14
"""Of the factors in a layer: multiples of powers of two, and one divided by the size of a window."""
_fractions = np.frompyfunc(lambda value: Fraction(float(value)).limit_denominator(_LARGEST_DENOMINATOR), 1, 1)


def _is_binary(values: Array) -> Array:
    """Whether a floating-point number is the same."""
    return np.vectorize(lambda value: value.denominator & (value.denominator - 1) == 0, otypes=[bool])(values)


@dataclass(frozen=True)
class Exact:
    """Values ``[T, N, *]``.

    Args:
        values: fractions.
        floats: what floating point gives, for each :data:`SAME`, :data:`ROUNDED` or :data:`OTHER`.
    """

    values: Array
    floats: Array

    def at(self, t: int) -> "Exact":
        """One time step, ``[1, N, *]``."""
        return Exact(self.values[t : t + 1], self.floats[t : t + 1])


def exact(graph: Graph) -> list[Exact]:
    """All values of ``graph``; a neuron that meets its threshold exactly fires."""
    example = graph.example.numpy()
    values = [Exact(_fractions(example), np.full(example.shape, SAME))]
    for made, (module, reads) in zip(graph.values[1:], graph.steps, strict=True):
        read = [values[index] for index in reads]
        values.append(_joined(made.kind, read) if made.kind in JOINS else _given(deepcopy(module).double(), *read))
    return values


def _given(module: nn.Module, x: Exact) -> Exact:
    steps = [x.at(t) for t in range(len(x.values))]
    match module:
        case layer.MaxPool2d():
            order, ranks = np.unique(x.values, return_inverse=True)
            largest = _through(module, ranks.reshape(x.values.shape)).astype(int)
            return Exact(order[largest], _through(module, x.floats).astype(int))
        case layer.Delay():
            return _sequence([*[_zeros(steps[0])] * module.delay_steps, *steps][: len(steps)])
        case neuron.BaseNode():
            return _sequence(list(map(_Neurons(module).fired, steps)))
        case layer.LinearRecurrentContainer():
            linear, node = module.sub_module
            neurons, spikes = _Neurons(node), [_zeros(_affine(linear, _zeros(steps[0], module.rc.out_features)))]
            for step in steps:
                spikes.append(neurons.fired(_affine(linear, _affine(module.rc, _joined("concatenate", [step, spikes[-1]])))))
            return _sequence(spikes[1:])
        case layer.ElementWiseRecurrentContainer():
            neurons, spikes = _Neurons(module.sub_module), [_zeros(steps[0])]
            for step in steps:
                kind = "add" if module.element_wise_function is torch.add else "subtract"
                spikes.append(neurons.fired(_joined(kind, [spikes[-1], step])))
            return _sequence(spikes[1:])
    return _affine(module, x)


def _sequence(steps: Sequence[Exact]) -> Exact:
    return Exact(np.concatenate([step.values for step in steps]), np.concatenate([step.floats for step in steps]))


def _zeros(like: Exact, *features: int) -> Exact:
    shape = (*like.values.shape[:2], *(features or like.values.shape[2:]))
    return Exact(_fractions(np.zeros(shape)), np.full(shape, SAME))


def _joined(kind: str, read: Sequence[Exact]) -> Exact:
    values, floats = ([getattr(each, part) for each in read] for part in ("values", "floats"))
    if kind == "concatenate":
        return Exact(np.concatenate(values, axis=2), np.concatenate(floats, axis=2))
    if kind in OF_SPIKES:  # which any numbers hold exactly
        spikes = JOINS[kind](*(torch.from_numpy(each.astype(np.float64)) for each in values)).numpy()
        if kind == "attend":  # each with many others
            return Exact(_fractions(spikes), np.full(spikes.shape, np.maximum(*floats).max()))
        return Exact(_fractions(spikes), np.maximum(*floats))
    return Exact(np.asarray(JOINS[kind](*values)), np.maximum(*floats))


def _affine(module: nn.Module, x: Exact) -> Exact:
    """Of a layer that is no more than a matrix and a constant, which it gives for unit vectors and for nothing."""
    features = x.values.shape[2:]
    units = np.eye(prod(features)).reshape(1, -1, *features)
    nothing = _through(module, np.zeros((1, 1, *features)))
    made, constant = nothing.shape[2:], _fractions(nothing.reshape(-1))
    matrix = _fractions(_through(module, units).reshape(len(units[0]), -1)) - constant
    reaches, rounds = matrix != 0, ~_is_binary(np.vstack([matrix, constant])).all(axis=0)
    values, floats = (each.reshape(-1, prod(features)) for each in (x.values, x.floats))
    levels = [level * ((floats >= level) @ reaches) for level in (ROUNDED, OTHER)]
    lead = x.values.shape[:2]
    made_floats = np.maximum.reduce([*levels, np.broadcast_to(ROUNDED * rounds, levels[0].shape)])
    return Exact((values @ matrix + constant).reshape(*lead, *made), made_floats.reshape(*lead, *made))


class _Neurons:
    """SpikingJelly's neurons with a hard reset, one time step after the other."""

    def __init__(self, node: neuron.BaseNode) -> None:
        self.threshold, self.reset = Fraction(node.v_threshold), Fraction(node.v_reset)
        self.decay, self.decay_input = Fraction(0), getattr(node, "decay_input", False)
        if isinstance(node, neuron.LIFNode | neuron.ParametricLIFNode):
            self.decay = (
                1 / Fraction(node.tau) if isinstance(node, neuron.LIFNode) else Fraction(float(node.w.detach().sigmoid()))
            )
        self.potential: Any = self.reset
        self.floats: Any = SAME

    def fired(self, x: Exact) -> Exact:
        """Its spikes at the next step. A potential that is only rounded is forgotten by a spike."""
        driven = x.values * self.decay if self.decay_input else x.values
        charged = self.potential + (self.reset - self.potential) * self.decay + driven
        fires = (charged >= self.threshold).astype(bool)
        floats = np.maximum(self.floats, x.floats)
        floats = np.where((floats == ROUNDED) & (charged == self.threshold).astype(bool), OTHER, floats)
        self.potential = np.where(fires, self.reset, charged)
        self.floats = np.where((floats == ROUNDED) & fires, SAME, floats)
        return Exact(_fractions(fires.astype(float)), np.where(floats == ROUNDED, SAME, floats))


def _through(module: nn.Module, x: Array) -> Array:
    """What a module makes of numbers ``[T, N, *]``."""
    with torch.no_grad():
        made: Array = module(torch.from_numpy(x.astype(np.float64))).numpy()
    return made
