"""A mean over a window is a sum with equal weights."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..layers import Affine, AveragePool, Convolution, Layer, Step
from ..network import Array, Shape

__all__ = ["average_pooling"]


def average_pooling(layers: Sequence[Layer]) -> list[Layer]:
    """AveragePool becomes a depthwise convolution.

    * All windows have as many elements: each weight is one over their number.
    * Windows at the edge have fewer, because padding does not count or because they reach beyond it (``ceil_mode``): the weights
      are 1, and an :class:`Affine` with one factor a place divides. It merges into a following linear layer; elsewhere the layer
      is unrolled.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    if not any(isinstance(step, AveragePool) for step in layer.steps):
        return layer
    steps: list[Step] = []
    shape = layer.input_shape
    for step in layer.steps:
        steps += _sum_and_division(step, shape) if isinstance(step, AveragePool) else [step]
        shape = step.output_shape(shape)
    return replace(layer, steps=tuple(steps))


def _sum_and_division(pool: AveragePool, shape: Shape) -> list[Step]:
    size = pool.output_shape(shape)[1:]
    counts = [_elements(pool, shape, size, axis) for axis in range(2)]
    top, left, bottom, right = pool.pads
    if pool.ceil:
        ends = [(size[axis] - 1) * pool.stride[axis] + pool.kernel[axis] for axis in range(2)]
        bottom, right = max(bottom, ends[0] - shape[1] - top), max(right, ends[1] - shape[2] - left)
    pads = (top, left, bottom, right)
    number = np.multiply.outer(*counts)
    if (number == number[0, 0]).all():
        weight = np.full((shape[0], 1, *pool.kernel), 1 / number[0, 0])
        return [Convolution(weight, pool.stride, pads, groups=shape[0])]
    ones = Convolution(np.ones((shape[0], 1, *pool.kernel)), pool.stride, pads, groups=shape[0])
    return [ones, Affine(1 / number[np.newaxis], np.zeros((1, 1, 1)))]


def _elements(pool: AveragePool, shape: Shape, size: Sequence[int], axis: int) -> Array:
    """How many elements count along one axis, window by window; at least one, since a window of padding alone gives 0."""
    first = np.arange(size[axis]) * pool.stride[axis] - pool.pads[axis]
    low, high = (-pool.pads[axis], shape[1 + axis] + pool.pads[axis + 2]) if pool.counts_padding else (0, shape[1 + axis])
    elements: Array = np.minimum(first + pool.kernel[axis], high) - np.maximum(first, low)
    return np.maximum(elements, 1)
