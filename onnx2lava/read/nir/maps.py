"""What nodes of NIR without neurons do to a form: a table by their types."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from ...network import Array, Conv, Dense, Pads
from ..axes import STEPS
from ..call import Call
from ..form import Form, added, arranged, delayed, divided, ending_at, mapped_to, scaled, shifted
from .content import Node

__all__ = ["MAPS", "array"]

_WHOLE = 1e-3
"""How far a delay may be from a whole number of time steps, in time steps."""
_LEAD = 2  # time and batch


def array(call: Call, node: Node, name: str, default: float | None = None) -> Array:
    """Finite numbers among the fields of a node, float64."""
    found = node.fields.get(name)
    if found is None and default is not None:
        found = default
    try:
        values = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if not values.size or not np.isfinite(values).all():
        call.refuse(f"its {name} is missing, or not all of it is finite numbers", "write it again with its fields filled in")
    return values


def _whole(call: Call, node: Node, name: str, count: int, default: int | None = None) -> tuple[int, ...]:
    """So many whole numbers; one stands for all."""
    values = array(call, node, name, default).reshape(-1)
    if values.size not in (1, count) or (values != np.rint(values)).any() or np.abs(values).max() >= 2**31:
        call.refuse(f"its {name} is not {count} whole numbers", "give one for each axis of the image")
    return tuple(int(value) for value in np.broadcast_to(values, (count,)))


def _linear(call: Call, node: Node, form: Form, dt: float) -> Form:
    weight = array(call, node, "weight")
    given = form.dims[_LEAD:]
    if weight.ndim != 2 or given != weight.shape[1:]:
        call.refuse(
            f"its weight {list(weight.shape)} reads one axis, but {list(given)} comes in",
            "put a Flatten node before it, and let the Input have no axes for time and batch",
        )
    return mapped_to(form, Dense(weight), 1)


def _affine(call: Call, node: Node, form: Form, dt: float) -> Form:
    sums = _linear(call, node, form, dt)
    return shifted(sums, array(call, node, "bias"))


def _convolution(call: Call, node: Node, form: Form, sides: int) -> Form:
    weight = array(call, node, "weight")
    if weight.ndim != sides + 2 or len(form.dims) != _LEAD + sides + 1:
        call.refuse(
            f"its weight has {weight.ndim} axes and its input {len(form.dims) - _LEAD}", f"give it {sides + 2} and {sides + 1}"
        )
    strides, dilations = _whole(call, node, "stride", sides, 1), _whole(call, node, "dilation", sides, 1)
    (groups,) = _whole(call, node, "groups", 1, 1)
    pads = _padding(call, node, weight.shape[2:], strides, dilations)
    step = Conv(weight if sides == 2 else weight[:, :, None], _plane(strides), pads, _plane(dilations), groups)
    sums = mapped_to(form, step, sides + 1)
    if node.fields.get("bias") is None:
        return sums
    bias = array(call, node, "bias").reshape(-1)
    if bias.size not in (1, len(weight)):
        call.refuse(f"its bias has {bias.size} values for {len(weight)} channels", "give it one value for each channel")
    return shifted(sums, np.broadcast_to(bias, (len(weight),)).reshape(-1, *[1] * sides))


def _conv1d(call: Call, node: Node, form: Form, dt: float) -> Form:
    return _convolution(call, node, form, 1)


def _conv2d(call: Call, node: Node, form: Form, dt: float) -> Form:
    return _convolution(call, node, form, 2)


def _padding(call: Call, node: Node, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Pads:
    """As torch pads: of an odd number of zeros that "same" needs, one more comes last."""
    sides = len(kernel)
    given = node.fields.get("padding")
    if isinstance(given, str) and given in ("same", "valid"):
        total = [0] * sides
        if given == "same":
            if set(strides) != {1}:
                call.refuse('its padding is "same", but its stride is not 1', "write the padding as numbers")
            total = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
        low = [each // 2 for each in total]
        high = [each - before for each, before in zip(total, low, strict=True)]
    else:
        low = high = list(_whole(call, node, "padding", sides, 0))
        if min(low) < 0:
            call.refuse(f"its padding is {low}, below 0", "pad with zeros or not at all")
    return (low[0], low[1], high[0], high[1]) if sides == 2 else (0, low[0], 0, high[0])


def _plane(values: tuple[int, ...]) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def _sums_of_windows(call: Call, node: Node, form: Form) -> tuple[Form, int]:
    if len(form.dims) != _LEAD + 3:
        call.refuse(f"it pools {len(form.dims) - _LEAD} axes", "pool images (C, H, W)")
    kernel = _plane(_whole(call, node, "kernel_size", 2))
    stride, padding = _plane(_whole(call, node, "stride", 2, None)), _plane(_whole(call, node, "padding", 2, 0))
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        call.refuse("its kernel_size, stride or padding is too small", "use at least 1, 1 and 0")
    channels = form.dims[_LEAD]
    call.budget.take(channels * kernel[0] * kernel[1])
    ones = Conv(np.ones((channels, 1, *kernel)), stride, (*padding, *padding), groups=channels)
    return mapped_to(form, ones, 3), kernel[0] * kernel[1]


def _sum_pool(call: Call, node: Node, form: Form, dt: float) -> Form:
    return _sums_of_windows(call, node, form)[0]


def _average_pool(call: Call, node: Node, form: Form, dt: float) -> Form:
    """Zeros around the image count, as in torch by default."""
    sums, count = _sums_of_windows(call, node, form)
    return divided(sums, count)


def _flatten(call: Call, node: Node, form: Form, dt: float) -> Form:
    given = form.dims[_LEAD:]
    (first,), (last,) = _whole(call, node, "start_dim", 1, 1), _whole(call, node, "end_dim", 1, -1)
    first, last = (axis + len(given) if axis < 0 else axis for axis in (first, last))
    if len(given) == 1 and first in (0, 1):
        return form
    if not 0 <= first <= last < len(given):
        call.refuse(f"it flattens the axes {first} to {last} of {list(given)}", "count axes without time and batch")
    whole = int(np.prod(given[first : last + 1]))
    return arranged(form, (*form.dims[:_LEAD], *given[:first], whole, *given[last + 1 :]))


def _scale(call: Call, node: Node, form: Form, dt: float) -> Form:
    return scaled(form, array(call, node, "scale"))


def _delay(call: Call, node: Node, form: Form, dt: float) -> Form:
    steps = array(call, node, "delay") / dt
    whole = np.rint(steps)
    if (whole < 0).any() or (np.abs(steps - whole) > _WHOLE).any() or whole.max() > STEPS:
        call.refuse(
            f"its delays are {steps.min():g} to {steps.max():g} steps of {dt:g} s", "delay by whole numbers of steps, or give dt"
        )
    late = np.unique(whole)
    call.budget.work(0, len(late) ** 2)
    parts = [ending_at(delayed(scaled(form, whole == each), int(each)), form.dims[0]) for each in late]
    return reduce(added, parts)


MAPS: Mapping[str, Callable[[Call, Node, Form, float], Any]] = {
    "Affine": _affine,
    "AvgPool2d": _average_pool,
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "Delay": _delay,
    "Flatten": _flatten,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _sum_pool,
}
"""A new node is a line here. Each takes the call, the node, the form that comes in, and the seconds of a time step."""
