"""Two linear maps in a row are one. The mathematics, in float64, that several passes share."""

from dataclasses import replace
from math import prod

import numpy as np

from ..layers import Affine, Convolution, Linear, column
from ..network import Array, Shape

__all__ = ["LARGEST", "Map", "TooLargeError", "composed", "flattened", "from_affine", "unrolled"]

Map = Convolution | Linear | Affine

LARGEST = 2**24
"""Weights that one layer may grow to while it is lowered: a small file must not ask for a huge array."""


class TooLargeError(Exception):
    """A map would need more than :data:`LARGEST` weights."""


def composed(first: Map, second: Map, shape: Shape) -> Map | None:
    """One map that does what ``first`` and then ``second`` do, or None if no map of their kinds can.

    Args:
        first: reads ``shape``.
        second: reads what ``first`` gives.
        shape: ``(C, H, W)`` or ``(F,)``.

    Raises:
        TooLargeError: the map is too large.
    """
    match first, second:
        case Affine(), Affine():
            return Affine(first.factor * second.factor, first.shift * second.factor + second.shift)
        case Affine(), Linear():
            return _linear_after_affine(first, second, shape)
        case Affine(), Convolution():
            return _convolution_after_affine(first, second)
        case Linear() | Convolution(), Affine():
            return _affine_after(first, second)
        case Linear(), Linear():
            return Linear(_real(second.weight) @ _real(first.weight), _sum(second.bias, _through(second, first.bias)))
        case Convolution(), Linear():
            return _linear_after_convolution(first, second, shape)
        case Convolution(), Convolution():
            return _convolution_after_convolution(first, second, shape)
    return None


def from_affine(affine: Affine, shape: Shape) -> Map | None:
    """The same as a synapse: a depthwise convolution of 1 x 1, or a diagonal matrix."""
    factor = np.broadcast_to(_real(affine.factor), _per_channel_shape(shape))
    shift = np.broadcast_to(_real(affine.shift), factor.shape).reshape(-1)
    if affine.factor.size not in (1, shape[0]) or affine.shift.size not in (1, shape[0]):
        return None
    if len(shape) == 1:
        _check_size(shape[0] ** 2)
        return Linear(np.diag(factor), shift)
    return Convolution(factor.reshape(-1, 1, 1, 1), groups=shape[0], bias=shift)


def unrolled(convolution: Convolution, shape: Shape) -> Linear:
    """The same as a matrix from ``(C, H, W)`` to ``(O, H', W')``, both flattened."""
    outputs, height, width = convolution.output_shape(shape)
    _check_size(prod(shape) * outputs * height * width)
    matrix = np.zeros((outputs, height, width, *shape))
    weight = _ungrouped(convolution)
    for i in range(weight.shape[2]):
        rows, from_rows = _places(height, shape[1], i, convolution, 0)
        for j in range(weight.shape[3]):
            columns, from_columns = _places(width, shape[2], j, convolution, 1)
            # Two advanced indices apart from each other: their axes come first.
            matrix[:, rows[:, None], columns, :, from_rows[:, None], from_columns] += weight[:, :, i, j]
    bias = None if convolution.bias is None else np.repeat(_real(convolution.bias), height * width)
    return Linear(matrix.reshape(outputs * height * width, -1), bias)


def flattened(affine: Affine, shape: Shape) -> Affine:
    """The same for ``(C, H, W)`` flattened."""
    return Affine(*(np.broadcast_to(values, shape).reshape(-1) for values in (affine.factor, affine.shift)))


def _linear_after_affine(first: Affine, second: Linear, shape: Shape) -> Linear:
    flat = flattened(first, shape)
    weight = _real(second.weight)
    return Linear(weight * flat.factor, _sum(second.bias, _nonzero(weight @ flat.shift)))


def _convolution_after_affine(first: Affine, second: Convolution) -> Convolution | None:
    channels = second.weight.shape[1] * second.groups
    if any(
        values.size not in (1, channels) or (values.size > 1 and values.shape[0] == 1) for values in (first.factor, first.shift)
    ):
        return None
    factor, shift = (np.broadcast_to(_real(values).reshape(-1), (channels,)) for values in (first.factor, first.shift))
    weight = _real(second.weight)
    outputs = np.arange(weight.shape[0])[:, None]
    seen = outputs // (weight.shape[0] // second.groups) * weight.shape[1] + np.arange(weight.shape[1])
    bias = None
    if shift.any():
        if any(second.pads):  # the zeros around the image are not shifted
            return None
        bias = np.einsum("oihw,oi->o", weight, shift[seen])
    return replace(second, weight=weight * factor[seen][:, :, None, None], bias=_sum(second.bias, bias))


def _affine_after(first: Linear | Convolution, second: Affine) -> Linear | Convolution | None:
    outputs = first.weight.shape[0]
    axes = first.weight.ndim
    if isinstance(first, Linear):
        axes = 1
    elif any(values.size > 1 and values.size != values.shape[0] for values in (second.factor, second.shift)):
        return None
    factor, shift = (np.broadcast_to(_real(values).reshape(-1), (outputs,)) for values in (second.factor, second.shift))
    bias = None if first.bias is None else first.bias * factor
    return replace(first, weight=_real(first.weight) * column(factor, max(axes, 2)), bias=_sum(bias, _nonzero(shift)))


def _linear_after_convolution(first: Convolution, second: Linear, shape: Shape) -> Linear:
    """Each row of the matrix is an image of sums; what reads a sum reads, through the kernel, the pixels that made it."""
    outputs, height, width = first.output_shape(shape)
    rows = second.weight.shape[0]
    _check_size(rows * prod(shape))
    images = _real(second.weight).reshape(rows, first.groups, outputs // first.groups, height, width)
    kernels = _real(first.weight).reshape(first.groups, outputs // first.groups, *first.weight.shape[1:])
    spread = np.zeros((rows, first.groups, first.weight.shape[1], *shape[1:]))
    for i in range(kernels.shape[3]):
        ys, from_ys = _places(height, shape[1], i, first, 0)
        for j in range(kernels.shape[4]):
            xs, from_xs = _places(width, shape[2], j, first, 1)
            if ys.size and xs.size:
                part = np.einsum("rgoyx,goi->rgiyx", images[..., _slice(ys), _slice(xs)], kernels[..., i, j])
                spread[..., _slice(from_ys), _slice(from_xs)] += part
    return Linear(spread.reshape(rows, -1), _sum(second.bias, _through(second, first.bias)))


def _convolution_after_convolution(first: Convolution, second: Convolution, shape: Shape) -> Convolution | None:
    """A convolution over both kernels, if the zeros that ``second`` pads with are zeros of the composed one as well.

    Where ``first`` drops a last odd row, its sum beyond the edge would see that row: there is then no such convolution.
    """
    between = first.output_shape(shape)
    size = second.output_shape(between)[1:]
    if any(second.pads) and first.bias is not None and first.bias.any():
        return None
    kernel, stride, pads = [], [], [0, 0, 0, 0]
    for axis in range(2):
        reach = first.dilation[axis] * (first.weight.shape[2 + axis] - 1)
        if second.pads[axis] > 0 and reach - first.stride[axis] - first.pads[axis] >= 0:
            return None
        if second.pads[axis + 2] > 0 and between[1 + axis] * first.stride[axis] - first.pads[axis] < shape[1 + axis]:
            return None
        stride.append(first.stride[axis] * second.stride[axis])
        kernel.append(second.dilation[axis] * (second.weight.shape[2 + axis] - 1) * first.stride[axis] + reach + 1)
        pads[axis] = second.pads[axis] * first.stride[axis] + first.pads[axis]
        fitting = (size[axis] - 1) * stride[axis] + kernel[axis] - shape[1 + axis] - pads[axis]
        pads[axis + 2] = min(max(pads[axis], fitting), fitting + stride[axis] - 1)
    depthwise = first.weight.shape[:2] == (first.groups, 1)
    if depthwise:
        weight_first, weight_second, groups = _real(first.weight), _real(second.weight), second.groups
        inputs = second.weight.shape[1]
    else:
        weight_first, weight_second, groups = _ungrouped(first), _ungrouped(second), 1
        inputs = shape[0]
    outputs = second.weight.shape[0]
    _check_size(outputs * inputs * prod(kernel))
    weight = np.zeros((outputs, inputs, *kernel))
    seen = np.arange(outputs)[:, None] // (outputs // second.groups) * second.weight.shape[1] + np.arange(inputs)
    for a, b in np.ndindex(*second.weight.shape[2:]):
        for c, d in np.ndindex(*first.weight.shape[2:]):
            y = a * second.dilation[0] * first.stride[0] + c * first.dilation[0]
            x = b * second.dilation[1] * first.stride[1] + d * first.dilation[1]
            if depthwise:
                weight[:, :, y, x] += weight_second[:, :, a, b] * weight_first[seen, 0, c, d]
            else:
                weight[:, :, y, x] += weight_second[:, :, a, b] @ weight_first[:, :, c, d]
    bias = None if first.bias is None else _ungrouped(second).sum(axis=(2, 3)) @ first.bias
    top, left, bottom, right = pads
    return Convolution(weight, (stride[0], stride[1]), (top, left, bottom, right), (1, 1), groups, _sum(second.bias, bias))


def _through(second: Linear, bias: Array | None) -> Array | None:
    """What a bias per channel before ``second`` adds to its sums."""
    if bias is None:
        return None
    weight = _real(second.weight)
    through: Array = weight.reshape(len(weight), len(bias), -1).sum(axis=2) @ bias
    return through


def _ungrouped(convolution: Convolution) -> Array:
    """The weight ``[O, I, kh, kw]`` of the same convolution in one group."""
    outputs, per_group, *kernel = convolution.weight.shape
    groups = convolution.groups
    if groups == 1:
        return _real(convolution.weight)
    _check_size(outputs * per_group * groups * prod(kernel))
    weight = np.zeros((groups, outputs // groups, groups, per_group, *kernel))
    each = np.arange(groups)
    weight[each, :, each] = convolution.weight.reshape(groups, outputs // groups, per_group, *kernel)
    return weight.reshape(outputs, groups * per_group, *kernel)


def _places(count: int, length: int, element: int, convolution: Convolution, axis: int) -> tuple[Array, Array]:
    """Along one axis, the windows whose element ``element`` lies in the image, and where it lies."""
    at = np.arange(count) * convolution.stride[axis] + element * convolution.dilation[axis] - convolution.pads[axis]
    inside = np.flatnonzero((at >= 0) & (at < length))
    return inside, at[inside]


def _slice(places: Array) -> slice:
    """Evenly spaced places as a slice."""
    step = int(places[1] - places[0]) if places.size > 1 else 1
    return slice(int(places[0]), int(places[-1]) + 1, step)


def _real(values: Array) -> Array:
    return values.astype(np.float64)


def _sum(one: Array | None, other: Array | None) -> Array | None:
    return one if other is None else other if one is None else one + other


def _nonzero(values: Array) -> Array | None:
    return values if values.any() else None


def _per_channel_shape(shape: Shape) -> Shape:
    return (shape[0], *[1] * (len(shape) - 1))


def _check_size(weights: int) -> None:
    if weights > LARGEST:
        raise TooLargeError(f"that takes {weights:,} weights, more than {LARGEST:,}")
