"""Operators that leave every number as it is: other shapes, other types, parts, and values side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ...network import Array, Conv
from ..axes import STEPS, TIME, listed
from ..call import Call, Filled, Operator, Value
from ..features import joined_along, lead_of, picked, selected
from ..form import Form, arranged, axis_kind, delayed, ending_at, mapped_to, shifted, transposed, with_constant
from ..one_step import joined_in_time, one_step
from ..repeating import is_shown_along, repeated, shown
from .functions import of_spikes

__all__ = ["ARRANGEMENT"]

_NUMBERS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_WHOLE = (ir.DataType.INT32, ir.DataType.INT64)
_FEW = 1024


def _same(call: Call) -> Form | Filled:
    value = call.inputs[0] if call.inputs else None
    if not isinstance(value, Form | Filled):
        return call.form()
    return value


def _dropout(call: Call) -> Value:
    if call.has(2) and call.constant(2).any():
        call.refuse("it drops spikes at random", "export the network in evaluation mode (net.eval())")
    return _same(call)


def _cast(call: Call) -> Value:
    value = _same(call)
    target = call.get_int("to", 0)
    if target == ir.DataType.BOOL and isinstance(value, Form):
        if not value.terms:
            return with_constant(value, (value.constant != 0).astype(np.float64))
        return of_spikes(call, lambda values: values != 0)
    if target in _WHOLE and isinstance(value, Form) and not _whole(value):
        call.refuse("it rounds sums that are not whole numbers", "leave out the cast, or cast to float32")
    if target not in (*_NUMBERS, *_WHOLE):
        call.refuse("it casts to a type that does not hold all sums", "cast to float32")
    return value


def _whole(form: Form) -> bool:
    """Whether all steps and the constant are whole, so that a cast to integers changes nothing."""
    if any(term.divisor != 1 for term in form.terms) or (form.constant != np.rint(form.constant)).any():
        return False
    numbers = [getattr(step, "weight", getattr(step, "factor", None)) for term in form.terms for step in term.steps]
    return all(each is None or bool((each == np.rint(each)).all()) for each in numbers)


def _cast_constant(call: Call, inputs: list[Array]) -> Array:
    target = ir.DataType(call.get_int("to", 0)).numpy()
    if inputs[0].dtype.kind not in "biuf" or target.kind not in "biuf":
        raise ValueError("it casts something else than numbers")
    with np.errstate(all="ignore"):
        return inputs[0].astype(target)


def _targets(call: Call, given: Sequence[int], dims: Sequence[int]) -> list[int]:
    """What a Reshape asks for, with 0 and -1 replaced."""
    target = list(given)
    if not call.get_int("allowzero", 0):
        if any(dim == 0 and axis >= len(dims) for axis, dim in enumerate(target)):
            call.refuse("it keeps a dimension that its input does not have", "write the target shape out")
        target = [dims[axis] if dim == 0 else dim for axis, dim in enumerate(target)]
    known = prod(dim for dim in target if dim != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = prod(dims) // known
    return target


def _reshape(call: Call) -> Value:
    value = _same(call)
    target = _targets(call, call.whole_numbers(1), value.dims)
    return _to_dims(call, value, target)


def _to_dims(call: Call, value: Form | Filled, target: Sequence[int]) -> Value:
    if isinstance(value, Form):
        return arranged(value, target)
    if prod(target) != prod(value.dims):
        call.refuse(f"its target shape [{listed(target)}] does not hold its input", "export it with T and N left open")
    return replace(value, dims=tuple(target))


def _reshape_constant(call: Call, inputs: list[Array]) -> Array:
    data, shape = inputs
    return data.reshape(_targets(call, [int(dim) for dim in shape.reshape(-1)], data.shape))


def _flatten(call: Call) -> Value:
    value = _same(call)
    axis = call.get_int("axis", 1) % (len(value.dims) + 1)
    return _to_dims(call, value, (prod(value.dims[:axis]), prod(value.dims[axis:])))


def _squeeze(call: Call) -> Value:
    value = _same(call)
    axes = call.axes(1, len(value.dims))
    gone = {axis for axis, dim in enumerate(value.dims) if dim == 1} if axes is None else set(axes)
    return _to_dims(call, value, [dim for axis, dim in enumerate(value.dims) if axis not in gone])


def _squeeze_constant(call: Call, inputs: list[Array]) -> Array:
    axes = call.axes(1, inputs[0].ndim)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _unsqueezed(call: Call, rank: int) -> tuple[int, ...]:
    count = len(call.whole_numbers(1)) if call.has(1) else len(call.attribute(call.node.attributes.get_ints, "axes", ()))
    return tuple(call.axes(1, rank + count) or ())


def _unsqueeze(call: Call) -> Value:
    value = _same(call)
    new = set(_unsqueezed(call, len(value.dims)))
    rest = iter(value.dims)
    return _to_dims(call, value, [1 if axis in new else next(rest, -1) for axis in range(len(value.dims) + len(new))])


def _unsqueeze_constant(call: Call, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], _unsqueezed(call, inputs[0].ndim))


def _order(call: Call, rank: int) -> list[int]:
    order = [int(axis) for axis in call.attribute(call.node.attributes.get_ints, "perm", range(rank)[::-1])]
    if sorted(order) != list(range(rank)):
        call.refuse(f"its permutation {order} is none of {rank} axes", "permute the axes that its input has")
    return order


def _transpose(call: Call) -> Value:
    form = call.form()
    return transposed(form, _order(call, len(form.axes)))


def _expand(call: Call) -> Value:
    value = _same(call)
    target = call.whole_numbers(1)
    dims = (1,) * (len(target) - len(value.dims)) + value.dims
    wanted = tuple(max(a, b) for a, b in zip(dims, (1,) * (len(dims) - len(target)) + tuple(target), strict=True))
    if isinstance(value, Filled):
        return replace(value, dims=wanted)
    return repeated(arranged(value, dims), wanted)


def _tile(call: Call) -> Value:
    form, times = call.form(), call.whole_numbers(1)
    if len(times) != len(form.dims):
        call.refuse(f"it repeats {len(times)} of {len(form.dims)} axes", "write it as the operator's schema says")
    for axis, count in enumerate(times):
        if count > 1 and is_shown_along(form, axis):
            form = shown(form, axis, count)
        elif count != 1:
            if axis_kind(form, axis) != "F" or count < 1:
                call.refuse("it repeats time steps or samples", "feed the network with the repeated input itself")
            form.budget.take(2 * form.dims[axis] * count)
            form = selected(form, axis, np.tile(np.arange(form.dims[axis]), count))
    return form


def _tile_constant(call: Call, inputs: list[Array]) -> Array:
    data, times = inputs
    counts = [int(count) for count in times.reshape(-1)]
    call.budget.take(prod([data.size, *map(abs, counts)]), data.itemsize)
    return np.tile(data, counts)


def _expand_constant(call: Call, inputs: list[Array]) -> Any:
    data, shape = inputs
    target = np.broadcast_shapes(data.shape, tuple(int(dim) for dim in shape.reshape(-1)))
    if data.size == 1 and prod(target) > _FEW and data.dtype.kind in "biuf":
        return Filled(target, float(data.reshape(-1)[0]))
    call.budget.take(prod(target), data.itemsize)
    return np.broadcast_to(data, target)


def _cuts(call: Call, dims: Sequence[int]) -> dict[int, slice]:
    """The axes of which a Slice takes a part."""
    if call.has(1):
        starts, ends = call.whole_numbers(1), call.whole_numbers(2)
        axes = call.axes(3, len(dims)) if call.has(3) else list(range(len(starts)))
        steps = call.whole_numbers(4) if call.has(4) else [1] * len(starts)
    else:
        read = call.node.attributes.get_ints
        starts, ends = (list(call.attribute(read, name, ())) for name in ("starts", "ends"))
        axes, steps = list(call.attribute(read, "axes", range(len(starts)))), [1] * len(starts)
    if axes is None or not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        call.refuse("it has not one start, end, axis and step for each cut", "write it as the operator's schema says")
    if any(not -len(dims) <= axis < len(dims) for axis in axes):
        call.refuse(f"it cuts axes {axes} of {len(dims)}", "name axes that its input has")
    return {
        axis % len(dims): slice(*slice(start, end, step).indices(dims[axis])) if step > 0 else slice(start, end, step)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }


def _slice(call: Call) -> Value:
    value = _same(call)
    for axis, cut in _cuts(call, value.dims).items():
        size = value.dims[axis]
        index = range(size)[cut]
        if isinstance(value, Filled) or not len(index):  # nothing of it: torch.roll by 0 joins that with the whole
            number = value.value if isinstance(value, Filled) else 0.0
            value = Filled((*value.dims[:axis], len(index), *value.dims[axis + 1 :]), number)
        elif index != range(size):
            value = _part(call, value, axis, index)
    return value


def _part(call: Call, form: Form, axis: int, index: range) -> Form:
    if axis_kind(form, axis) != TIME or (form.dims[axis] == 1 and axis):
        if axis_kind(form, axis) != "F":
            call.refuse("it cuts samples, or several axes at once", "cut time steps or features")
        return selected(form, axis, np.array(index, np.int64))
    if len(index) == 1 and form.dims[axis] > 2 and _is_known(form, axis):
        return one_step(form, axis, index.start)
    if index.step != 1:
        call.refuse("it takes some time steps and leaves out others", "put it behind the last spiking layer")
    # It may take zeros away again at the beginning; the end is up to whoever asks for T steps.
    return ending_at(delayed(form, -index.start, axis), len(index), axis)


def _slice_constant(call: Call, inputs: list[Array]) -> Array:
    cuts = _cuts(call, inputs[0].shape)
    return inputs[0][tuple(cuts.get(axis, slice(None)) for axis in range(inputs[0].ndim))]


def _gather(call: Call) -> Value:
    form = _same(call)
    indices, axis = call.constant(1), call.axis(len(form.dims), 0)
    size = form.dims[axis]
    if indices.dtype.kind not in "iu":
        call.refuse("it picks by no table of whole numbers", "pick along one axis by whole numbers")
    call.budget.take(2 * indices.size)
    if indices.size == 0 or indices.min() < -size or indices.max() >= size:
        call.refuse(f"it picks elements that are not among {size}", "pick elements that there are")
    if isinstance(form, Filled):
        return replace(form, dims=form.dims[:axis] + indices.shape + form.dims[axis + 1 :])
    index = indices.reshape(-1).astype(np.int64) % size
    if index.size == 1 and axis_kind(form, axis) == TIME and _is_known(form, axis):
        form = one_step(form, axis, int(index[0]))
    elif size > 1 or index.size > 1:
        if axis_kind(form, axis) != "F":
            call.refuse("it picks time steps or samples", "put it behind the last spiking layer")
        form = selected(form, axis, index)
    return form if indices.ndim == 1 else arranged(form, form.dims[:axis] + indices.shape + form.dims[axis + 1 :])


def _is_known(form: Form, axis: int) -> bool:
    """Whether the file says how many time steps there are, of which several then can be looked at one by one."""
    return form.at is None and 1 < form.dims[axis] != STEPS


def _gather_constant(call: Call, inputs: list[Array]) -> Array:
    data, indices = inputs
    axis = call.axis(data.ndim, 0)
    call.budget.take(data.size // max(data.shape[axis], 1) * indices.size)
    return np.asarray(np.take(data, indices, axis=axis))


def _gather_nd(call: Call) -> Value:
    """Elements by their places along the first axes, as torch's indices with lists are exported."""
    form, indices = call.form(), call.constant(1)
    lead, axes = lead_of(form), indices.shape[-1] if indices.ndim else 0
    if call.get_int("batch_dims", 0) or indices.dtype.kind not in "iu" or not 1 <= axes <= len(form.dims):
        call.refuse("it picks by no table of whole numbers", "pick along one axis")
    if any(axis < axes for axis in lead):
        call.refuse("it picks time steps or samples", "put it behind the last spiking layer")
    sizes, rest = form.dims[:axes], [size for axis, size in enumerate(form.dims) if axis >= axes and axis not in lead]
    if not indices.size or (indices < -np.array(sizes)).any() or (indices >= sizes).any():
        call.refuse(f"it picks elements that are not among {list(sizes)}", "pick elements that there are")
    call.budget.take(indices.size // axes * prod(rest))
    first = np.ravel_multi_index(tuple(np.moveaxis(indices % np.array(sizes), -1, 0)), sizes)
    index = np.asarray(first).reshape(-1, 1) * prod(rest) + np.arange(prod(rest))
    return picked(form, index.reshape(*indices.shape[:-1], *rest), [axis - axes + indices.ndim - 1 for axis in lead])


def _blocks(call: Call) -> Value:
    """DepthToSpace and SpaceToDepth, pixel shuffling."""
    form, size = call.form(), call.get_int("blocksize", None)
    lead = lead_of(form)
    if len(form.dims) != 4 or lead != [0] or size < 1:
        call.refuse("it reads something else than folded images [T * N, C, H, W]", "fold time into the batch")
    channels, height, width = form.dims[1:]
    deep = call.node.op_type == "DepthToSpace"
    if channels % size**2 if deep else (height % size or width % size):
        call.refuse(f"its blocks of {size} do not divide [{listed(form.dims)}]", "use a factor that divides the image")
    call.budget.take(2 * prod(form.dims[1:]))
    places = np.arange(prod(form.dims[1:]))
    if not deep:
        blocks = places.reshape(channels, height // size, size, width // size, size).transpose(2, 4, 0, 1, 3)
        return picked(form, blocks.reshape(-1, height // size, width // size), lead)
    few = channels // size**2
    if call.get_string("mode", "DCR") == "CRD":
        blocks = places.reshape(few, size, size, height, width).transpose(0, 3, 1, 4, 2)
    else:
        blocks = places.reshape(size, size, few, height, width).transpose(2, 3, 0, 4, 1)
    return picked(form, blocks.reshape(few, height * size, width * size), lead)


def _split(call: Call) -> Value | tuple[Value, ...]:
    form = call.form()
    axis = call.axis(len(form.axes), 0)
    size, count = form.dims[axis], len(call.node.outputs)
    if axis_kind(form, axis) == TIME and size == count and _is_known(form, axis):
        return tuple(one_step(form, axis, step) for step in range(size))
    if axis_kind(form, axis) != "F":
        call.refuse("it splits time steps or samples", "split features")
    if call.has(1):
        sizes = call.whole_numbers(1, _FEW)
    else:
        each = -(-size // count)
        sizes = [min(each, size - each * part) for part in range(count)]
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 1:
        call.refuse(f"it splits {size} elements into {sizes}", "split them without a rest")
    starts = np.cumsum([0, *sizes])
    return tuple(selected(form, axis, np.arange(start, start + part)) for start, part in zip(starts, sizes, strict=False))


def _concat(call: Call) -> Value:
    rank = next(len(value.dims) for value in call.inputs if isinstance(value, Form | Filled))
    axis = call.axis(rank)
    given = [at for at, value in enumerate(call.inputs) if not (isinstance(value, Filled) and not value.dims[axis])]
    parts: Sequence[Value | None] = [_zeros(call.inputs[at]) for at in given]
    forms = [part for part in parts if isinstance(part, Form)]
    if not forms:
        call.refuse("it joins numbers whose size depends on T or N", "join spikes")
    if any(len(part.dims) != rank for part in parts if isinstance(part, Form | Filled)):
        call.refuse("it joins values of different ranks", "join values of one shape")
    if len(parts) == 1:
        return forms[0]
    if all(part is parts[0] for part in parts) and is_shown_along(forms[0], axis):
        return shown(forms[0], axis, len(parts))
    if any(form.at is not None for form in forms):  # zeros, too, are then the spikes of a time step
        parts = forms = [call.form(at) for at in given]
        if not forms[-1].axes[axis]:
            return joined_in_time(forms, axis)
    elif axis_kind(forms[0], axis) == TIME or (axis == 0 and len(forms) == 1):
        return _steps_joined(call, axis, parts)
    known = [part for part in parts if isinstance(part, Form | Filled)]
    others = [part.dims[:axis] + part.dims[axis + 1 :] for part in known]
    if len(known) != len(parts) or any(other != others[0] for other in others):
        call.refuse("it joins spikes with something else, or of other shapes", "join spikes of one size along their channels")
    if axis_kind(forms[0], axis) != "F":
        call.refuse("it joins samples", "join features along their channels")
    joined = joined_along([part.dims[axis] if isinstance(part, Filled) else part for part in known], axis)
    numbers = [np.full(part.dims[axis], part.value if isinstance(part, Filled) else 0.0) for part in known]
    constant = np.concatenate(numbers).reshape(-1, *[1] * (rank - 1 - axis))
    return shifted(joined, constant) if constant.any() else joined


def _zeros(value: Value | None) -> Value | None:
    """Steps of zeros before spikes; where T and N are fixed they come as a constant."""
    if isinstance(value, np.ndarray) and not value.any() and value.ndim:
        return Filled(value.shape, 0.0)
    return value


def _steps_joined(call: Call, axis: int, parts: Sequence[Value | None]) -> Form:
    first, last = (parts[0], parts[1]) if len(parts) == 2 else (None, None)
    if not isinstance(first, Filled) or first.value or not isinstance(last, Form) or axis or first.dims[1:] != last.dims[1:]:
        call.refuse("along time it joins spikes with something else than steps of zeros before them", "use SpikingJelly's Delay")
    return delayed(last, first.dims[0])


def _concat_constant(call: Call, inputs: list[Array]) -> Array:
    call.budget.take(sum(array.size for array in inputs))
    return np.concatenate(inputs, axis=call.get_int("axis", None))


def _pad(call: Call) -> Value:
    form = call.form()
    mode = _MODES.get(call.get_string("mode", "constant"))
    if mode is None:
        call.refuse("it pads with something else than a number or its own elements", "pad with zeros")
    pads = call.whole_numbers(1) if call.has(1) else list(call.attribute(call.node.attributes.get_ints, "pads", ()))
    rank = len(form.dims)
    axes = call.axes(3, rank) if call.has(3) else list(range(rank))
    if axes is None or len(pads) != 2 * len(axes):
        call.refuse(f"its padding {pads} is not two numbers for each axis", "pad with two numbers for each axis")
    if mode != "constant":
        return _padded_with_its_own(call, form, {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}, mode)
    around = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes) if pads[i] or pads[i + len(axes)]}
    number = call.constant(2).reshape(-1)[0] if call.has(2) else call.attribute(call.node.attributes.get_float, "value", 0.0)
    if not np.isfinite(number):
        call.refuse("it pads with something that is no finite number", "pad with zeros")
    padded = _padded_with_zeros(call, form, dict(around))
    if not number:
        return padded
    inside = np.ones((1,) * rank)
    for axis, (low, high) in around.items():
        call.budget.take(inside.size * (padded.dims[axis] + 1))
        kept = np.ones(padded.dims[axis] - max(low, 0) - max(high, 0))
        inside = inside * np.pad(kept, (max(low, 0), max(high, 0))).reshape(-1, *[1] * (rank - 1 - axis))
    return shifted(padded, (1 - inside) * number)


def _padded_with_zeros(call: Call, form: Form, around: dict[int, tuple[int, int]]) -> Form:
    rank = len(form.dims)
    for axis in [axis for axis in around if axis_kind(form, axis) == TIME]:
        low, high = around.pop(axis)
        if high > 0:
            call.refuse(
                "it adds time steps behind the last one, so that what follows runs longer than its input",
                "pad time at the front alone, F.pad(x, (kernel_size - 1, 0)), and give the input steps of zeros at its end",
            )
        form = ending_at(delayed(form, low, axis), form.dims[axis] + low + high, axis)
    image = set(around) <= {rank - 2, rank - 1} and all(axis_kind(form, axis) == "F" for axis in range(rank - 3, rank))
    if around and image and rank >= 4 and not form.has_constant:
        (top, bottom), (left, right) = around.get(rank - 2, (0, 0)), around.get(rank - 1, (0, 0))
        channels = form.dims[rank - 3]
        call.budget.take(channels)
        ones = Conv(np.ones((channels, 1, 1, 1)), pads=(top, left, bottom, right), groups=channels)
        return mapped_to(form, ones, 3)
    for axis, (low, high) in around.items():
        if axis_kind(form, axis) != "F":
            call.refuse("it pads time steps or samples", "pad features")
        size = form.dims[axis]
        call.budget.take(3 * max(0, size + low + high))
        index = np.arange(-low, size + high)
        form = selected(form, axis, np.where((index < 0) | (index >= size), -1, index))
    return form


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _padded_with_its_own(call: Call, form: Form, around: Mapping[int, tuple[int, int]], mode: str) -> Form:
    for axis, (low, high) in around.items():
        if (low, high) == (0, 0):
            continue
        if axis_kind(form, axis) != "F" or min(low, high) < 0:
            call.refuse("it pads time steps or samples, or takes some away", "pad features, and cut with a slice")
        call.budget.take(3 * (form.dims[axis] + low + high))
        index = np.pad(np.arange(form.dims[axis]), (low, high), mode=mode)  # type: ignore[call-overload]
        form = selected(form, axis, index)
    return form


def _shape(call: Call) -> Value:
    value = _same(call)
    if max(value.dims, default=0) >= 2**63:
        call.refuse("its dimensions do not fit 64 bits", "use smaller layers")
    return _dims(call, np.array(value.dims, np.int64))


def _dims(call: Call, dims: Array) -> Array:
    return dims[slice(call.get_int("start", 0), call.get_int("end", len(dims)))]


ARRANGEMENT: Mapping[str, Operator] = {
    "Cast": Operator(_cast_constant, _cast),
    "Concat": Operator(_concat_constant, _concat),
    "DepthToSpace": Operator(None, _blocks),
    "Dropout": Operator(lambda call, inputs: inputs[0], _dropout),
    "Expand": Operator(_expand_constant, _expand),
    "Flatten": Operator(None, _flatten),
    "Gather": Operator(_gather_constant, _gather),
    "GatherND": Operator(None, _gather_nd),
    "Identity": Operator(lambda call, inputs: inputs[0], _same),
    "Pad": Operator(None, _pad),
    "Reshape": Operator(_reshape_constant, _reshape),
    "Shape": Operator(lambda call, inputs: _dims(call, np.array(inputs[0].shape, np.int64)), _shape),
    "Slice": Operator(_slice_constant, _slice),
    "SpaceToDepth": Operator(None, _blocks),
    "Split": Operator(None, _split),
    "Squeeze": Operator(_squeeze_constant, _squeeze),
    "Tile": Operator(_tile_constant, _tile),
    "Transpose": Operator(lambda call, inputs: np.transpose(inputs[0], _order(call, inputs[0].ndim)), _transpose),
    "Unsqueeze": Operator(_unsqueeze_constant, _unsqueeze),
}
"""A new operator is a line here."""
