"""Elements picked from features, side by side, and added up along axes, wherever those stand and however many there are."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..network import Array, Conv, Sparse
from .axes import BATCH, TIME
from .form import Form, FormError, added, mapped, natural, rearranged, trailing_features, transposed, unwound
from .steps import Select, View

__all__ = ["joined_along", "lead_of", "picked", "selected", "summed"]


def lead_of(form: Form) -> list[int]:
    """The axes that hold time steps or samples."""
    return [axis for axis, atoms in enumerate(form.axes) if any(atom.kind in (TIME, BATCH) for atom in atoms)]


def picked(form: Form, index: Array, at: Sequence[int]) -> Form:
    """Elements of one sample at one time step, in another arrangement.

    Args:
        form: any whose axes of time steps and samples hold nothing else.
        index: for each element that comes out which one it is, -1 for zero. They are counted along the axes of features, in the
            order in which ``form`` has them; ``index`` has the axes that come out but for those of time and samples.
        at: where those come out, in their order.
    """
    form, lead, _ = _lead_first(form)
    dims = form.dims[lead:]
    form.budget.take(2 * index.size)
    form = mapped(unwound(form, len(dims), (prod(dims),)), Select(index.reshape(-1)))
    form = rearranged(form, lead, index.shape)
    axes = list(form.axes[lead:])
    for place, axis in sorted(zip(at, form.axes[:lead], strict=True)):
        axes.insert(place, axis)
    return replace(form, axes=tuple(axes))


def summed(form: Form, axes: Collection[int]) -> Form:
    """The sum over some axes of features, which then have one element.

    Raises:
        FormError: they hold time steps or samples.
    """
    if set(axes) & set(lead_of(form)):
        raise FormError("it works along time steps or samples", "put it behind the last spiking layer")
    apart, lead, order = _lead_first(form)
    given = apart.dims[lead:]
    gone = [axis in axes for axis in order[lead:]]
    left = tuple(1 if each else size for size, each in zip(given, gone, strict=True))
    if len(given) > 3 or len(given) == 1:
        apart = unwound(apart, len(given), (prod(given),))
        apart.budget.take(4 * prod(given))
        over = [axis for axis, each in enumerate(gone) if each]
        kept = [axis for axis, each in enumerate(gone) if not each]
        columns = np.arange(prod(given)).reshape(given).transpose(*kept, *over).reshape(prod(left), -1)
        apart = mapped(apart, Sparse(np.ones(columns.shape), columns, prod(given)))
    else:
        apart = unwound(apart, len(given))
        channels, height, width = apart.features
        whole_channels, whole_height, whole_width = gone if len(given) == 3 else [gone[0], False, gone[1]]
        kernel = (height if whole_height else 1, width if whole_width else 1)
        groups = 1 if whole_channels else channels
        apart.budget.take(channels * prod(kernel))
        apart = mapped(apart, Conv(np.ones((groups, channels // groups, *kernel)), groups=groups))
    return transposed(rearranged(apart, lead, left), np.argsort(order).tolist())


def _lead_first(form: Form) -> tuple[Form, int, list[int]]:
    """Time steps and samples before the features; over how many axes those extend, and the order in which the axes come."""
    lead = lead_of(form)
    order = [*lead, *(axis for axis in range(len(form.axes)) if axis not in lead)]
    return transposed(form, order), len(lead), order


def selected(form: Form, axis: int, index: Array) -> Form:
    """Of the features along ``axis``, those of ``index``, in that order; -1 for zeros.

    Raises:
        FormError: ``axis`` is no axis of features, or nothing is selected.
    """
    if not len(index):
        raise FormError("it has no elements", "use layers of at least one element")
    lead = lead_of(form)
    if axis in lead:
        raise FormError("it cuts or joins samples", "work on each sample alone")
    if lead != list(range(len(lead))):  # features before time steps or samples
        apart, _, order = _lead_first(form)
        return transposed(selected(apart, order.index(axis), index), np.argsort(order).tolist())
    rank = trailing_features(form)
    at = axis - (len(form.axes) - rank)
    if rank > 3 or at < 0:
        dims = form.dims[len(lead) :]
        form.budget.take(2 * prod(dims) // max(form.dims[axis], 1) * len(index))
        numbers = np.take(np.arange(prod(dims)).reshape(dims), np.maximum(index, 0), axis=axis - len(lead))
        mask = (index >= 0).reshape(-1, *[1] * (len(form.dims) - 1 - axis))
        return picked(form, np.where(mask, numbers, -1), lead)
    form = unwound(form, rank)
    given = list(form.dims[len(form.dims) - rank :])
    if form.has_constant:
        form.budget.take(prod(form.features) // given[at] * (given[at] + 2 * len(index)))
        whole = np.broadcast_to(form.numerator, form.features).reshape(given)
        mask = (index >= 0).reshape(-1, *[1] * (rank - 1 - at))
        numerator = np.where(mask, np.take(whole, np.maximum(index, 0), axis=at), 0.0)
    given[at] = len(index)
    features = natural(given)
    if at == 0:
        result = mapped(replace(form, numerator=np.zeros_like(form.numerator)), Select(index))
    else:
        result = _selected_inside(form, at, rank, index)
    if form.has_constant:
        result = replace(result, numerator=numerator.reshape(features))
    return rearranged(replace(result, features=features), len(form.axes) - rank, given)


def _selected_inside(form: Form, at: int, rank: int, index: Array) -> Form:
    """Along height or width: a crop or zeros around are a convolution of one element; all else is a selection of all."""
    form = replace(form, numerator=np.zeros_like(form.numerator))
    image = 1 if at == rank - 1 else 0  # along height (0) or width (1)
    inside = np.flatnonzero(index >= 0)
    size = form.features[1 + image]
    if len(inside) and np.array_equal(index[inside], index[inside[0]] + np.arange(len(inside))) and _contiguous(inside):
        pads = [0, 0, 0, 0]
        pads[image] = int(inside[0] - index[inside[0]])
        pads[image + 2] = int(len(index) - 1 - inside[-1]) - int(size - 1 - index[inside[-1]])
        form.budget.take(form.features[0])
        step = Conv(np.ones((form.features[0], 1, 1, 1)), pads=(pads[0], pads[1], pads[2], pads[3]), groups=form.features[0])
        # Zeros may only lie where the input does not reach: a crop and zeros on one side are two steps.
        low = inside[0] == 0 or index[inside[0]] == 0
        if low and (inside[-1] == len(index) - 1 or index[inside[-1]] == size - 1):
            return mapped(form, step)
    shape = list(form.features)
    form.budget.take(prod(shape) // size * (size + 2 * len(index)))
    places = np.arange(prod(shape)).reshape(shape)
    taken = np.take(places, np.maximum(index, 0), axis=1 + image)
    mask = (index >= 0).reshape(-1, *[1] * (1 - image))
    flat = np.where(mask, taken, -1)
    result = mapped(form, View((prod(shape),)))
    return mapped(mapped(result, Select(flat.reshape(-1))), View(flat.shape))


def _contiguous(inside: Array) -> bool:
    return bool(inside[-1] - inside[0] + 1 == len(inside))


def joined_along(parts: Sequence[Form | int], axis: int) -> Form:
    """Values joined along an axis of features; a number stands for so many zeros."""
    sizes = [part if isinstance(part, int) else part.dims[axis] for part in parts]
    starts = np.cumsum([0, *sizes])
    total: Form | None = None
    for form, start, size in zip(parts, starts, sizes, strict=False):
        if isinstance(form, int):
            continue
        form.budget.take(int(starts[-1]))
        index = np.full(int(starts[-1]), -1, np.int64)
        index[start : start + size] = np.arange(size)
        part = selected(form, axis, index)
        total = part if total is None else added(total, part)
    assert total is not None
    return total
