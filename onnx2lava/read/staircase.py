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
"""Between the lowest and the highest sum: what a neuron keeps of twice as many weight units after a time step is rounded to 0."""


@dataclass(frozen=True, eq=False)
class FewSpikes:
    """``factor * spikes + constant``, where ``spikes`` are whole multiples of a few spikes.

    Args:
        spikes: without a constant.
        factor: with as many axes as the features.
        constant: likewise.
        low: the least that ``spikes`` add up to.
        high: the most.
    """

    spikes: Form
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
    """

    weights: tuple[int, ...]
    base: Array
    steps: tuple[tuple[int, Array], ...]
    slope: Array | None


def few_spikes(form: Form) -> FewSpikes | None:
    """``form`` as few spikes; None where it is something else.

    Args:
        form: its features in their natural order.
    """
    constant = form.constant
    bare = with_constant(form, np.zeros_like(constant))
    ones: Array = np.ones((1,) * len(form.features))
    for spikes, factor in ((bare, ones), *_without_last_factor(bare)):
        ends = _ends(spikes)
        if ends is not None and ends[1] - ends[0] <= MOST:
            return FewSpikes(spikes, factor, constant, *ends)
    return None


def _without_last_factor(form: Form) -> Iterator[tuple[Form, Array]]:
    """Where the same factor comes last in all terms: without it, and the factor."""
    last = {id(term.steps[-1]): term.steps[-1] for term in form.terms if term.steps}
    (scale,) = last.values() if len(last) == 1 else (None,)
    if isinstance(scale, Scale) and all(term.steps for term in form.terms):
        yield replace(form, terms=tuple(replace(term, steps=term.steps[:-1]) for term in form.terms)), scale.factor


def _ends(form: Form) -> tuple[int, int] | None:
    """The least and the most that the terms add up to; None where one is no whole multiple of one spike at each place."""
    form.budget.take(4 * prod(form.features))
    low, high = np.zeros(form.features), np.zeros(form.features)
    for term in form.terms:
        if term.divisor != 1:
            return None
        steps, shape = simplified(term.steps, term.shape, form.budget)
        multiples = ways = np.ones((1, *shape))
        for step in steps:
            multiples, ways = applied(step, multiples, form.budget), applied(_as_ways(step), ways, form.budget)
        if not np.isin(ways, (0, 1)).all() or (multiples != np.rint(multiples)).any():
            return None
        multiples = multiples.reshape(form.features)
        low, high = low + np.minimum(multiples, 0), high + np.maximum(multiples, 0)
        if not high.max(initial=0) - low.min(initial=0) <= MOST:
            return None
    return int(low.min(initial=0)), int(high.max(initial=0))


def _as_ways(step: Step) -> Step:
    """The same with 1 for each number that is not 0, so that it counts spikes."""
    if isinstance(step, Scale):
        return Scale((step.factor != 0).astype(np.float64))
    return replace(step, weight=(step.weight != 0).astype(np.float64)) if isinstance(step, Map) else step


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
        numbers = [each.factor * count + each.constant for each, count in zip(given, sums, strict=True)]
        with np.errstate(all="ignore"):
            made = function(*(numbers[each] if isinstance(each, int) else each for each in arguments))
        values[sums] = np.broadcast_to(np.asarray(made, np.float64), shape)
        if not np.isfinite(values[sums]).all():
            return None
    weights = [(1,)] if len(given) == 1 else [(1, -1), (1, 1), (1, sizes[0]), (sizes[1], 1)]
    found = [each for each in (_of_one_sum(values, weight) for weight in weights) if each is not None]
    return min(found, key=lambda each: 0 if each.slope is not None else len(each.steps), default=None)


def _of_one_sum(values: dict[tuple[int, ...], Array], weights: tuple[int, ...]) -> Staircase | None:
    table: dict[int, Array] = {}
    for sums, value in values.items():
        total = sum(weight * count for weight, count in zip(weights, sums, strict=True))
        if not np.array_equal(table.setdefault(total, value), value):
            return None
    low, high = min(table), max(table)
    if high - low > MOST:
        return None
    steps = [(count, table[count] - table[count - 1]) for count in range(low + 1, high + 1)]
    if steps and all(np.array_equal(height, steps[0][1]) for _, height in steps):
        slope = steps[0][1]
        return Staircase(weights, table[low] - low * slope, (), slope)
    return Staircase(weights, table[low], tuple((count, height) for count, height in steps if height.any()), None)


def through(form: Form, factor: Array) -> Form:
    """``form`` times what has as many axes as its features."""
    return form if (factor == 1).all() else mapped(form, Scale(factor))
