"""Values that a graph repeats along axes of one element, as it does where it works on values of different shapes."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..network import ConvTranspose
from .axes import BATCH, TIME, Atom, listed
from .features import lead_of, picked
from .form import Form, FormError, mapped, rearranged, trailing_features, unwound
from .steps import Select

__all__ = ["alike", "is_shown_along", "repeated", "shown"]

_REMEDY = "work on values of one shape"


def alike(first: Form, second: Form) -> tuple[Form, Form]:
    """Both in the shape that they have together, ONNX's broadcasting.

    Raises:
        FormError: they have none, or one would be repeated over time steps or samples.
    """
    rank = max(len(first.axes), len(second.axes))
    first, second = (replace(each, axes=((),) * (rank - len(each.axes)) + each.axes) for each in (first, second))
    one, other = first.dims, second.dims
    if one == other:
        return first, second
    if any(a != b and 1 not in (a, b) for a, b in zip(one, other, strict=True)):
        raise FormError(f"it works on values of the shapes [{listed(one)}] and [{listed(other)}]", _REMEDY)
    dims = tuple(max(sizes) for sizes in zip(one, other, strict=True))
    return repeated(first, dims), repeated(second, dims)


def is_shown_along(form: Form, axis: int) -> bool:
    """Whether ``axis``, of one element, is that of time in a value that has none yet: images that a network shows for some steps.

    It stands before the samples, or behind them where the features have axes of their own beside it.
    """
    still = form.at is None and bool(form.terms) and all(atom.kind != TIME for each in form.axes for atom in each)
    if not still or axis > 1 or form.dims[axis] != 1 or len(form.dims) < 3:
        return False
    if axis == 0:
        return all(atom.kind == BATCH for atom in form.axes[1])
    return all(atom.kind == BATCH for atom in form.axes[0]) and len(form.dims) > 2 + (len(form.features) > 1)


def shown(form: Form, axis: int, steps: int) -> Form:
    """The same at each of ``steps`` time steps, along an axis that :func:`is_shown_along`."""
    return replace(form, axes=(*form.axes[:axis], (Atom(TIME, steps),), *form.axes[axis + 1 :]))


def repeated(form: Form, dims: Sequence[int]) -> Form:
    """The value, repeated along the axes in which it has one element and ``dims`` more.

    Raises:
        FormError: those are not all axes of the features of one sample at one time step.
    """
    wanted = tuple(dims)
    if wanted == form.dims:
        return form
    over_time = [axis for axis in range(min(2, len(wanted))) if wanted[axis] > 1 and is_shown_along(form, axis)]
    if over_time and len(wanted) == len(form.dims):
        return repeated(shown(form, over_time[0], wanted[over_time[0]]), wanted)
    apart = lead_of(form)
    behind = max(apart, default=-1) + 1  # what stands between, of one element, may be time or samples
    if form.dims[:behind] != wanted[:behind]:
        raise FormError(
            f"it repeats [{listed(form.dims)}] as [{listed(wanted)}], over time steps or samples",
            "feed the network with what is repeated, or say that it is fed with images (input='images', --input-kind images)",
        )
    rank = trailing_features(form)
    lead = len(wanted) - rank
    form.budget.take(2 * prod(wanted[behind:]))
    if rank > 3 or form.dims[:lead] != wanted[:lead]:  # more axes than a map has
        given, left = ([size for axis, size in enumerate(sizes) if axis not in apart] for sizes in (form.dims, wanted))
        return picked(form, np.broadcast_to(np.arange(prod(given)).reshape(given), left), apart)
    form = unwound(form, rank)
    target = wanted[lead:] if rank != 2 else (wanted[lead], 1, wanted[lead + 1])
    if form.features[0] != target[0]:
        form = mapped(form, Select(np.zeros(target[0], np.int64)))
    plane = tuple(size if had == 1 else 1 for had, size in zip(form.features[1:], target[1:], strict=True))
    if prod(plane) > 1:  # as nearest upsampling does
        form = mapped(form, ConvTranspose(np.ones((target[0], 1, *plane)), (plane[0], plane[1]), groups=target[0]))
    return rearranged(form, lead, wanted[lead:])
