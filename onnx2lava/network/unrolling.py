"""A map as the matrix that it is."""

from math import prod

import numpy as np

from ..errors import NetworkError
from .maps import Array, Conv, Dense, Map, Shape

__all__ = ["LARGEST", "matrix_size", "unrolled"]

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
    if isinstance(map_, Conv):
        return _of_convolution(map_, shape, map_.output_shape(shape))
    # What a spike adds to which sums, a convolution of the sums would read.
    reverse = Conv(map_.weight, map_.stride, map_.pads, map_.dilation, map_.groups)
    return np.ascontiguousarray(_of_convolution(reverse, map_.output_shape(shape), shape).T)


def _of_convolution(conv: Conv, shape: Shape, sums: Shape) -> Array:
    outputs, height, width = sums
    per_output, per_input = outputs // conv.groups, conv.weight.shape[1]
    matrix = np.zeros((outputs, height, width, *shape), conv.weight.dtype)
    for i, j in np.ndindex(*conv.weight.shape[2:]):
        rows, from_rows = _places(height, shape[1], i, conv, 0)
        columns, from_columns = _places(width, shape[2], j, conv, 1)
        for group in range(conv.groups):
            out = slice(group * per_output, (group + 1) * per_output)
            into = slice(group * per_input, (group + 1) * per_input)
            # Two advanced indices apart from each other: their axes come first.
            matrix[out, rows[:, None], columns, into, from_rows[:, None], from_columns] += conv.weight[out, :, i, j]
    return matrix.reshape(prod(sums), prod(shape))


def _places(count: int, length: int, element: int, conv: Conv, axis: int) -> tuple[Array, Array]:
    """Along one axis, the windows whose element ``element`` lies in the image, and where it lies."""
    at = np.arange(count) * conv.stride[axis] + element * conv.dilation[axis] - conv.pads[axis]
    inside = np.flatnonzero((at >= 0) & (at < length))
    return inside, at[inside]
