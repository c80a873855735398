"""Functions of a few spikes, as sums of steps.

A sum of a few spikes, each times a whole number, has few values. Whatever function takes them, its value is that of the lowest
sum, and at each next one something is added or taken away: ``f(s) = f(low) + Σ (f(k) - f(k - 1)) [s >= k]``. A neuron says
whether ``s >= k``. A function of two such sums is one of a single sum that tells their pairs apart: of their difference or of
their sum where that is enough, else of ``a + M b``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ..network import Array, Map
from .budget import Budget
from .compose import simplified
from .form import Form, mapped, with_constant
from .steps import Scale, Step, applied

__all__ = ["FewSpikes", "Function", "Staircase", "few_spikes", "staircase", "through"]

Function: TypeAlias = Callable[..., Any]
MOST = 30
"""Neurons for a function; and so far apart are the lowest and the highest sum of spikes."""
_FARTHEST = 2047
"""The same of counts, which are graded spikes. Of twice as many weight units, a neuron keeps less than one unit after a time
step: too little to decide, since it compares even sums with an odd threshold."""
_ROUNDED = 1e-12
"""What float64 may be off whole numbers by, of the size of sums of a few spikes."""
_FINEST = 12
"""The power of two up to which fractions are made whole."""


@dataclass(frozen=True, eq=False)
class FewSpikes:
    """``factor * spikes / divisor + constant``, where ``spikes`` are whole multiples of a few spikes.

    Args:
        spikes: without a constant.
        divisor: the size of a window of a pool, see :class:`~onnx2lava.read.form.Term`.
        factor: with as many axes as the features.
        constant: likewise.
        low: the least that ``spikes`` add up to.
        high: the most.
    """

    spikes: Form
    divisor: int
    factor: Array
    constant: Array
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Staircase:
    """What a function makes of sums of spikes.

    Args:
        weights: of each of the sums in the one that decides.
        base: what the function gives for the lowest.
        steps: from which sum on how much is added to that.
        slope: what is added for each spike, where that is always the same, so that no neuron has to decide.
        divisor: of all that is added, so that ties of sums stay ties.
    """

    weights: tuple[int, ...]
    base: Array
    steps: tuple[tuple[int, Array], ...]
    slope: Array | None
    divisor: int = 1


def few_spikes(form: Form, largest: int = 1) -> FewSpikes | None:
    """``form`` as few spikes; None where it is something else.

    Args:
        form: its features in their natural order.
        largest: number that a source gives in a time step: more than 1 of counts.
    """
    constant = form.constant
    bare = with_constant(form, np.zeros_like(constant))
    divisors = {term.divisor for term in form.terms}
    divisor = divisors.pop() if len(divisors) == 1 else 1
    bare = replace(bare, terms=tuple(replace(term, divisor=term.divisor // divisor) for term in bare.terms))
    ones: Array = np.ones((1,) * len(form.features))
    for spikes, factor in ((bare, ones), *_without_last_factor(bare), *_without_binary_fractions(bare)):
        ends = _ends(spikes, largest)
        if ends is not None:
            return FewSpikes(spikes, divisor, factor, constant, *ends)
    return None


def _without_last_factor(form: Form) -> Iterator[tuple[Form, Array]]:
    """Where the same factor comes last in all terms: without it, and the factor."""
    last = {id(term.steps[-1]): term.steps[-1] for term in form.terms if term.steps}
    (scale,) = last.values() if len(last) == 1 else (None,)
    if isinstance(scale, Scale) and all(term.steps for term in form.terms):
        yield replace(form, terms=tuple(replace(term, steps=term.steps[:-1]) for term in form.terms)), scale.factor


def _without_binary_fractions(form: Form) -> Iterator[tuple[Form, Array]]:
    """With each step times a power of two that makes its numbers whole, and all terms in one unit; and what undoes that."""
    terms, units = [], []
    for term in form.terms:
        steps, unit = [], 1
        for step in term.steps:
            numbers = _numbers(step)
            times = next((2**k for k in range(_FINEST + 1) if (numbers * 2**k == np.rint(numbers * 2**k)).all()), 0)
            unit *= times
            steps.append(step if times == 1 else _with_numbers(step, numbers * times))
        terms.append(replace(term, steps=tuple(steps)))
        units.append(unit)
    if min(units, default=0) and (common := max(units)) > 1:
        shape = (1,) * len(form.features)
        for at, unit in enumerate(units):
            if unit < common:
                terms[at] = replace(terms[at], steps=(*terms[at].steps, Scale(np.full(shape, common / unit))))
        yield replace(form, terms=tuple(terms)), np.full(shape, 1 / common)


def _numbers(step: Step) -> Array:
    return step.factor if isinstance(step, Scale) else step.weight if isinstance(step, Map) else np.zeros(0)


def _with_numbers(step: Step, numbers: Array) -> Step:
    return Scale(numbers) if isinstance(step, Scale) else replace(step, weight=numbers) if isinstance(step, Map) else step


def _ends(form: Form, largest: int) -> tuple[int, int] | None:
    """The least and the most that the terms add up to; None where that is far apart, or something is no whole multiple of spikes.

    Of maps one after the other it is the sum of what each adds at least and at most, which spikes may not reach.
    """
    form.budget.take(4 * prod(form.features))
    low, high = np.zeros(form.features), np.zeros(form.features)
    for term in form.terms:
        steps, shape = simplified(term.steps, term.shape, form.budget)
        least, most = np.zeros((1, *shape)), np.full((1, *shape), float(largest))
        for step in steps:
            numbers = _numbers(step)
            if term.divisor != 1 or (numbers != np.rint(numbers)).any():
                return None
            least, most = _between(step, least, most, form.budget)
        low, high = low + least.reshape(form.features), high + most.reshape(form.features)
        if not high.max(initial=0) - low.min(initial=0) <= (MOST if largest == 1 else _FARTHEST):
            return None
    return int(low.min(initial=0)), int(high.max(initial=0))


def _between(step: Step, low: Array, high: Array, budget: Budget) -> tuple[Array, Array]:
    """Between what numbers between ``low`` and ``high`` end up behind ``step``."""
    if isinstance(step, Scale):
        return np.minimum(low * step.factor, high * step.factor), np.maximum(low * step.factor, high * step.factor)
    if not isinstance(step, Map):
        return applied(step, low, budget), applied(step, high, budget)
    adds, takes = (_with_numbers(step, np.maximum(sign * step.weight, 0).astype(np.float64)) for sign in (1, -1))
    return (
        applied(adds, low, budget) - applied(takes, high, budget),
        applied(adds, high, budget) - applied(takes, low, budget),
    )


def staircase(
    given: Sequence[FewSpikes], arguments: Sequence[int | Array | None], function: Function, budget: Budget
) -> Staircase | None:
    """The function as a staircase with as few steps as one of the sums allows; None where there is none.

    Args:
        given: one or two values.
        arguments: of ``function``: which of ``given``, or a constant with as many axes as their features; None for one left out.
        function: of arrays.
        budget: of the file.
    """
    sizes = [each.high - each.low + 1 for each in given]
    shapes = [np.shape(each) for one in given for each in (one.factor, one.constant)]
    shape = np.broadcast_shapes(*shapes, *(each.shape for each in arguments if isinstance(each, np.ndarray)))
    budget.take(3 * prod(sizes) * prod(shape))
    values: dict[tuple[int, ...], Array] = {}
    for sums in product(*(range(each.low, each.high + 1) for each in given)):
        numbers = [each.factor * count / each.divisor + each.constant for each, count in zip(given, sums, strict=True)]
        with np.errstate(all="ignore"):
            made = function(*(numbers[each] if isinstance(each, int) else each for each in arguments))
        values[sums] = np.broadcast_to(np.asarray(made, np.float64), shape)
        if not np.isfinite(values[sums]).all():
            return None
    divisor = prod(each.divisor for each in given)
    whole = {sums: np.rint(value * divisor) for sums, value in values.items()}
    if divisor > 1 and all(np.allclose(whole[sums], value * divisor, rtol=0, atol=_ROUNDED) for sums, value in values.items()):
        values = whole
    else:
        divisor = 1
    weights = [(1,)] if len(given) == 1 else [(1, -1), (1, 1), (1, sizes[0]), (sizes[1], 1)]
    found = [each for each in (_of_one_sum(values, weight) for weight in weights) if each is not None]
    best = min(found, key=lambda each: 0 if each.slope is not None else len(each.steps), default=None)
    return None if best is None else replace(best, divisor=divisor)


def _of_one_sum(values: dict[tuple[int, ...], Array], weights: tuple[int, ...]) -> Staircase | None:
    table: dict[int, Array] = {}
    for sums, value in values.items():
        total = sum(weight * count for weight, count in zip(weights, sums, strict=True))
        if not np.array_equal(table.setdefault(total, value), value):
            return None
    low, high = min(table), max(table)
    if high - low > MOST and len(weights) > 1:
        return None
    steps = [(count, table[count] - table[count - 1]) for count in range(low + 1, high + 1)]
    if steps and all(np.array_equal(height, steps[0][1]) for _, height in steps):
        slope = steps[0][1]
        return Staircase(weights, table[low] - low * slope, (), slope)
    steps = [(count, height) for count, height in steps if height.any()]
    return Staircase(weights, table[low], tuple(steps), None) if len(steps) <= MOST else None


def through(form: Form, factor: Array) -> Form:
    """``form`` times what has as many axes as its features."""
    return form if (factor == 1).all() else mapped(form, Scale(factor))
