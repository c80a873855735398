"""What a value on the way is: linear maps of spikes, and a constant. Adding, joining and cutting values are operations on
these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm, prod

import numpy as np

from ..network import Array, Conv, Dense, Shape
from .axes import BATCH, FEATURE, SAMPLES, STEPS, TIME, Atom, Axes, dims_of, feature_axes, features_last, joined, listed, reshaped
from .budget import Budget
from .steps import Scale, Select, Step, View, applied, output_shape

__all__ = [
    "Form",
    "FormError",
    "Term",
    "added",
    "aligned",
    "arranged",
    "at_step",
    "axis_kind",
    "common_divisor",
    "constant_form",
    "delayed",
    "divided",
    "ending_at",
    "filled_form",
    "in_one_order",
    "lead_axes",
    "mapped",
    "mapped_along_last",
    "mapped_to",
    "multiplied",
    "rearranged",
    "scaled",
    "shifted",
    "source",
    "trailing_features",
    "transposed",
    "unwound",
    "with_constant",
]


_CALLS_PER_TERM = 16
"""What a term costs in an operation on its form, in calls of NumPy."""
_LARGEST_DIVISOR = 2**53
"""Beyond which float64 does not tell whole numbers apart."""


class FormError(Exception):
    """Why a value is not affine in spikes, or not arranged as an operator needs it; and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Term:
    """What one source adds.

    Args:
        source: an input, a population, or a state of a loop.
        shape: of its spikes, as the first step reads them.
        delay: time steps that they are late.
        steps: applied to them, in order.
        divisor: what the result is still to be divided by, at least 1: the sizes of the windows of pools that are no power of
            two, kept apart so that ties of sums stay ties.
    """

    source: str
    shape: Shape
    delay: int = 0
    steps: tuple[Step, ...] = ()
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class Form:
    """The sum of ``terms``, and a constant.

    Args:
        axes: where time, batch and features lie.
        features: the natural shape of one sample at one time step.
        terms: their steps all end with ``features``.
        numerator: of the constant, float64, with as many axes as ``features``, broadcast to it.
        budget: of the file that the value comes from, on which all draw that is done with it.
        divisor: of the constant, as that of a :class:`Term`.
        at: the time step that it is the value of, counted from 0; None for all of them. What its terms are late by counts from
            there.
    """

    axes: Axes
    features: Shape
    terms: tuple[Term, ...]
    numerator: Array
    budget: Budget
    divisor: int = 1
    at: int | None = None

    @property
    def constant(self) -> Array:
        """What is added to the terms, as float64 has it."""
        return self.numerator if self.divisor == 1 else self.numerator / self.divisor

    @property
    def dims(self) -> Shape:
        """The shape of the value in the graph, with the stand-ins for T and N."""
        return dims_of(self.axes)

    @property
    def has_constant(self) -> bool:
        """Whether the constant is not zero."""
        return bool(self.numerator.any())


def source(name: str, lead: Axes, features: Shape, budget: Budget, given: Sequence[int] | None = None) -> Form:
    """The spikes of ``name`` themselves; ``given`` are the last dimensions, where they are not ``features``."""
    tail = reshaped(feature_axes(features), features if given is None else given)
    assert tail is not None
    return Form((*lead, *tail), features, (Term(name, features),), np.zeros((1,) * len(features)), budget)


def constant_form(like: Form, values: Array) -> Form:
    """What the graph broadcasts to ``like``, as a form without terms."""
    return with_constant(replace(like, terms=()), aligned(like, values))


def filled_form(dims: Sequence[int], number: float, budget: Budget) -> Form:
    """One number everywhere, such as what a state starts with, as a form without terms.

    Args:
        dims: with the stand-ins for T and N.
        number: everywhere.
        budget: of the file.

    Raises:
        FormError: its features are of more than three dimensions.
    """
    kinds = {STEPS: TIME, SAMPLES: BATCH}
    features = natural([size for size in dims if size not in kinds] or [1])
    rest = iter(reshaped(feature_axes(features), [size for size in dims if size not in kinds]) or ())
    axes = tuple((Atom(kinds[size], size),) if size in kinds else next(rest) for size in dims)
    return Form(axes, features, (), np.full((1,) * len(features), number), budget)


def with_constant(form: Form, values: Array) -> Form:
    """The same with another constant, of as many axes as its features."""
    return replace(form, numerator=values, divisor=1)


def natural(given: Sequence[int]) -> Shape:
    """The features that the last dimensions of a value stand for: (F,), (C, H, W), or (C, 1, L) for one-dimensional layers.

    Raises:
        FormError: they are of another rank.
    """
    match tuple(given):
        case (size,):
            return (size,)
        case (channels, length):
            return (channels, 1, length)
        case (channels, height, width):
            return (channels, height, width)
    raise FormError(f"its features are [{listed(given)}]", "use features of one to three dimensions, (F), (C, L) or (C, H, W)")


def arranged(form: Form, dims: Sequence[int]) -> Form:
    """Reshaped to ``dims``."""
    axes = reshaped(form.axes, dims) if prod(dims) == prod(form.dims) and prod(dims) > 0 else None
    if axes is None:
        raise FormError(
            f"its target shape [{listed(dims)}] does not hold its input [{listed(form.dims)}] without splitting time or batch",
            "export it with T and N left open, and keep them apart from the features",
        )
    return replace(form, axes=axes)


def at_step(form: Form, step: int) -> Form:
    """A value of an earlier time step, or a constant, as one of the time step ``step``.

    Raises:
        FormError: it is a value of a later one, or of all time steps.
    """
    if form.at is None and not form.terms:
        return replace(form, at=step)
    if form.at is None:
        raise FormError("it puts one time step and all of them together", "work on single steps, or on all of them")
    if form.at > step:
        raise FormError("it reads a time step that is still to come", "work on the time steps that are there")
    late = step - form.at
    terms = tuple(replace(term, delay=term.delay + late) for term in form.terms if term.delay + late <= step)
    return replace(form, at=step, terms=terms)


def transposed(form: Form, order: Sequence[int]) -> Form:
    """The axes in another order."""
    return replace(form, axes=tuple(form.axes[axis] for axis in order))


def unwound(form: Form, rank: int, features: Shape | None = None) -> Form:
    """The same with its last ``rank`` axes being one sample at one time step, in natural order.

    Args:
        form: any.
        rank: how many of the last axes are to be features.
        features: the natural shape wanted; by default what :func:`natural` makes of those axes.

    Raises:
        FormError: those axes are something else.
    """
    given = form.dims[len(form.dims) - rank :]
    if rank > len(form.dims) or not features_last(form.axes, rank):
        raise FormError(
            f"it reads [{listed(given)}] of [{listed(form.dims)}] where one time step of one sample is [{listed(form.features)}]",
            "fold only time and batch",
        )
    wanted = natural(given) if features is None else features
    if min(given, default=1) < 1:
        raise FormError("it has no elements", "use layers of at least one element")
    order = joined([atom for axis in form.axes[len(form.axes) - rank :] for atom in axis])
    if len(order) > 1:
        # The features come in another order than their natural one: say so by a selection.
        form.budget.take(2 * prod(form.features))
        index = np.zeros(1, np.int64)
        for atom in order:
            index = (index[:, None] + np.arange(atom.size) * atom.stride).reshape(-1)
        form = mapped(form, View((prod(form.features),)))
        form = mapped(form, Select(index))
    form = form if form.features == wanted else mapped(form, View(wanted))
    return rearranged(form, len(form.axes) - rank, given)


def rearranged(form: Form, lead: int, given: Sequence[int]) -> Form:
    """The same behind its first ``lead`` axes with its features in their natural order, arranged as ``given``."""
    tail = reshaped(feature_axes(form.features), given)
    assert tail is not None
    return replace(form, axes=(*form.axes[:lead], *tail))


def mapped(form: Form, step: Step) -> Form:
    """``step`` applied to the features; the axes are those of before, so that the caller has to say where features lie now.

    Raises:
        NetworkError: the step does not fit.
    """
    features = output_shape(step, form.features)
    form.budget.work(0, _CALLS_PER_TERM * len(form.terms))
    constant = _numerator_through(step, form, features)
    terms = tuple(replace(term, steps=(*term.steps, step)) for term in form.terms)
    return replace(form, features=features, terms=terms, numerator=constant)


def _numerator_through(step: Step, form: Form, features: Shape) -> Array:
    if not form.has_constant:
        return np.zeros((1,) * len(features))
    numerator = form.numerator
    if isinstance(step, Scale):
        _take_broadcast(form.budget, numerator, step.factor)
        return np.asarray(numerator * step.factor)
    if isinstance(step, Conv) and not any(step.pads) and numerator.shape[1:] == (1, 1):
        # The same everywhere in the plane, and no zeros around it.
        per_channel = np.broadcast_to(numerator.reshape(-1), (form.features[0],)).reshape(step.groups, 1, -1)
        weight = step.weight.astype(np.float64).sum(axis=(2, 3)).reshape(step.groups, -1, step.weight.shape[1])
        return np.asarray((weight * per_channel).sum(axis=2).reshape(-1, 1, 1))
    form.budget.take(prod(form.features))
    through: Array = applied(step, np.broadcast_to(numerator, form.features)[None], form.budget)[0].reshape(features)
    return through


def _take_broadcast(budget: Budget, one: Array, other: Array) -> None:
    """Account for what NumPy makes of two arrays: a column and a row are a matrix."""
    budget.take(prod(np.broadcast_shapes(one.shape, other.shape)))


def mapped_to(form: Form, step: Step, rank: int, given: Sequence[int] | None = None) -> Form:
    """``step`` applied to the last ``rank`` axes, which are then as many as its output (or ``given``) has.

    Raises:
        FormError, NetworkError: as :func:`unwound` and :func:`mapped`.
    """
    read = unwound(form, rank)
    done = mapped(read, step)
    if given is None:
        given = done.features if rank != 2 else (done.features[0], done.features[2])
    return rearranged(done, len(read.axes) - rank, given)


def mapped_along_last(form: Form, weight: Array) -> Form:
    """Each row along the last axis times ``weight`` ``[O, I]``: the same matrix at all other places of the features.

    Raises:
        FormError, NetworkError: as :func:`unwound` and :func:`mapped`.
    """
    rank = trailing_features(form)
    if rank < 2:
        return mapped_to(form, Dense(weight), 1)
    read = unwound(form, rank)
    *others, size = read.dims[len(read.dims) - rank :]
    rows = prod(others)
    done = mapped(mapped(read, View((1, rows, size))), Conv(weight[:, None, None, :]))
    lead = read.axes[: len(read.axes) - rank]
    if 1 in (rows, len(weight)):  # as it comes, it is in order
        done = mapped(done, View((*read.features[:-1], len(weight))))
        return replace(done, axes=(*lead, *feature_axes((*others, len(weight)))))
    return replace(done, axes=(*lead, *feature_axes(tuple(others)), (Atom(FEATURE, len(weight), rows),)))


def aligned(form: Form, values: Array) -> Array:
    """``values``, which the graph broadcasts to ``form.dims``, as what they are for each feature: broadcast to ``features``.

    Raises:
        FormError: they differ between time steps or samples, or have more axes than the form.
    """
    if values.ndim > len(form.dims):
        lead = values.shape[: values.ndim - len(form.dims)]
        if prod(lead) != 1:
            raise FormError(f"its constant has the shape {values.shape}, more axes than its input", "give it the input's shape")
        values = values.reshape(values.shape[len(lead) :])
    values = values.reshape((1,) * (len(form.dims) - values.ndim) + values.shape).astype(np.float64)
    shape: list[int] = []
    atoms: list[Atom] = []
    for axis, size, given in zip(form.axes, form.dims, values.shape, strict=True):
        if given not in (1, size):
            raise FormError(f"its constant {list(values.shape)} is not broadcast to [{listed(form.dims)}]", "give it that shape")
        if given != 1 and any(atom.kind != FEATURE for atom in axis):
            raise FormError("its constant differs between time steps or samples", "use one for all of them")
        shape += [atom.size if given != 1 else 1 for atom in axis]
        atoms += axis
    values = values.reshape(shape)
    order = sorted((i for i, atom in enumerate(atoms) if atom.kind == FEATURE), key=lambda i: -atoms[i].stride)
    rest = [i for i, atom in enumerate(atoms) if atom.kind != FEATURE]
    values = values.transpose(*rest, *order).reshape([values.shape[i] for i in order])
    sizes = [atoms[i].size for i in order]
    # Compact where each dimension of the features is one atom, as it usually is.
    compact, at = [], 0
    for size in form.features:
        start, count = at, 1
        while count < size:
            count *= sizes[at]
            at += 1
        parts = values.shape[start:at]
        if count != size or not (all(part == 1 for part in parts) or list(parts) == sizes[start:at]):
            form.budget.take(prod(sizes))
            return np.ascontiguousarray(np.broadcast_to(values, sizes)).reshape(form.features)
        compact.append(prod(parts))
    return values.reshape(compact)


def scaled(form: Form, factor: Array) -> Form:
    """Multiplied by what the graph broadcasts to it."""
    return _times(form, aligned(form, factor))


def _times(form: Form, factor: Array) -> Form:
    if (factor == 1).all():
        return form
    if (factor == 0).all():
        return with_constant(replace(form, terms=()), np.zeros_like(form.numerator))
    return mapped(form, Scale(factor))


def multiplied(form: Form, constant: Form) -> Form:
    """Multiplied by a form without terms."""
    if form.dims != constant.dims or form.features != constant.features or not _same_order(form.axes, constant.axes):
        raise FormError("it multiplies values of different shapes", "multiply values of one shape")
    return _times(form, constant.constant)


def shifted(form: Form, values: Array) -> Form:
    """With a constant added that the graph broadcasts to it."""
    constant = aligned(form, values)
    _take_broadcast(form.budget, form.numerator, constant)
    return replace(form, numerator=form.numerator + constant * form.divisor)


def added(first: Form, second: Form) -> Form:
    """The sum of two values of one shape.

    Raises:
        FormError: their shapes differ, or their time steps.
    """
    if first.dims != second.dims:
        raise FormError(f"it adds [{listed(first.dims)}] and [{listed(second.dims)}]", "add values of one shape")
    first, second = in_one_order(first, second)
    # A value that is added to itself again and again has two to the power of many terms.
    first.budget.work(0, _CALLS_PER_TERM * (len(first.terms) + len(second.terms)))
    terms = list(first.terms)
    places = {key: i for i, key in enumerate(map(_as_factor, terms)) if key is not None}
    for term in second.terms:
        key = _as_factor(term)
        same = None if key is None else places.get(key)
        if same is None:
            terms.append(term)
        else:
            terms[same] = replace(terms[same], steps=(Scale(_factor(terms[same]) + _factor(term)),))
    _take_broadcast(first.budget, first.numerator, second.numerator)
    divisor = _common(first.divisor, second.divisor)
    numerator = first.numerator * (divisor / first.divisor) + second.numerator * (divisor / second.divisor)
    return replace(first, terms=tuple(terms), numerator=numerator, divisor=divisor)


def in_one_order(first: Form, second: Form) -> tuple[Form, Form]:
    """Two values of one shape, whose features, time steps and samples lie in the same order.

    Raises:
        FormError: their time steps and samples do not.
    """
    if first.at != second.at:  # at the later one of two time steps
        step = max(form.at for form in (first, second) if form.at is not None)
        first, second = at_step(first, step), at_step(second, step)
    if first.features != second.features or not _same_order(first.axes, second.axes):
        rank = trailing_features(first)
        first = unwound(first, rank)
        second = unwound(second, rank, first.features)
        if not _same_order(first.axes, second.axes):
            raise FormError("it reads values whose time and batch are in another order", "permute them alike")
    return first, second


def _as_factor(term: Term) -> tuple[object, ...] | None:
    """What terms have in common that are no more than factors of the same spikes, so that the factors can be added."""
    if not all(isinstance(step, Scale) for step in term.steps):
        return None
    return (term.source, term.shape, term.delay, term.divisor)


def _factor(term: Term) -> Array:
    factor: Array = np.ones((1,) * len(term.shape))
    for step in term.steps:
        assert isinstance(step, Scale)
        factor = factor * step.factor
    return factor


def _same_order(first: Axes, second: Axes) -> bool:
    return all(joined(a) == joined(b) for a, b in zip(first, second, strict=True))


def trailing_features(form: Form) -> int:
    """How many of the last axes are features.

    Raises:
        FormError: features stand elsewhere as well.
    """
    rank = 0
    for axis in reversed(form.axes):
        if any(atom.kind != FEATURE for atom in axis):
            break
        rank += 1
    while rank and not features_last(form.axes, rank):
        rank -= 1
    # Axes of one element before the features may be time or batch of one.
    while rank > 3 and form.dims[len(form.dims) - rank] == 1:
        rank -= 1
    if not features_last(form.axes, rank):
        raise FormError(f"its features are not the last axes of [{listed(form.dims)}]", "put them last")
    return rank


def axis_kind(form: Form, axis: int) -> str:
    """:data:`TIME`, :data:`BATCH`, or ``"F"`` for features; empty for a mixture."""
    kinds = {atom.kind for atom in form.axes[axis]}
    return kinds.pop() if len(kinds) == 1 else FEATURE if not kinds else ""


def delayed(form: Form, steps: int, axis: int = 0) -> Form:
    """With ``steps`` time steps of zeros before it, or, below zero, as many of them taken away; time is along ``axis``.

    Raises:
        FormError: spikes themselves would be taken away, or a constant would have to begin later.
    """
    if any(atom.kind != TIME for atom in form.axes[axis]) or (not form.axes[axis] and form.dims[axis] != 1):
        raise FormError("its first axis is not time alone", "put time first")
    if form.has_constant and steps:
        raise FormError("it delays sums that a bias is in already", "put the delay before the synapse")
    if any(term.delay + steps < 0 for term in form.terms):
        raise FormError(
            "it drops the first spikes",
            "let the network begin with the first step, and put what feeds spikes back into a LinearRecurrentContainer",
        )
    late = ending_at(form, form.dims[axis] + steps, axis)
    return replace(late, terms=tuple(replace(term, delay=term.delay + steps) for term in form.terms))


def ending_at(form: Form, length: int, axis: int = 0) -> Form:
    """The axis of time as long as ``length``."""
    return replace(form, axes=(*form.axes[:axis], _of_size(TIME, length), *form.axes[axis + 1 :]))


def _of_size(kind: str, size: int) -> tuple[Atom, ...]:
    return (Atom(kind, size),) if size > 1 else ()


def lead_axes(steps: int, samples: int) -> Axes:
    """Time and batch."""
    return (_of_size(TIME, steps), _of_size(BATCH, samples))


def common_divisor(form: Form) -> int:
    """The least number that makes every divisor whole."""
    return _common(form.divisor, *(term.divisor for term in form.terms))


def _common(*divisors: int) -> int:
    """Their least common multiple; 1 where float64 could not hold it, so that nothing is gained by it."""
    common = lcm(*divisors)
    return common if common <= _LARGEST_DIVISOR else 1


def divided(form: Form, by: int) -> Form:
    """Divided by the size of a window, exactly."""
    if by == 1:
        return form
    largest = max([form.divisor, *(term.divisor for term in form.terms)])
    if by & (by - 1) == 0 or largest * by > _LARGEST_DIVISOR:
        return mapped(form, Scale(np.full((1,) * len(form.features), 1 / by)))
    terms = tuple(replace(term, divisor=term.divisor * by) for term in form.terms)
    return replace(form, terms=terms, divisor=form.divisor * by)
