"""Neurons that a file does not have and Loihi needs: the OR of a MaxPool, and functions of a few spikes."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from custom_ops.loihi import DECAY_UNIT

from ..network import Array, Conv, CubaNeuron, Input
from .call import Call
from .features import summed
from .form import (
    Form,
    added,
    aligned,
    divided,
    in_one_order,
    mapped_to,
    scaled,
    shifted,
    unwound,
    with_constant,
)
from .repeating import alike
from .sparse import synapses
from .staircase import Function, few_spikes, staircase, through
from .steps import Select, View

if TYPE_CHECKING:
    from .graph import Reader

__all__ = ["OR", "Gates"]

OR = CubaNeuron(i_decay=DECAY_UNIT, v_decay=0, v_threshold=0)
"""Fed with even positive weights, it fires in the very step in which any input does, and is back at 0 after every step."""
_FORGETTING = DECAY_UNIT - 1
"""A voltage decay after which nothing is left of the few units that a gate sees: 384 / 4096 is rounded to 0; of counts less is
left than decides."""


_PER_GATE = 1024
"""What a population takes at least, in numbers of 8 bytes; and in calls of NumPy, up to its edges."""
_MOST_SYNAPSES = 2**10
_TRUTHS = frozenset(("And", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"))
"""Operators that give true and false in the file, where a population gives spikes."""


class Gates:
    """Adds such neurons to the network that is being read."""

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader

    def largest(self, call: Call, form: Form, window: Conv, rank: int) -> Form:
        """A MaxPool over the windows of ``window``, whose weights are 2: of spikes, or of sums of a few spikes.

        ``max(s) = low + Σ [s >= k anywhere in the window]``: for each number above the lowest a neuron that says where it is
        reached, and their OR. Places beyond the edge reach none.
        """
        form = unwound(form, rank)
        if self._largest(form) != 1:
            call.refuse(
                "it takes the largest of counts, which takes a neuron for each number",
                "say which places have events before it, (x > 0).float(), use AvgPool, or pool before the network",
            )
        few = few_spikes(form)
        if few is None or not _positive_per_channel(few.factor) or any(size != 1 for size in few.constant.shape[1:]):
            call.refuse(
                "there is a MaxPool between a synapse and its neuron, and the largest of several sums is no sum",
                "put the MaxPool behind the neuron, or use AvgPool",
            )
        alone = (few.low, few.high, few.divisor) == (0, 1, 1)
        shown = alone and bool((few.factor == 1).all()) and not few.constant.any()
        pooled: Form | None = None
        for count in range(few.low + 1, few.high + 1):
            reached = few.spikes if alone else self._at_least(call, few.spikes, count, shown=False)
            anywhere = self._gate(call, mapped_to(reached, window, rank), OR, shown=shown)
            pooled = anywhere if pooled is None else added(pooled, anywhere)
        if pooled is None:
            call.refuse("it takes the largest of no spikes", "remove what is always zero")
        pooled = divided(through(pooled, few.factor), few.divisor)
        return with_constant(pooled, few.constant + few.low * few.factor / few.divisor)

    def function(
        self,
        call: Call,
        given: Sequence[Form | Array | float | None],
        function: Function,
        reason: str,
        remedy: str,
        *,
        whole: bool,
    ) -> Form:
        """A function of one or two values, element by element, each of which adds up a few spikes: a staircase.

        With one neuron for each step: it says whether the spikes, weighted, reach it. See :mod:`.staircase`.

        Args:
            call: of the operator.
            given: its inputs in order: one or two forms, and constants.
            function: of arrays, NumPy's.
            reason: why it is refused where the forms add up more than a few spikes, or something else than spikes.
            remedy: what to do about that.
            whole: whether it is what the node gives, and not a part of that.
        """
        forms = [value for value in given if isinstance(value, Form)]
        largest = [self._largest(form) or 0 for form in forms]
        if largest not in ([1], [1, 1]) and not (len(forms) == 1 and largest[0]):
            call.refuse(reason, remedy)
        if len(forms) == 2:
            forms = list(in_one_order(*alike(*forms)))
        waiting = iter(range(len(forms)))
        arguments = [
            value if value is None else next(waiting) if isinstance(value, Form) else aligned(forms[0], np.asarray(value))
            for value in given
        ]
        few = [each for each in map(few_spikes, forms, largest) if each is not None]
        found = staircase(few, arguments, function, call.budget) if len(few) == len(forms) else None
        if found is None:
            if function is np.multiply and len(forms) == 2:
                return self._products(call, *forms)
            call.refuse(reason, remedy)
        code: Form | None = None
        for each, weight in zip(few, found.weights, strict=True):
            part = scaled(each.spikes, np.full(1, float(weight)))
            code = part if code is None else added(code, part)
        assert code is not None
        result = with_constant(replace(code, terms=()), found.base)
        if found.slope is not None:
            result = added(result, through(code, found.slope))
        else:
            for count, height in found.steps:
                alone = len(found.steps) == found.divisor == 1 and bool((height == 1).all() and (found.base == 0).all())
                shown = whole and alone and call.node.op_type not in _TRUTHS
                result = added(result, through(self._at_least(call, code, count, shown=shown), height))
        return divided(result, found.divisor)

    def _products(self, call: Call, one: Form, other: Form) -> Form:
        """``(Σ a s + c) (Σ b r + d) = Σ a b [s and r] + d Σ a s + c Σ b r + c d``: a neuron for each pair of synapses."""
        pairs = [(first, second) for first in _single_spikes(call, one) for second in _single_spikes(call, other)]
        call.require_neurons(len(pairs) * prod(one.features))
        result = with_constant(added(through(one, other.constant), through(other, one.constant)), one.constant * other.constant)
        for (spikes, factor, divisor), (others, by, divided_by) in pairs:
            both = self._at_least(call, added(spikes, others), 2, shown=False)
            result = added(result, divided(through(both, factor * by), divisor * divided_by))
        return result

    def any_along(self, call: Call, form: Form, axes: Sequence[int]) -> Form:
        """Whether any of the spikes along some axes comes; those axes then have one element."""
        few = few_spikes(form) if self._largest(form) == 1 else None
        if few is None or few.low < 0 or few.high > 1 or few.constant.any() or few.divisor != 1 or (few.factor != 1).any():
            call.refuse("it takes the largest of sums, which is no sum", "take the largest of spikes")
        return self._gate(call, scaled(summed(form, axes), np.full(1, 2.0)), OR)

    def _at_least(self, call: Call, code: Form, count: int, *, shown: bool) -> Form:
        """Whether sums of whole multiples of spikes are at least ``count``."""
        doubled = scaled(code, np.full(1, 2.0))
        if count < 1:  # no threshold is below 0
            doubled, count = shifted(doubled, np.full(1, 2.0 * (1 - count))), 1
        return self._gate(call, doubled, CubaNeuron(DECAY_UNIT, _FORGETTING, 2 * count - 1), shown=shown)

    def _gate(self, call: Call, sums: Form, neuron: CubaNeuron, *, shown: bool = True) -> Form:
        call.budget.take(_PER_GATE)  # a node of a few bytes makes dozens
        call.budget.work(0, _PER_GATE)
        return self._reader.add(call, sums, neuron, shown=shown)

    def _largest(self, form: Form) -> int | None:
        """What one of its sources gives at most in a time step: 1 of spikes, more of counts; None of other numbers."""
        inputs: dict[str, Input] = self._reader.inputs
        given = [inputs[term.source] for term in form.terms if term.source in inputs]
        if any(each.numbers for each in given) or self._reader.is_image(form):
            return None
        return max((2**each.bits - 1 for each in given if each.bits), default=1)


def _single_spikes(call: Call, form: Form) -> list[tuple[Form, Array, int]]:
    """The form without its constant, as a sum of single spikes, each times a factor and divided by a whole number."""
    found: list[tuple[Form, Array, int]] = []
    nothing = with_constant(form, np.zeros((1,) * len(form.features)))
    for term in form.terms:
        read = synapses(term.steps, term.shape, call.budget)
        if read is None or len(found) + read[0].shape[1] > _MOST_SYNAPSES:
            call.refuse(
                "it multiplies sums of many spikes, and each pair of spikes would need a neuron",
                "let a spiking neuron stand before it",
            )
        flat = View((prod(term.shape),))
        for weights, columns in zip(*(each.T for each in read), strict=True):
            steps = (flat, Select(np.ascontiguousarray(columns)), View(form.features))
            one = replace(nothing, terms=(replace(term, steps=steps, divisor=1),))
            found.append((one, weights.reshape(form.features), term.divisor))
    return found


def _positive_per_channel(factor: Array) -> bool:
    return bool((factor > 0).all()) and all(size == 1 for size in factor.shape[1:])
