"""Neurons that a file does not have and Loihi needs: the OR of a MaxPool, and products of spikes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from custom_ops.loihi import DECAY_UNIT

from ..network import Array, Conv, CubaNeuron, Input
from .call import Call
from .form import Form, added, mapped_to, most_spikes, scaled, shifted, with_constant
from .repeating import alike
from .steps import Scale

if TYPE_CHECKING:
    from .graph import Reader

__all__ = ["OR", "Gates"]

OR = CubaNeuron(i_decay=DECAY_UNIT, v_decay=0, v_threshold=0)
"""Fed with even positive weights, it fires in the very step in which any input does, and is back at 0 after every step."""
_FORGETTING = DECAY_UNIT - 1
"""A voltage decay after which nothing is left of the few units that a gate sees: 384 / 4096 is rounded to 0."""


_MOST_SPIKES = 16
"""That a MaxPool compares the sums of; each is two populations more. What a gate keeps of twice as many is rounded to 0, too."""


class Gates:
    """Adds such neurons to the network that is being read."""

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader

    def largest(self, call: Call, form: Form, window: Conv, rank: int) -> Form:
        """A MaxPool over the windows of ``window``, whose weights are 2: of spikes, or of sums of a few spikes.

        The largest sum counts how many of its neurons fire: for each number of spikes one that says whether as many come
        anywhere in the window.
        """
        sums, factor, shift, most = self._spikes(call, form, "MaxPool", _MOST_SPIKES)
        pooled: Form | None = None
        shown = factor is None and shift is None and most <= 1
        for count in range(1, max(most, 1) + 1):
            reached = sums
            if count > 1:
                neuron = CubaNeuron(DECAY_UNIT, _FORGETTING, 2 * count - 1)
                reached = self._gate(call, scaled(sums, np.full(1, 2.0)), neuron, shown=False)
            anywhere = self._gate(call, mapped_to(reached, window, rank), OR, shown=shown)
            pooled = anywhere if pooled is None else added(pooled, anywhere)
        assert pooled is not None
        return _restored(pooled, factor, shift)

    def any_of(self, call: Call, forms: Sequence[Form]) -> Form:
        """The largest of several spikes, element by element."""
        total: Form | None = None
        for form in forms:
            if not self._are_spikes(form):
                call.refuse("it takes the largest of values that are not spikes, which no neuron can", "take it of spikes alone")
            total = form if total is None else added(*alike(total, form))
        assert total is not None
        return self._gate(call, scaled(total, np.full(1, 2.0)), OR)

    def product(self, call: Call, one: Form, other: Form) -> Form:
        """A product of spikes, or of what is left without them: AND, IAND, NOR.

        With ``a = s`` or ``1 - s`` and ``b`` likewise, ``a b = 1`` where ``a + b > 1``: a neuron with an edge from each, which
        forgets its voltage in one step.
        """
        factor: Array | None = None
        parts = []
        for form in (one, other):
            complement = shifted(scaled(form, np.full(1, -1.0)), np.ones(1))
            if self._are_spikes(form) or self._are_spikes(complement):
                parts.append(form)
                continue
            spikes, own, shift, _ = self._spikes(call, form, "product", 1)
            if shift is not None:
                call.refuse("it multiplies spikes by sums, which no neuron can", "multiply spikes by spikes or by constants")
            factor = own if factor is None else factor * own
            parts.append(spikes)
        total = added(*parts)
        missing = total.constant  # one for each of the two that is a complement; elsewhere zero
        largest = float(missing.max(initial=0))
        if (missing != largest).any() or largest not in (0, 1, 2):
            call.refuse("one of what it multiplies is padded, so that it is no spike at the border", "multiply before padding")
        sums = scaled(with_constant(total, np.zeros_like(missing)), np.full(1, 2.0))
        if largest == 2:
            sums = shifted(sums, np.full(1, 2.0))
        threshold = 2 if largest == 0 else 0
        gate = self._gate(call, sums, CubaNeuron(DECAY_UNIT, _FORGETTING, threshold), shown=factor is None)
        return _restored(gate, factor, None)

    def _gate(self, call: Call, sums: Form, neuron: CubaNeuron, *, shown: bool = True) -> Form:
        return self._reader.add(call, sums, neuron, shown=shown)

    def _are_spikes(self, form: Form) -> bool:
        most = self._most_spikes(form)
        return most is not None and most <= 1

    def _most_spikes(self, form: Form) -> int | None:
        inputs: dict[str, Input] = self._reader.inputs
        graded = any(term.source in inputs and inputs[term.source].bits for term in form.terms)
        return None if graded else most_spikes(form)

    def _spikes(self, call: Call, form: Form, what: str, limit: int) -> tuple[Form, Array | None, Array | None, int]:
        """Sums of at most ``limit`` spikes, a positive factor and a constant per channel that make ``form`` of them, and how many
        spikes they add at most."""
        factor = shift = None
        bare = form
        if form.has_constant and all(size == 1 for size in form.constant.shape[1:]):
            shift = form.constant
            bare = with_constant(form, np.zeros_like(form.constant))
        last = {id(term.steps[-1]): term.steps[-1] for term in form.terms if term.steps}
        (scale,) = last.values() if len(last) == 1 else (None,)
        if isinstance(scale, Scale) and all(term.steps for term in form.terms) and _positive_per_channel(scale.factor):
            factor = scale.factor
            bare = replace(bare, terms=tuple(replace(term, steps=term.steps[:-1]) for term in bare.terms))
        most = self._most_spikes(bare)
        if most is None or most > limit:
            call.refuse(
                f"there is a {what} between a synapse and its neuron, and the largest of several sums is no sum"
                if what == "MaxPool"
                else "it multiplies sums, which no neuron can",
                "put the MaxPool behind the neuron, or use AvgPool"
                if what == "MaxPool"
                else "multiply spikes by spikes or by constants",
            )
        return bare, factor, shift, most


def _positive_per_channel(factor: Array) -> bool:
    return bool((factor > 0).all()) and all(size == 1 for size in factor.shape[1:])


def _restored(form: Form, factor: Array | None, shift: Array | None) -> Form:
    """The form whose spikes were taken, with what was taken off them."""
    for values, apply in ((factor, scaled), (shift, shifted)):
        if values is not None:
            function: Callable[[Form, Array], Form] = apply
            form = function(form, values if values.size == 1 else _as_column(form, values))
    return form


def _as_column(form: Form, values: Array) -> Array:
    """One number per channel, as the graph would broadcast it."""
    rank = next(i for i in range(len(form.dims)) if all(atom.kind == "F" for axis in form.axes[i:] for atom in axis))
    return values.reshape(-1, *[1] * (len(form.dims) - rank - 1))
