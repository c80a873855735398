"""A map as the matrix that it is, full or entry by entry."""

from math import prod

import numpy as np

from ..errors import NetworkError
from .maps import Array, Conv, ConvTranspose, Dense, Map, Shape

__all__ = ["LARGEST", "entries", "matrix_size", "places", "unrolled"]

LARGEST = 2**24
"""Weights that a matrix may have: a small file must not ask for a huge array."""


def matrix_size(map_: Map, shape: Shape) -> int:
    """Weights of the matrix that :func:`unrolled` gives."""
    return prod(map_.output_shape(shape)) * prod(shape)


def unrolled(map_: Map, shape: Shape) -> Array:
    """The matrix ``[O, I]`` from spikes of the shape ``shape`` to sums, both flattened in row-major order.

    Args:
        map_: any map; its weight's type is kept.
        shape: ``(C, H, W)`` or ``(F,)`` of the spikes.

    Raises:
        NetworkError: it would have more than :data:`LARGEST` weights, or the map cannot read such spikes.
    """
    if (size := matrix_size(map_, shape)) > LARGEST:
        raise NetworkError(f"a matrix in place of the {type(map_).__name__} takes {size:,} weights, more than {LARGEST:,}")
    if isinstance(map_, Dense):
        return map_.weight
    matrix = np.zeros((prod(map_.output_shape(shape)), prod(shape)), map_.weight.dtype)
    rows, columns, weights = entries(map_, shape)
    matrix[rows, columns] = weights
    return matrix


def entries(map_: Map, shape: Shape) -> tuple[Array, Array, Array]:
    """The entries of the matrix that :func:`unrolled` gives, but those that are zero wherever the map lies: rows, columns and
    weights, each ``[K]``.

    Raises:
        NetworkError: the map cannot read such spikes.
    """
    sums = map_.output_shape(shape)
    if isinstance(map_, Dense):
        rows, columns = np.indices(map_.weight.shape).reshape(2, -1)
        return rows, columns, map_.weight.reshape(-1)
    if isinstance(map_, Conv):
        return _of_convolution(map_, shape, sums)
    # What a spike adds to which sums, a convolution of the sums would read.
    columns, rows, weights = _of_convolution(Conv(map_.weight, map_.stride, map_.pads, map_.dilation, map_.groups), sums, shape)
    return rows, columns, weights


def _of_convolution(conv: Conv, shape: Shape, sums: Shape) -> tuple[Array, Array, Array]:
    outputs, height, width = sums
    per_group = conv.weight.shape[1]
    out = np.arange(outputs)
    into = out[:, None] // (outputs // conv.groups) * per_group + np.arange(per_group)  # [O, I / groups]: channels that it sees
    parts = []
    for i, j in np.ndindex(*conv.weight.shape[2:]):
        windows_y, y = places(height, shape[1], i, conv, 0)
        windows_x, x = places(width, shape[2], j, conv, 1)
        window = (windows_y[:, None] * width + windows_x).reshape(-1)
        place = (y[:, None] * shape[2] + x).reshape(-1)
        parts.append(
            np.broadcast_arrays(
                out[:, None, None] * (height * width) + window,
                into[:, :, None] * (shape[1] * shape[2]) + place,
                conv.weight[:, :, i, j, None],
            )
        )
    rows, columns, weights = (np.concatenate([part[which].reshape(-1) for part in parts]) for which in range(3))
    return rows, columns, weights


def places(count: int, length: int, element: int, conv: Conv | ConvTranspose, axis: int) -> tuple[Array, Array]:
    """Along one axis, of ``count`` windows of a convolution those whose element ``element`` lies in an image of ``length``, and
    where it lies. A transposed convolution has a window of its sums for each place of its image."""
    at = np.arange(count) * conv.stride[axis] + element * conv.dilation[axis] - conv.pads[axis]
    inside = np.flatnonzero((at >= 0) & (at < length))
    return inside, at[inside]
