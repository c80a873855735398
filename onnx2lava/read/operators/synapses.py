"""Operators that make sums of spikes."""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from ...network import Array, Conv, ConvTranspose, Dense, Pads, Sparse
from ..axes import TIME
from ..call import Call, Filled, Operator, Value
from ..features import selected
from ..form import (
    Form,
    added,
    axis_kind,
    delayed,
    ending_at,
    mapped,
    mapped_along_last,
    mapped_to,
    rearranged,
    scaled,
    shifted,
    transposed,
    unwound,
)
from ..steps import View, ungrouped
from .products import matrices_of_spikes

__all__ = ["SYNAPSES", "image_rank", "read_pads"]


def image_rank(call: Call, form: Form) -> int:
    """2 for one-dimensional images ``(C, L)`` of folded time and batch, 3 for ``(C, H, W)``."""
    rank = len(form.dims) - 1
    if rank not in (2, 3):
        call.refuse(
            f"it reads {len(form.dims)} axes, not images with time folded into the batch",
            "use a layer of one or two dimensions, such as layer.Conv2d",
        )
    return rank


def _conv(call: Call) -> Value:
    form, weight = call.form(), call.constant(1)
    time = [axis for axis in range(2, len(form.dims)) if axis_kind(form, axis) == TIME]
    if time and weight.ndim == len(form.dims) <= 5:
        return _conv_over_time(call, form, weight, time[0])
    rank = image_rank(call, form)
    _check_rank(call, weight, rank)
    strides, dilations, pads = _window(call, form, weight.shape[2:])
    step = Conv(_as_image(weight), strides, pads, dilations, call.get_int("group", 1))
    return _with_bias(call, mapped_to(form, step, rank), len(weight), rank)


def _conv_over_time(call: Call, form: Form, weight: Array, axis: int) -> Value:
    """A convolution along time, ``[N, C, T]`` or with an image behind: for each place of its kernel a synapse that is so late."""
    sides, groups = len(form.dims) - 2, call.get_int("group", 1)
    strides, dilations = list(call.get_ints("strides", sides)), list(call.get_ints("dilations", sides))
    pads = list(call.get_ints("pads", 2 * sides, [0] * 2 * sides))
    if call.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or strides.pop(axis - 2) != 1:
        call.refuse("it takes some time steps and leaves out others, or pads them", "use stride 1 along time, and write pads out")
    after, before, apart = pads.pop(sides + axis - 2), pads.pop(axis - 2), dilations.pop(axis - 2)
    length = form.dims[axis] + before + after - apart * (weight.shape[axis] - 1)
    order = [axis, *(each for each in range(len(form.dims)) if each != axis)]
    total: Form | None = None
    for place in range(weight.shape[axis]):
        at = np.take(weight, place, axis)
        late = before - apart * place
        if total is not None and not at.any():
            continue
        if any(term.delay + late < 0 for term in form.terms):
            call.refuse(
                "it reads time steps that are still to come",
                "pad time at the front alone, F.pad(x, (kernel_size - 1, 0)), so that no step reads later ones",
            )
        part = transposed(ending_at(delayed(form, late, axis), length, axis), order)
        if sides == 1:
            part = mapped_to(part, Dense(ungrouped(at[:, :, None, None], groups, call.budget)[:, :, 0, 0]), 1)
        else:
            window = _two(strides), _four(pads), _two(dilations)
            part = mapped_to(part, Conv(_as_image(at), *window, groups), sides)
        total = part if total is None else added(total, part)
    if total is None:
        call.refuse("its kernel has no elements", "use a kernel of at least one element")
    return _with_bias(call, transposed(total, np.argsort(order).tolist()), len(weight), sides + 1)


def _conv_transpose(call: Call) -> Value:
    form, weight = call.form(), call.constant(1)
    rank = image_rank(call, form)
    _check_rank(call, weight, rank)
    sides = rank - 1
    groups = call.get_int("group", 1)
    strides, dilations = call.get_ints("strides", sides), call.get_ints("dilations", sides)
    more = call.get_ints("output_padding", sides, [0] * sides)
    pads = list(call.get_ints("pads", 2 * sides, [0] * 2 * sides))
    if call.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in call.node.attributes:
        call.refuse("it leaves its padding to the runtime", "write its pads out")
    pads = [pad - (more[axis - sides] if axis >= sides else 0) for axis, pad in enumerate(pads)]
    step = ConvTranspose(_as_image(weight), _two(strides), _four(pads), _two(dilations), groups)
    return _with_bias(call, mapped_to(form, step, rank), weight.shape[1] * groups, rank)


def _resize(call: Call) -> Value:
    """Nearest upsampling by whole factors is a transposed convolution that repeats each spike; else places read one or a few."""
    form = call.form()
    rank = image_rank(call, form)
    sides = rank - 1
    if call.node.op_type == "Upsample":
        factors = call.constant(1) if call.has(1) else None
    elif call.has(3):
        sizes = call.whole_numbers(3)
        factors = np.array(sizes) / np.array(form.dims) if len(sizes) == len(form.dims) else None
    else:
        factors = call.constant(2) if call.has(2) else None
    mode = call.get_string("mode", "nearest")
    if factors is None or factors.shape != (len(form.dims),):
        call.refuse("it does not say how much larger each axis becomes", "use nn.Upsample with a whole scale_factor")
    if not (np.isfinite(factors) & (factors > 0)).all():
        call.refuse("it scales an axis by no positive number", "use nn.Upsample with a whole scale_factor")
    if mode == "nearest" and (resized := _picked_sizes(call, form, factors)) is not None:
        return resized
    if mode == "linear" and (between := _interpolated(call, form, factors, rank)) is not None:
        return between
    whole = np.rint(factors)
    if mode != "nearest" or (np.abs(whole - factors) > 1e-6).any() or (whole[:2] != 1).any() or whole.min() < 1:
        call.refuse(
            "it interpolates by cubics, or by something else than whole factors along height and width",
            "use nn.Upsample with the mode 'nearest' or 'bilinear'",
        )
    plane = _two([int(factor) for factor in whole[2:]], sides)
    channels = form.dims[1]
    call.budget.take(channels * prod(plane))
    step = ConvTranspose(np.ones((channels, 1, *plane)), plane, groups=channels)
    return mapped_to(form, step, rank)


_PLACES: dict[str, Callable[[Array, float, int], Array]] = {
    "align_corners": lambda at, factor, size: at * (size - 1) / max(len(at) - 1, 1),
    "asymmetric": lambda at, factor, size: at / factor,
    "half_pixel": lambda at, factor, size: (at + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda at, factor, size: (at + 0.5) / factor - 0.5 if len(at) > 1 else np.zeros(1),
}
"""Where in the input each place of the output lies, along an axis; ONNX's ``Resize`` gives the formulas."""


def _interpolated(call: Call, form: Form, factors: Array, rank: int) -> Form | None:
    """Linear interpolation along height and width: each place reads up to four, by how near it lies."""
    place = _PLACES.get(call.get_string("coordinate_transformation_mode", "half_pixel"))
    if place is None or (factors[:2] != 1).any() or call.get_int("antialias", 0) or call.get_int("exclude_outside", 0):
        return None
    read = unwound(form, rank)
    channels, made = read.features[0], [read.features[0]]
    columns: Array = np.arange(channels)[:, None]
    weights: Array = np.ones((channels, 1))
    for size, factor in zip(read.features[1:], [1.0] * (3 - rank) + factors[2:].tolist(), strict=True):
        made.append(round(size * factor) if call.has(3) else int(size * factor))
        call.budget.take(8 * max(made[-1], 1) * columns.size)
        at = np.arange(made[-1], dtype=np.float64)
        at = np.clip(at if factor == 1 else place(at, factor, size), 0, size - 1)
        low = np.floor(at).astype(np.int64)
        near, pair = np.stack([1 - (at - low), at - low], 1), np.stack([low, low + 1], 1)
        known = (columns >= 0)[:, None, :, None] & (near > 0)[None, :, None, :]
        columns = np.where(known, columns[:, None, :, None] * size + pair[None, :, None, :], -1)
        weights = np.where(known, weights[:, None, :, None] * near[None, :, None, :], 0.0)
        columns, weights = columns.reshape(prod(made), -1), weights.reshape(prod(made), -1)
    done = mapped(mapped(read, Sparse(weights, columns, prod(read.features))), View((made[0], made[1], made[2])))
    return rearranged(done, len(form.dims) - rank, made if rank == 3 else (made[0], made[2]))


def _picked_sizes(call: Call, form: Form, factors: Array) -> Form | None:
    """Nearest, by other than whole factors, as torch rounds: the element at ``floor(i / factor)``; None for whole factors."""
    whole = bool((np.abs(np.rint(factors) - factors) <= 1e-6).all() and factors.min() >= 1)
    rounds_down = call.get_string("nearest_mode", "round_prefer_floor") == "floor"
    if whole or not rounds_down or call.get_string("coordinate_transformation_mode", "half_pixel") != "asymmetric":
        return None
    for axis, (size, factor) in enumerate(zip(form.dims, factors.tolist(), strict=True)):
        if factor != 1:
            length = round(size * factor) if call.has(3) else int(size * factor)
            call.budget.take(2 * max(length, 0))
            form = selected(form, axis, np.minimum(np.arange(length) / factor, size - 1).astype(np.int64))
    return form


def _with_bias(call: Call, form: Form, channels: int, rank: int) -> Form:
    if not call.has(2):
        return form
    return shifted(form, _bias(call, 2, channels).reshape(-1, *[1] * (rank - 1)))


def _bias(call: Call, index: int, channels: int) -> Array:
    bias = call.constant(index)
    if bias.size not in (1, channels) or bias.size != max((1, *bias.shape)):
        call.refuse(f"its bias has {bias.size} values for {channels} channels", "give it one value for each channel")
    return np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.float64)


def _check_rank(call: Call, weight: Array, rank: int) -> None:
    if weight.ndim != rank + 1:
        call.refuse(
            f"its weight has {weight.ndim} axes for images of {rank}", "fold time into the batch before it, as layer.Conv2d does"
        )


def _as_image(weight: Array) -> Array:
    return weight if weight.ndim == 4 else weight[:, :, None]


def _window(call: Call, form: Form, kernel: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int], Pads]:
    """Strides, dilations and pads of a window over the last axes."""
    sides = len(kernel)
    strides, dilations = call.get_ints("strides", sides), call.get_ints("dilations", sides)
    pads = read_pads(call, form.dims[len(form.dims) - sides :], kernel, strides, dilations)
    return _two(strides), _two(dilations), pads


def read_pads(call: Call, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Pads:
    """The zeros around an image of ``size``, as the attributes ``pads`` or ``auto_pad`` say."""
    sides = len(size)
    mode = call.get_string("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-length // max(step, 1)) - 1) * step + dilate * (k - 1) + 1 - length, 0)
            for length, k, step, dilate in zip(size, kernel, strides, dilations, strict=True)
        ]
        upper, lower = [-(-total // 2) for total in totals], [total // 2 for total in totals]
        return _four([*lower, *upper] if mode == "SAME_UPPER" else [*upper, *lower])
    pads = call.get_ints("pads", 2 * sides, [0] * 2 * sides)
    if min(pads) < 0:
        call.refuse(f"its padding is {list(pads)}, below 0", "crop with a Slice instead")
    return _four(pads)


def _two(values: Sequence[int], sides: int = 0) -> tuple[int, int]:
    """Along height and width; a one-dimensional image has a height of 1."""
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def _four(pads: Sequence[int]) -> Pads:
    if len(pads) == 6:  # of a volume, plane by plane
        pads = (*pads[1:3], *pads[4:])
    return (pads[0], pads[1], pads[2], pads[3]) if len(pads) == 4 else (0, pads[0], 0, pads[1])


def _gemm(call: Call) -> Value:
    form, weight = call.form(), call.constant(1)
    if len(form.dims) != 2 or weight.ndim != 2 or call.get_int("transA", 0):
        call.refuse("it does not multiply folded spikes [T * N, F] by a matrix", "use layer.Linear")
    weight = weight if call.get_int("transB", 0) else weight.T
    alpha, beta = call.get_float("alpha", 1.0), call.get_float("beta", 1.0)
    sums = _linear(call, form, weight if alpha == 1 else weight * alpha)
    return shifted(sums, _bias(call, 2, len(weight)) * beta) if call.has(2) else sums


def _matmul(call: Call) -> Value:
    if isinstance(call.inputs[0], Form) and isinstance(call.inputs[1], Form):
        return matrices_of_spikes(call)
    if not isinstance(call.inputs[0], Form | Filled):
        form, weight = call.form(1), call.constant(0)
        if weight.ndim != 2 or len(form.dims) < 2:
            call.refuse("its first input is not a matrix", "use layer.Linear")
        order = [*range(len(form.dims) - 2), len(form.dims) - 1, len(form.dims) - 2]
        return transposed(_linear(call, transposed(form, order), weight), order)
    form, weight = call.form(), call.constant(1)
    if weight.ndim != 2:
        call.refuse("its second input is not a matrix", "use layer.Linear")
    return _linear(call, form, weight.T)


def _linear(call: Call, form: Form, weight: Array) -> Form:
    if weight.size == 0 or weight.shape[1] != form.dims[-1]:
        call.refuse(f"its matrix {weight.shape} cannot read {form.dims[-1]} spikes", "use a matrix of that many columns")
    return mapped_along_last(form, weight)


def _multiplied(call: Call, inputs: list[Array]) -> Array:
    one, other = inputs
    if one.ndim != 2 or other.ndim != 2:
        raise ValueError("it multiplies something else than two matrices")
    call.budget.take(one.shape[0] * other.shape[1])
    call.budget.work(one.size * other.shape[1])
    return np.asarray(one @ other)


def _batch_norm(call: Call) -> Value:
    form = call.form()
    if call.get_int("training_mode", 0):
        call.refuse("it normalises each batch by itself", "export the network in evaluation mode (net.eval())")
    scale, shift, mean, variance = (call.constant(index).astype(np.float64) for index in range(1, 5))
    channels = form.dims[1] if len(form.dims) > 1 else 0
    if any(values.shape != (channels,) for values in (scale, shift, mean, variance)):
        call.refuse(f"its statistics are not one number for each of {channels} channels", "fold time into the batch")
    with np.errstate(all="ignore"):  # what ends up not finite is refused as a weight
        factor = scale / np.sqrt(variance + call.get_float("epsilon", 1e-5))
        shift = shift - mean * factor
    column = (-1, *[1] * (len(form.dims) - 2))
    return shifted(scaled(form, factor.reshape(column)), shift.reshape(column))


SYNAPSES: Mapping[str, Operator] = {
    "BatchNormalization": Operator(None, _batch_norm),
    "Conv": Operator(None, _conv),
    "ConvTranspose": Operator(None, _conv_transpose),
    "Gemm": Operator(None, _gemm),
    "MatMul": Operator(_multiplied, _matmul),
    "Resize": Operator(None, _resize),
    "Upsample": Operator(None, _resize),
}
"""A new operator is a line here."""
