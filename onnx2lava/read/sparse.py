"""Several steps as one sparse matrix: large selections, and whatever reads few spikes for each sum and is no convolution."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ..network import Array, Map, Shape, Sparse
from .budget import LARGEST_MAP, Budget
from .steps import Scale, Select, Step, View, output_shape

__all__ = ["SMALL", "sparse", "synapses"]

SMALL = 2**20
"""Weights up to which a matrix serves everywhere, whether many of them are zero or not."""
_FEW = 4
"""The part of a matrix that its entries take at most where it pays to store them by themselves."""


def sparse(steps: Sequence[Step], shape: Shape, budget: Budget) -> Sparse | None:
    """From features of the shape ``shape`` to what comes out, both flattened; None where a plain matrix is as good."""
    inputs, made = prod(shape), shape
    for step in steps:
        made = output_shape(step, made)
    found = synapses(steps, shape, budget) if inputs * prod(made) > SMALL else None
    if found is None or found[0].size * _FEW > inputs * prod(made):
        return None
    return Sparse(*found, inputs)


def synapses(steps: Sequence[Step], shape: Shape, budget: Budget) -> tuple[Array, Array] | None:
    """What each sum reads: weights and columns ``[O, K]`` as :class:`~onnx2lava.network.Sparse` has them; None if too many.

    The entries so far are kept by rows: those of row i are ``columns[starts[i] : starts[i + 1]]``, and their weights.
    """
    inputs = prod(shape)
    starts: Array = np.arange(inputs + 1)
    columns: Array = np.arange(inputs)
    weights: Array = np.ones(inputs)
    for step in steps:
        made = output_shape(step, shape)
        if not isinstance(step, View):
            most = prod(made) * (step.fan_in if isinstance(step, Map) else 1)
            if most > LARGEST_MAP or not budget.holds(8 * most):
                return None
            budget.take(3 * most)
            rows, between, factors = _entries(step, shape)
            counts = np.diff(starts)[between]
            total = int(counts.sum())
            if total > LARGEST_MAP or not budget.holds(8 * total):
                return None
            budget.take(8 * total)
            budget.work(16 * total)
            each = np.repeat(np.arange(len(rows)), counts)
            at = np.arange(total) + np.repeat(starts[between] - np.cumsum(counts) + counts, counts)
            keys, same = np.unique(rows[each] * inputs + columns[at], return_inverse=True)
            weights = np.bincount(same, factors[each] * weights[at], len(keys))
            columns = keys % inputs
            starts = np.searchsorted(keys, np.arange(prod(made) + 1) * inputs)
        shape = made
    outputs, counts = prod(shape), np.diff(starts)
    width = int(counts.max(initial=0))
    if not 0 < outputs * width <= LARGEST_MAP or not budget.holds(2 * outputs * width):
        return None
    budget.take(2 * outputs * width)
    place = np.repeat(np.arange(outputs), counts), np.arange(len(columns)) - np.repeat(starts[:-1], counts)
    weight, which = np.zeros((outputs, width)), np.full((outputs, width), -1)
    weight[place], which[place] = weights, columns
    return weight, which


def _entries(step: Step, shape: Shape) -> tuple[Array, Array, Array]:
    """Rows, columns and weights of a step's matrix."""
    if isinstance(step, Scale):
        places = np.arange(prod(shape))
        return places, places, np.broadcast_to(step.factor, shape).reshape(-1)
    if isinstance(step, Select):
        picked = np.where((step.index < 0)[:, None], -1, np.arange(prod(shape)).reshape(shape[0], -1)[step.index]).reshape(-1)
        rows = np.flatnonzero(picked >= 0)
        return rows, picked[rows], np.ones(len(rows))
    assert not isinstance(step, View)
    return step.entries(shape)
