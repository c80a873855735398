"""One map of several steps: what a synapse holds is what everything between two neurons comes to. In float64.

A convolution stays one wherever a convolution can say it; what none can say (an odd last row that pooling drops and padding then
replaces, a factor for each place) becomes a matrix, sparse or not, which says every linear map.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..network import Array, Conv, ConvTranspose, Dense, Map, Shape
from .budget import LARGEST_MAP, Budget, BudgetError
from .sparse import SMALL, sparse
from .steps import Scale, Select, Step, View, applied, applied_transposed, output_shape, ungrouped

__all__ = ["added", "composed", "matrix", "simplified"]


def composed(steps: Sequence[Step], shape: Shape, budget: Budget) -> tuple[Map, Shape]:
    """One map that does what ``steps`` do, and the shape in which it reads features of the shape ``shape``.

    Raises:
        BudgetError: it would be too large.
    """
    steps, shape = simplified(steps, shape, budget)
    while steps and isinstance(steps[-1], View):
        steps = steps[:-1]
    if len(steps) == 1 and isinstance(steps[0], Map):
        return _with_room(steps[0], budget), shape
    if len(shape) == 3 and not steps:
        return _kept_as_it_is(shape[0], budget), shape
    structured = _structured(steps, shape, budget)
    if structured is not None:
        return structured
    return sparse(steps, shape, budget) or matrix(steps, shape, budget), shape


def simplified(steps: Sequence[Step], shape: Shape, budget: Budget) -> tuple[tuple[Step, ...], Shape]:
    """The same with neighbours joined where a step of a kind can say both, and the shape in which they read ``shape``."""
    shapes: list[Shape] = [shape]
    done: list[Step] = []
    for step in steps:
        waiting: list[Step] = [step]
        while waiting:
            step = waiting.pop()
            if isinstance(step, View) and step.shape == shapes[-1]:
                continue
            pair = _pair(done[-1], step, shapes[-2], budget) if done else None
            if pair is None:
                done.append(step)
                shapes.append(output_shape(step, shapes[-1]))
            else:
                done.pop()
                shapes.pop()
                waiting += reversed(pair)
    while done and isinstance(done[0], View):
        shape = done.pop(0).shape  # type: ignore[union-attr]
    return tuple(done), shape


def added(first: Map, second: Map) -> Map | None:
    """Their sum, if they are of one geometry; else None."""
    if type(first) is not type(second) or first.weight.shape != second.weight.shape or first.geometry != second.geometry:
        return None
    return replace(first, weight=first.weight.astype(np.float64) + second.weight)


def _pair(first: Step, second: Step, shape: Shape, budget: Budget) -> tuple[Step, ...] | None:
    """Steps that do what ``first``, which reads ``shape``, and then ``second`` do, and get nearer to one map; None if none do."""
    match first, second:
        case View(), View():
            return (second,)
        case View(), Dense():
            return (second,)  # a matrix reads whatever comes flattened
        case View(), Scale():
            budget.take(0 if second.factor.size == 1 else 2 * prod(shape))
            return (Scale(_moved(second.factor, first.shape, shape)), first)
        case Scale(), Scale():
            budget.take(prod(np.broadcast_shapes(first.factor.shape, second.factor.shape)))
            return (Scale(first.factor * second.factor),)
        case Select(), Select():
            return (Select(np.where(second.index < 0, -1, first.index[second.index])),)
        case Scale(), Select():
            budget.take(2 * len(second.index) * prod(first.factor.shape[1:]))
            factor = np.broadcast_to(first.factor, (shape[0], *first.factor.shape[1:]))
            picked = np.where((second.index < 0).reshape(-1, *[1] * (len(shape) - 1)), 1.0, factor[second.index])
            return (second, Scale(picked))
        case Conv() | ConvTranspose(), Scale() if _per_channel(second.factor):
            return (_scaled_outputs(first, second.factor.reshape(-1)),)
        case Scale(), Conv() | ConvTranspose() if _per_channel(first.factor):
            return (_scaled_inputs(second, first.factor.reshape(-1)),)
        case Conv() | ConvTranspose(), Select():
            return (_selected_outputs(first, second.index, budget),)
        case Select(), Conv() | ConvTranspose():
            return (_selected_inputs(second, second.weight, first.index, shape[0], budget),)
        case Conv(), Conv():
            whole = _convolution_of_two(first, second, shape, budget)
            return None if whole is None else (whole,)
        case ConvTranspose(), Conv():
            whole_transposed = _transposed_then_convolved(first, second, budget)
            return None if whole_transposed is None else (whole_transposed,)
        case Dense(), Select():
            budget.take(2 * len(second.index) * first.weight.shape[1])
            picked = np.where((second.index < 0)[:, None], 0.0, first.weight[second.index])
            return (Dense(picked),)
        case Dense(), Scale():
            factor = np.broadcast_to(second.factor, output_shape(first, shape)).reshape(-1)
            return (Dense(first.weight.astype(np.float64) * factor[:, None]),)
        case Dense(), Dense():
            budget.work(first.weight.size * len(second.weight))
            return (Dense(second.weight.astype(np.float64) @ first.weight.astype(np.float64)),)
        case _, Dense():
            rows = second.weight.astype(np.float64).reshape(len(second.weight), *output_shape(first, shape))
            _check_size(len(rows) * prod(shape))
            return (Dense(applied_transposed(first, rows, shape, budget).reshape(len(rows), -1)),)
    return None


def _structured(steps: Sequence[Step], shape: Shape, budget: Budget) -> tuple[Map, Shape] | None:
    """Steps that are no convolution yet, as one: nothing at all, factors and selections by channel."""
    if len(steps) > 1 or any(isinstance(step, Map | View) for step in steps):
        return None
    if len(shape) == 1 and (shape[0] ** 2 <= SMALL or (steps and isinstance(steps[0], Select))):
        return None  # a matrix is as good, or better
    image = shape if len(shape) == 3 else (shape[0], 1, 1)
    identity = _kept_as_it_is(image[0], budget)
    match steps:
        case ():
            return identity, image
        case (Scale(factor),):
            factor = factor.reshape(-1, *[1] * 2) if len(shape) == 1 else factor
            return (_scaled_outputs(identity, factor.reshape(-1)), image) if _per_channel(factor) else None
        case (Select(index),):
            return _selected_outputs(identity, index, budget), image
    return None


def matrix(steps: Sequence[Step], shape: Shape, budget: Budget) -> Dense:
    """From ``shape`` to what comes out, both flattened."""
    shapes = [shape]
    for step in steps:
        shapes.append(output_shape(step, shapes[-1]))
    inputs, outputs = prod(shape), prod(shapes[-1])
    _check_size(inputs * outputs)
    if inputs <= outputs:
        budget.take(inputs**2)
        columns = np.eye(inputs).reshape(inputs, *shape)
        for step in steps:
            columns = applied(step, columns, budget)
        return Dense(np.ascontiguousarray(columns.reshape(inputs, outputs).T))
    budget.take(outputs**2)
    rows = np.eye(outputs).reshape(outputs, *shapes[-1])
    for step, before in zip(reversed(steps), reversed(shapes[:-1]), strict=True):
        rows = applied_transposed(step, rows, before, budget)
    return Dense(rows.reshape(outputs, inputs))


def _moved(factor: Array, shape: Shape, before: Shape) -> Array:
    """``factor``, broadcast to ``shape``, for the same elements as ``before``; per channel if it can be."""
    if factor.size == 1:
        return factor.reshape((1,) * len(before))
    whole = np.broadcast_to(factor, shape).reshape(before)
    first = whole.reshape(before[0], -1)[:, :1]
    if (whole.reshape(before[0], -1) == first).all():
        return first.reshape(-1, *[1] * (len(before) - 1))
    return np.ascontiguousarray(whole)


def _kept_as_it_is(channels: int, budget: Budget) -> Conv:
    budget.take(channels)
    return Conv(np.ones((channels, 1, 1, 1)), groups=channels)


def _per_channel(factor: Array) -> bool:
    return factor.ndim == 3 and factor.shape[1:] == (1, 1)


def _scaled_outputs(step: Conv | ConvTranspose, factor: Array) -> Conv | ConvTranspose:
    if isinstance(step, Conv):
        return replace(step, weight=step.weight.astype(np.float64) * factor.reshape(-1, 1, 1, 1))
    inputs, per_group, *kernel = step.weight.shape
    factors = np.broadcast_to(factor, (step.groups * per_group,)).reshape(step.groups, 1, per_group, 1, 1)
    weight = step.weight.astype(np.float64).reshape(step.groups, inputs // step.groups, per_group, *kernel) * factors
    return replace(step, weight=weight.reshape(step.weight.shape))


def _scaled_inputs(step: Conv | ConvTranspose, factor: Array) -> Conv | ConvTranspose:
    if isinstance(step, ConvTranspose):
        return replace(step, weight=step.weight.astype(np.float64) * factor.reshape(-1, 1, 1, 1))
    outputs, per_group, *kernel = step.weight.shape
    factors = np.broadcast_to(factor, (step.groups * per_group,)).reshape(step.groups, 1, per_group, 1, 1)
    weight = step.weight.astype(np.float64).reshape(step.groups, outputs // step.groups, per_group, *kernel) * factors
    return replace(step, weight=weight.reshape(step.weight.shape))


def _selected_outputs(step: Conv | ConvTranspose, index: Array, budget: Budget) -> Conv | ConvTranspose:
    """Channels that come out, some left out, others zero."""
    if isinstance(step, Conv):
        weight = ungrouped(step.weight, step.groups, budget)
        _check_size(len(index) * prod(weight.shape[1:]))
        picked = np.where((index < 0).reshape(-1, 1, 1, 1), 0.0, weight[index])
        return replace(step, weight=picked, groups=1)
    weight = ungrouped_transposed(step, budget)
    _check_size(len(index) * weight.size // weight.shape[1])
    picked = np.where((index < 0).reshape(1, -1, 1, 1), 0.0, weight[:, index])
    return replace(step, weight=picked, groups=1)


def _selected_inputs(
    step: Conv | ConvTranspose, weight: Array, index: Array, inputs: int, budget: Budget
) -> Conv | ConvTranspose:
    """Reading ``inputs`` channels of which ``index`` says where each one of the step's own lies."""
    kept = np.flatnonzero(index >= 0)
    if isinstance(step, Conv):
        whole = ungrouped(weight, step.groups, budget)
        _check_size(whole.shape[0] * inputs * prod(whole.shape[2:]))
        by_input = np.zeros((inputs, whole.shape[0], *whole.shape[2:]))
        np.add.at(by_input, index[kept], whole[:, kept].swapaxes(0, 1))
        read = by_input.swapaxes(0, 1)
    else:
        whole = ungrouped_transposed(step, budget)
        _check_size(inputs * prod(whole.shape[1:]))
        read = np.zeros((inputs, *whole.shape[1:]))
        np.add.at(read, index[kept], whole[kept])
    return replace(step, weight=read, groups=1)


def ungrouped_transposed(step: ConvTranspose, budget: Budget) -> Array:
    """``[I, O, kh, kw]`` of the same in one group."""
    inputs, per_group, *kernel = step.weight.shape
    groups = step.groups
    budget.take(inputs * per_group * groups * prod(kernel))
    whole = np.zeros((groups, inputs // groups, groups, per_group, *kernel))
    each = np.arange(groups)
    whole[each, :, each] = step.weight.reshape(groups, inputs // groups, per_group, *kernel)
    return whole.reshape(inputs, groups * per_group, *kernel)


def _convolution_of_two(first: Conv, second: Conv, shape: Shape, budget: Budget) -> Conv | None:
    """A convolution over both kernels, if the zeros that ``second`` pads with are zeros of the composed one as well.

    Where ``first`` drops a last odd row, its sum beyond the edge would see that row: there is then no such convolution.
    """
    between = first.output_shape(shape)
    size = second.output_shape(between)[1:]
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
        weight_first, weight_second, groups = first.weight.astype(np.float64), second.weight.astype(np.float64), second.groups
        inputs = second.weight.shape[1]
    else:
        weight_first, weight_second, groups = (
            ungrouped(first.weight, first.groups, budget),
            ungrouped(second.weight, second.groups, budget),
            1,
        )
        inputs = shape[0]
    outputs = second.weight.shape[0]
    _check_size(outputs * inputs * prod(kernel))
    budget.take(outputs * inputs * prod(kernel))
    elements = prod(first.weight.shape[2:]) * prod(second.weight.shape[2:])
    budget.work(outputs * inputs * elements * (1 if depthwise else between[0]), elements)
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
    top, left, bottom, right = pads
    return Conv(weight, (stride[0], stride[1]), (top, left, bottom, right), (1, 1), groups)


def _transposed_then_convolved(first: ConvTranspose, second: Conv, budget: Budget) -> ConvTranspose | None:
    """Upsampling and a convolution of stride 1 are one transposed convolution, whose kernel is the sum of both reaches.

    That holds where the zeros around what ``first`` gives are zeros in truth: it must not cut off sums that ``second`` then
    replaces by zeros.
    """
    if second.stride != (1, 1) or second.dilation != (1, 1) or first.dilation != (1, 1):
        return None
    if any(cut > 0 and pad > 0 for cut, pad in zip(first.pads, second.pads, strict=True)):
        return None
    one, two = ungrouped_transposed(first, budget), ungrouped(second.weight, second.groups, budget)
    (inputs, between, *kernel_one), (outputs, _, *kernel_two) = one.shape, two.shape
    kernel = [a + b - 1 for a, b in zip(kernel_one, kernel_two, strict=True)]
    _check_size(inputs * outputs * prod(kernel))
    budget.take(inputs * outputs * prod(kernel))
    budget.work(inputs * outputs * between * prod(kernel_one) * prod(kernel_two), prod(kernel_one) * prod(kernel_two))
    weight = np.zeros((inputs, outputs, *kernel))
    for a, b in np.ndindex(*kernel_two):
        y, x = kernel_two[0] - 1 - a, kernel_two[1] - 1 - b  # a convolution sees a place through the mirrored element
        weight[:, :, y : y + kernel_one[0], x : x + kernel_one[1]] += np.einsum("imyx,om->ioyx", one, two[:, :, a, b])
    pads = [first.pads[axis] + kernel_two[axis % 2] - 1 - second.pads[axis] for axis in range(4)]
    return ConvTranspose(weight, first.stride, (pads[0], pads[1], pads[2], pads[3]))


def _with_room(step: Map, budget: Budget) -> Map:
    """The same without negative pads of a convolution: zeros in the kernel skip what they took away."""
    if not isinstance(step, Conv) or min(step.pads) >= 0:
        return step
    kernel, places, dilation = [], [], []
    for axis in range(2):
        low, high = (max(-pad, 0) for pad in (step.pads[axis], step.pads[axis + 2]))
        spacing = step.dilation[axis] if low or high else 1
        places.append(low + np.arange(step.weight.shape[2 + axis]) * spacing)
        kernel.append(int(places[axis][-1]) + 1 + high)
        dilation.append(1 if low or high else step.dilation[axis])
    shape = (*step.weight.shape[:2], *kernel)
    _check_size(prod(shape))
    budget.take(prod(shape))
    weight = np.zeros(shape, step.weight.dtype)
    weight[:, :, places[0][:, None], places[1]] = step.weight
    top, left, bottom, right = (max(pad, 0) for pad in step.pads)
    return replace(step, weight=weight, pads=(top, left, bottom, right), dilation=(dilation[0], dilation[1]))


def _check_size(weights: int) -> None:
    if weights > LARGEST_MAP:
        raise BudgetError(f"one map of all that stands between two neurons would take {weights:,} weights")
