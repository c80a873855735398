"""Linear maps as a file applies them, one after the other, to the features of one sample at one time step. None has a constant.

Each can be applied to arrays ``[k, *shape]``, and so can its transpose; ``compose.py`` makes one map of several.
"""

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from ..errors import NetworkError
from ..network import Array, Conv, ConvTranspose, Dense, Map, Shape
from .budget import Budget

__all__ = ["Scale", "Select", "Step", "View", "applied", "applied_transposed", "output_shape", "ungrouped"]


@dataclass(frozen=True, eq=False)
class Scale:
    """``x * factor``.

    Args:
        factor: with as many axes as the features, broadcast to them: ``[C, 1, 1]``, ``[1, H, W]``, ``[F]``.
    """

    factor: Array


@dataclass(frozen=True, eq=False)
class Select:
    """Elements along the first axis of the features, in another order, some left out, zeros between them.

    Args:
        index: for each element that comes out the one that it is, or -1 where it is zero.
    """

    index: Array


@dataclass(frozen=True)
class View:
    """The same elements as features of another shape, in row-major order."""

    shape: Shape


Step: TypeAlias = Scale | Select | View | Map


def output_shape(step: Step, shape: Shape) -> Shape:
    """The shape of what ``step`` gives for features of the shape ``shape``.

    Raises:
        NetworkError: it cannot read them.
    """
    if isinstance(step, Scale):
        return shape
    if isinstance(step, Select):
        return (len(step.index), *shape[1:])
    if isinstance(step, View):
        if prod(step.shape) != prod(shape):
            raise NetworkError(f"{prod(shape)} numbers cannot be seen as {step.shape}")
        return step.shape
    return step.output_shape(shape)


def applied(step: Step, x: Array, budget: Budget) -> Array:
    """``step`` applied to each of ``[k, *shape]``, in float64: ``[k, *output_shape]``."""
    shape = x.shape[1:]
    out = output_shape(step, shape)
    budget.take(len(x) * prod(out))
    match step:
        case Scale():
            return np.asarray(x * step.factor.astype(np.float64))
        case Select():
            return np.where((step.index < 0).reshape(-1, *[1] * (len(shape) - 1)), 0.0, x[:, step.index])
        case View():
            return x.reshape(len(x), *out)
        case Dense():
            budget.work(len(x) * step.weight.size)
            return np.asarray(x.reshape(len(x), -1) @ step.weight.astype(np.float64).T)
        case Conv():
            return _convolved(step, x, out, budget)
        case ConvTranspose():
            return _spread(step.weight, step, x, out, budget)
    rows, columns, weights = _entries(step, shape, len(x), budget)
    made = np.zeros((prod(out), len(x)))
    np.add.at(made, rows, weights[:, None] * x.reshape(len(x), -1).T[columns])
    return made.T.reshape(len(x), *out)


def applied_transposed(step: Step, y: Array, shape: Shape, budget: Budget) -> Array:
    """The transpose of ``step``, which reads ``shape``, applied to each of ``[k, *output_shape]``: ``[k, *shape]``."""
    budget.take(len(y) * prod(shape))
    match step:
        case Scale():
            return np.asarray(y * step.factor.astype(np.float64))
        case Select():
            x = np.zeros((shape[0], len(y), *shape[1:]))
            kept = np.flatnonzero(step.index >= 0)
            np.add.at(x, step.index[kept], y[:, kept].swapaxes(0, 1))
            return x.swapaxes(0, 1)
        case View():
            return y.reshape(len(y), *shape)
        case Dense():
            budget.work(len(y) * step.weight.size)
            return (y.reshape(len(y), -1) @ step.weight.astype(np.float64)).reshape(len(y), *shape)
        case Conv():
            return _spread(step.weight, step, y, shape, budget)
        case ConvTranspose():
            return _convolved(step, y, shape, budget)
    rows, columns, weights = _entries(step, shape, len(y), budget)
    made = np.zeros((prod(shape), len(y)))
    np.add.at(made, columns, weights[:, None] * y.reshape(len(y), -1).T[rows])
    return made.T.reshape(len(y), *shape)


def _entries(step: Map, shape: Shape, count: int, budget: Budget) -> tuple[Array, Array, Array]:
    """In float64, accounted for ``count`` uses."""
    rows, columns, weights = step.entries(shape)
    budget.work(count * len(weights))
    return rows, columns, weights.astype(np.float64)


def ungrouped(weight: Array, groups: int, budget: Budget) -> Array:
    """``[O, I / groups, kh, kw]`` of ``groups`` as ``[O, I, kh, kw]`` of one group, in float64."""
    if groups == 1:
        return weight.astype(np.float64)
    outputs, per_group, *kernel = weight.shape
    budget.take(outputs * per_group * groups * prod(kernel))
    whole = np.zeros((groups, outputs // groups, groups, per_group, *kernel))
    each = np.arange(groups)
    whole[each, :, each] = weight.reshape(groups, outputs // groups, per_group, *kernel)
    return whole.reshape(outputs, groups * per_group, *kernel)


def _convolved(step: Conv | ConvTranspose, x: Array, out: Shape, budget: Budget) -> Array:
    """Correlate ``[k, C, H, W]`` with the kernels of ``step``; one strided slice for each place in the kernel."""
    outputs, per_group, *kernel = step.weight.shape
    groups = step.groups
    kernels = step.weight.astype(np.float64).reshape(groups, outputs // groups, per_group, *kernel)
    grouped = x.reshape(len(x), groups, per_group, *x.shape[2:])
    sums = np.zeros((len(x), groups, outputs // groups, *out[1:]))
    budget.work(len(x) * step.weight.size * prod(out[1:]), prod(kernel))
    for i in range(kernel[0]):
        rows, from_rows = _places(step, 0, i, out[1], x.shape[2])
        for j in range(kernel[1]):
            columns, from_columns = _places(step, 1, j, out[2], x.shape[3])
            if rows is not None and columns is not None:
                part = np.einsum("goi,ngihw->ngohw", kernels[..., i, j], grouped[..., from_rows, from_columns])
                sums[..., rows, columns] += part
    return sums.reshape(len(x), *out)


def _spread(weight: Array, step: Conv | ConvTranspose, y: Array, out: Shape, budget: Budget) -> Array:
    """Add a kernel to ``[k, C, H, W]`` for each element of ``y``: the transpose of :func:`_convolved`."""
    outputs, per_group, *kernel = weight.shape
    groups = step.groups
    kernels = weight.astype(np.float64).reshape(groups, outputs // groups, per_group, *kernel)
    grouped = y.reshape(len(y), groups, outputs // groups, *y.shape[2:])
    sums = np.zeros((len(y), groups, per_group, *out[1:]))
    budget.work(len(y) * weight.size * prod(y.shape[2:]), prod(kernel))
    for i in range(kernel[0]):
        rows, to_rows = _places(step, 0, i, y.shape[2], out[1])
        for j in range(kernel[1]):
            columns, to_columns = _places(step, 1, j, y.shape[3], out[2])
            if rows is not None and columns is not None:
                part = np.einsum("goi,ngohw->ngihw", kernels[..., i, j], grouped[..., rows, columns])
                sums[..., to_rows, to_columns] += part
    return sums.reshape(len(y), *out)


def _places(step: Conv | ConvTranspose, axis: int, element: int, windows: int, length: int) -> tuple[slice | None, slice]:
    """Along one axis, the windows whose element ``element`` lies among ``length`` places, and those places."""
    stride, offset = step.stride[axis], element * step.dilation[axis] - step.pads[axis]
    first = max(0, -(offset // stride))
    last = min(windows - 1, (length - 1 - offset) // stride)
    if last < first:
        return None, slice(0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, (last * stride + offset) + 1, stride)
