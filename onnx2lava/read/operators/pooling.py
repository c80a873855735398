"""Operators that pool over windows of the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, prod

import numpy as np

from ...network import Array, Conv, Shape, windows
from ..call import Call, Operator, Value
from ..features import summed
from ..form import Form, arranged, divided, mapped, mapped_to, unwound
from ..steps import Scale
from .constants import reduced
from .synapses import image_rank, read_pads

__all__ = ["POOLING"]

_LARGEST_COMMON = 2**16
"""That windows of different sizes are brought to, such as 9 for those of 4, 6 and 9 elements."""


@dataclass(frozen=True)
class _Window:
    """Of a pool over images of ``rank`` axes."""

    rank: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Sequence[int]
    dilation: tuple[int, int]
    ceil: bool


def _window(call: Call, form: Form) -> _Window:
    """Of images, or of those of a volume one by one: ``MaxPool3d((1, 3, 3))`` is used on ``[T, N, C, H, W]``."""
    volume = len(form.dims) == 5
    rank = 3 if volume else image_rank(call, form)
    sides = rank - 1 + volume
    kernel, strides = call.get_ints("kernel_shape", sides, ()), call.get_ints("strides", sides)
    dilations = call.get_ints("dilations", sides)
    if volume:
        padded = call.get_ints("pads", 2 * sides, [0] * 2 * sides)
        if (kernel[0], strides[0], padded[0], padded[3]) != (1, 1, 0, 0):
            call.refuse("its windows span time steps, or channels", "use windows of one plane, such as (1, 3, 3)")
    pads = read_pads(call, form.dims[-sides:], kernel, strides, dilations)
    kernel, strides, dilations = (each[volume:] for each in (kernel, strides, dilations))
    return _Window(rank, _plane(kernel), _plane(strides), pads, _plane(dilations), bool(call.get_int("ceil_mode", 0)))


def _average_pool(call: Call) -> Value:
    form = call.form()
    window = _window(call, form)
    if window.dilation != (1, 1):
        call.refuse("it is dilated", "use AvgPool2d")
    counts = bool(call.get_int("count_include_pad", 0))
    return _averaged(call, form, window.rank, window.kernel, window.stride, window.pads, window.ceil, counts)


def _averaged(
    call: Call,
    form: Form,
    rank: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Sequence[int],
    ceil: bool = False,
    counts_padding: bool = True,
) -> Form:
    """A mean over a window is a sum with equal weights, divided by its size.

    Windows at the edge may be smaller, because padding does not count or because they reach beyond it (``ceil_mode``): then a
    factor for each place makes them all as large as one that each of them divides, but for powers of two.
    """
    image = unwound(form, rank).features
    _check_kernel(call, kernel, stride)
    size = windows(image[1:], kernel, stride, pads, (1, 1), ceil)
    call.budget.take(8 * sum(size))
    elements = [_elements(image, size, kernel, stride, pads, axis, counts_padding) for axis in range(2)]
    low, high = list(pads[:2]), list(pads[2:])
    if ceil:
        ends = [(size[axis] - 1) * stride[axis] + kernel[axis] for axis in range(2)]
        high = [max(high[axis], ends[axis] - image[1 + axis] - low[axis]) for axis in range(2)]
    call.budget.take(image[0] * prod(kernel))
    ones = Conv(np.ones((image[0], 1, *kernel)), stride, (low[0], low[1], high[0], high[1]), groups=image[0])
    sums = mapped_to(form, ones, rank)
    if all((each == each[0]).all() for each in elements):
        return divided(sums, int(elements[0][0] * elements[1][0]))
    call.budget.take(prod(size))
    counts = np.multiply.outer(*elements)[None]
    common = lcm(*(count // (count & -count) for count in np.unique(counts).tolist()))
    # Beyond that, factors would no longer be exact in the sums of a large window.
    common = common if common <= _LARGEST_COMMON else 1
    return divided(mapped(sums, Scale(common / counts)), common)


def _elements(
    image: Shape,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    axis: int,
    counts_padding: bool,
) -> Array:
    """How many elements count along one axis, window by window; at least one, since a window of padding alone gives 0."""
    first = np.arange(size[axis]) * stride[axis] - pads[axis]
    low, high = (-pads[axis], image[1 + axis] + pads[axis + 2]) if counts_padding else (0, image[1 + axis])
    elements: Array = np.maximum(np.minimum(first + kernel[axis], high) - np.maximum(first, low), 1)
    return elements


def _global_average_pool(call: Call) -> Value:
    form = call.form()
    rank = image_rank(call, form)
    size = _plane(form.dims[2:])
    return _averaged(call, form, rank, size, size, (0, 0, 0, 0))


def _reduce_mean(call: Call) -> Value:
    form = call.form()
    axes = _axes(call, form)
    return _dropped(call, divided(summed(form, axes), prod(form.dims[axis] for axis in axes)), axes)


def _reduce_sum(call: Call) -> Value:
    form = call.form()
    axes = _axes(call, form)
    return _dropped(call, summed(form, axes), axes)


def _axes(call: Call, form: Form) -> list[int]:
    """Over which axes a node reduces its input."""
    axes = call.axes(1, len(form.dims))
    if axes is None and call.get_int("noop_with_empty_axes", 0):
        return []
    return list(range(len(form.dims))) if axes is None else sorted(set(axes))


def _dropped(call: Call, form: Form, axes: Sequence[int]) -> Form:
    """Without the axes that were reduced, where the node does not keep them."""
    if call.get_int("keepdims", 1):
        return form
    return arranged(form, [size for axis, size in enumerate(form.dims) if axis not in axes])


def _max_pool(call: Call) -> Value:
    form = call.form()
    window = _window(call, form)
    return _largest(call, form, window.rank, window.kernel, window.stride, window.pads, window.dilation, window.ceil)


def _global_max_pool(call: Call) -> Value:
    form = call.form()
    size = _plane(form.dims[2:])
    return _largest(call, form, image_rank(call, form), size, size, (0, 0, 0, 0))


def _reduce_max(call: Call) -> Value:
    """Of the whole image a MaxPool, as AdaptiveMaxPool2d(1) is exported; along other axes whether any of the spikes comes."""
    form = call.form()
    axes, last = _axes(call, form), len(form.dims)
    for rank in (3, 2):
        if axes == list(range(last - rank + 1, last)):
            size = _plane(form.dims[last - rank + 1 :])
            return _dropped(call, _largest(call, form, rank, size, size, (0, 0, 0, 0)), axes)
    if call.gates is None:
        call.refuse("it pools inside a loop", "pool outside of the recurrent container")
    return _dropped(call, call.gates.any_along(call, form, axes), axes)


def _largest(
    call: Call,
    form: Form,
    rank: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Sequence[int],
    dilation: tuple[int, int] = (1, 1),
    ceil: bool = False,
) -> Form:
    """The largest of some spikes is a spike if any of them is: an OR. Places beyond the edge never win, and never fire here."""
    if call.gates is None:
        call.refuse("it pools inside a loop", "pool outside of the recurrent container")
    image = unwound(form, rank).features
    _check_kernel(call, kernel, stride)
    size = windows(image[1:], kernel, stride, pads, dilation, ceil)
    low, high = list(pads[:2]), list(pads[2:])
    if ceil:
        # The last window may reach beyond the padding; what it finds there never wins.
        ends = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
        high = [max(high[i], ends[i] - image[1 + i] - low[i]) for i in range(2)]
    call.budget.take(image[0] * prod(kernel))
    window = Conv(np.full((image[0], 1, *kernel), 2), stride, (low[0], low[1], high[0], high[1]), dilation, image[0])
    pooled: Form = call.gates.largest(call, form, window, rank)
    return pooled


def _check_kernel(call: Call, kernel: Sequence[int], stride: Sequence[int]) -> None:
    if min(*kernel, *stride) < 1:
        call.refuse("a kernel or stride is below 1", "use at least 1")


def _plane(values: Sequence[int]) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


POOLING: Mapping[str, Operator] = {
    "AveragePool": Operator(None, _average_pool),
    "GlobalAveragePool": Operator(None, _global_average_pool),
    "GlobalMaxPool": Operator(None, _global_max_pool),
    "MaxPool": Operator(None, _max_pool),
    "ReduceMax": Operator(reduced(np.max), _reduce_max),
    "ReduceMean": Operator(reduced(np.mean), _reduce_mean),
    "ReduceSum": Operator(reduced(np.sum), _reduce_sum),
}
"""A new operator is a line here."""
