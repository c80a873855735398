"""Values of one time step of a sequence, as a loop over time leaves them in a file that has a copy of its body for each step."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .axes import TIME, Atom
from .budget import Budget
from .form import Form, FormError, Term, at_step
from .steps import Step

__all__ = ["joined_in_time", "one_step", "same_at_its_step"]


def one_step(form: Form, axis: int, step: int) -> Form:
    """One time step of all of them: the axis of time has one element then.

    Args:
        form: with time along ``axis``, and nothing else.
        axis: of time.
        step: which.
    """
    axes = (*form.axes[:axis], (), *form.axes[axis + 1 :])
    terms = tuple(term for term in form.terms if term.delay <= step)
    return replace(form, axes=axes, terms=terms, at=step)


def joined_in_time(parts: Sequence[Form], axis: int) -> Form:
    """The sequence of which ``parts`` are the time steps, from the first on, each with one element along ``axis``.

    Raises:
        FormError: they are not the same of each step.
    """
    steps = [at_step(part, step) for step, part in enumerate(parts)]
    for step, part in enumerate(steps):
        if not same_at_its_step(steps[-1], part):
            raise FormError(
                f"what it joins is made in another way in time step {step} than in the last one",
                "let each time step do the same, with spikes of zeros before the first",
            )
    axes = list(steps[-1].axes)
    axes[axis] = (Atom(TIME, len(parts)),)
    return replace(steps[-1], axes=tuple(axes), at=None)


def same_at_its_step(late: Form, early: Form) -> bool:
    """Whether ``early`` is at its time step what ``late`` is at its own: what lies before the first step is zero."""
    assert early.at is not None
    late.budget.work(0, 1 + len(late.terms))
    terms = [term for term in late.terms if term.delay <= early.at]
    return (
        (late.axes, late.features, late.divisor) == (early.axes, early.features, early.divisor)
        and bool(np.all(late.numerator == early.numerator))
        and len(terms) == len(early.terms)
        and all(_same(one, other, late.budget) for one, other in zip(terms, early.terms, strict=True))
    )


def _same(one: Term, other: Term, budget: Budget) -> bool:
    return (one.source, one.shape, one.delay, one.divisor) == (other.source, other.shape, other.delay, other.divisor) and (
        len(one.steps) == len(other.steps) and all(_same_step(*pair, budget) for pair in zip(one.steps, other.steps, strict=True))
    )


def _same_step(one: Step, other: Step, budget: Budget) -> bool:
    return one is other or (
        type(one) is type(other)
        and all(_equal(getattr(one, field.name), getattr(other, field.name), budget) for field in fields(one))
    )


def _equal(one: Any, other: Any, budget: Budget) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return bool(one == other)
    if one.__array_interface__ == other.__array_interface__:  # views of the same constant, as most are
        return True
    budget.work(one.size)
    return bool(np.array_equal(one, other))
