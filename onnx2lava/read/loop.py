"""Loops over time, understood by what one step of them computes.

SpikingJelly's recurrent containers, and neurons that are no operator of ours, are exported as functions that were traced from
their own single step, in whatever operators torch chose. So the step is not compared with a pattern: it is computed with the
operators of any other value, its input and states being sources of their own. A population comes out where, and only where, that
has the form of one (without a state u, j is 0)::

    u = A @ x + B @ s[t-1] + j * u + b
    h = u + k * v + c
    s[t] = h >= threshold;    v = v_reset where s[t], else h
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from ..errors import ConversionError
from ..network import Array, FloatNeuron, Shape
from .axes import BATCH, SAMPLES, Axes, feature_axes
from .budget import Budget
from .call import Call, Cases, Filled, Value
from .compose import matrix
from .evaluate import evaluated
from .form import Form, Term, added, lead_axes, mapped, scaled, source, with_constant
from .scan import scan_of
from .steps import Scale, Step, View

__all__ = ["Loop", "is_loop", "read_loop"]

_REMEDY = "use a container of linear layers and one IF, LIF or CUBALIF neuron with hard reset, or a quantised BlockContainer"
_TOLERANCE = 1e-6
"""Relative; what float32 constants of a trace (1 / tau, v_reset) make of numbers that are equal."""
_ROUNDING = 1e-12
"""What float64 leaves of a difference, relative to the numbers that it is one of."""
_X = "x"


@dataclass(frozen=True, eq=False)
class Loop:
    """A population that a loop computes.

    Args:
        sums: what the loop makes of its input ``x``, and what it adds to that, which enters the current.
        bias: what it adds to the potential, broadcast to the features; the reset potential is in it.
        feedback: what it makes of its own spikes of the step before.
        neuron: counted from its reset potential.
        dims: of its spikes in the graph, for one sample at one time step.
    """

    sums: Form
    bias: Array
    feedback: tuple[Term, ...]
    neuron: FloatNeuron
    dims: Shape


def is_loop(function: ir.Function | None) -> bool:
    """Whether it loops over time with states."""
    return function is not None and any(node.op_type == "Scan" and len(node.inputs) > 1 for node in function)


def read_loop(call: Call, function: ir.Function, outer: Form) -> Loop:
    """What ``function`` computes in each step.

    Args:
        call: of the function; its first input is ``outer``, all others are constants.
        function: with a Scan over its first input.
        outer: ``[T, N, *]``.

    Raises:
        ConversionError: it is not a population for Loihi.
    """
    scans = [each for each in function if each.op_type == "Scan"]
    if len(scans) != 1 or len(function.outputs) != 1 or len(function.inputs) != len(call.inputs):
        call.refuse("it is no single loop over time without states", _REMEDY)
    (scan,) = scans
    said, states = scan_of(scan), len(scan.inputs) - 1
    if (
        said is None
        or not said.plain
        or said.sequences != 1
        or scan.inputs[-1] is not function.inputs[0]
        or len(scan.outputs) != states + 1
    ):
        call.refuse("it is no single loop over time from its input to its output", _REMEDY)
    body = said.body
    if scan.outputs[states] is not function.outputs[0] or len(body.inputs) != states + 1:
        call.refuse("it is no single loop over time from its input to its output", _REMEDY)
    outside: dict[ir.Value, Value] = {}
    for value, given in zip(function.inputs, call.inputs, strict=True):
        outside[value] = "it is missing" if given is None else given
    # The function asks its input for its size alone.
    outside[function.inputs[0]] = Filled(outer.dims, 0.0)
    for node in function:
        if node is not scan:
            _evaluate(node, outside, call.budget)
    starts = [outside.get(value) if value is not None else None for value in scan.inputs[:-1]]
    return _Step(call, body, outside, outer, [_start(call, start) for start in starts]).loop()


@dataclass(frozen=True)
class _Start:
    features: Shape
    value: float


def _start(call: Call, start: Value | None) -> _Start:
    """What a state starts with: one number for all neurons of one sample."""
    if isinstance(start, np.ndarray) and start.ndim and start.size and (start == start.flat[0]).all():
        start = Filled(start.shape, float(start.flat[0]))
    if not isinstance(start, Filled) or len(start.dims) < 2:
        call.refuse("its states do not start from one number each", _REMEDY)
    return _Start(start.dims[1:], start.value)


def _evaluate(node: ir.Node, values: dict[ir.Value, Value], budget: Budget) -> None:
    inputs = [None if value is None else values.get(value, "it is unknown") for value in node.inputs]
    for output, result in zip(node.outputs, evaluated(node, inputs, budget), strict=False):
        values[output] = result


class _Step:
    """One step, for one sample."""

    def __init__(
        self, call: Call, body: ir.Graph, outside: Mapping[ir.Value, Value], outer: Form, starts: Sequence[_Start]
    ) -> None:
        self._call, self._outer, self._starts = call, outer, starts
        lead = outer.axes[1:2] if any(atom.kind == BATCH for atom in outer.axes[1]) else lead_axes(1, SAMPLES)[1:]
        self._values = dict(outside)
        given = outer.dims[2:]
        for index, value in enumerate(body.inputs):
            if index == len(starts):
                self._values[value] = source(_X, lead, outer.features, outer.budget, given)
            else:
                self._values[value] = _state(str(index), lead, starts[index].features, outer)
        self._body = body

    def loop(self) -> Loop:
        """The population that the step is one step of."""
        call = self._call
        try:
            for node in self._body:
                _evaluate(node, self._values, call.budget)
        except ConversionError as error:
            reason, _, _ = str(error).removeprefix("Cannot convert ").rpartition("; ")
            call.refuse(f"in its loop, {reason}", _REMEDY)
        *following, spiking = [self._values.get(value, "it is unknown") for value in self._body.outputs]
        if not isinstance(spiking, Cases) or not _are_spikes(spiking, spiking.drive):
            call.refuse("what it gives are not spikes", _REMEDY)
        kept = {i: value for i, value in enumerate(following) if not _are_spikes(value, spiking.drive)}
        currents = {str(i): value for i, value in kept.items() if isinstance(value, Form)}
        potentials = [i for i in kept if str(i) not in currents]
        if not potentials and currents:
            call.refuse("its membrane potential is not reset by spikes", _REMEDY)
        if len(potentials) != 1 or len(currents) > 1:
            call.refuse("besides its spikes it keeps something else than one membrane potential and one current", _REMEDY)
        potential = following[potentials[0]]
        if not isinstance(potential, Cases):
            call.refuse("its membrane potential cannot be followed", _REMEDY)
        resets, size = self._matrices(potential.on.terms, potential.on.features)
        if not all(_close(weight, 0, np.full(1, size)) for weight in resets.values()):
            call.refuse("its reset is soft, but Loihi's neurons reset to a fixed voltage", _REMEDY)
        reset = self._one_float32(potential.on.constant, "reset potential")
        return self._population(potentials[0], spiking, potential.off, reset, currents)

    def _population(self, potential: int, spiking: Cases, charged: Form, reset: float, currents: Mapping[str, Form]) -> Loop:
        """Args: ``currents``: by name, the state that is a current, and what it becomes; empty if there is none."""
        call, drive = self._call, spiking.drive
        unit = self._unit(charged, drive)
        if unit != 1:
            charged, reset = scaled(charged, np.full(1, 1 / unit)), reset / unit
        if not self._same_sums(charged, drive):
            call.refuse("its spikes and its membrane potential come from different sums", _REMEDY)
        if unit != 1:
            charged = replace(charged, terms=drive.terms)  # without what the division left on them
        threshold = self._one_float32(charged.constant - drive.constant, "threshold", charged.constant)
        if any(start.value for i, start in enumerate(self._starts) if i != potential) or not _close(
            np.full(1, self._starts[potential].value), reset * unit
        ):
            call.refuse("it does not start from the reset potential and without spikes", _REMEDY)
        keep = self._kept([term for term in charged.terms if term.source == str(potential)], unit)
        terms = [term for term in charged.terms if term.source != str(potential)]
        persists, entering = 0.0, np.zeros((1,) * len(charged.features))
        for name, current in currents.items():
            charging = replace(charged, terms=tuple(terms))
            unit = self._unit(current, charging)
            current = current if unit == 1 else scaled(current, np.full(1, 1 / unit))
            if not self._same_sums(current, charging):
                call.refuse("its membrane potential does not charge by the current of the same step", _REMEDY)
            persists = self._kept([term for term in current.terms if term.source == name], unit)
            terms = [term for term in terms if term.source != name]
            entering = current.constant if persists else entering
        # Counted from v_reset on: h - r = u + k (v - r) + c + k r - r.
        bias = charged.constant - entering + keep * reset - reset
        neuron = FloatNeuron(_lost(keep), threshold - reset, _lost(persists), spiking.strict)
        if not neuron.v_threshold > 0:
            call.refuse("its threshold is not above its reset, so that it fires without input", "train with a threshold above it")
        sums = self._through([term for term in terms if term.source == _X], charged.features)
        feedback = tuple(term for term in terms if term.source != _X)
        return Loop(with_constant(sums, sums.constant + entering), bias, feedback, neuron, drive.dims[1:])

    def _through(self, terms: Sequence[Term], features: Shape) -> Form:
        """What the loop makes of its input: the outer form, followed by the steps of each term."""
        outer = self._outer
        total: Form | None = None
        for term in terms:
            part = outer if outer.features == term.shape else mapped(outer, View(term.shape))
            for step in term.steps:
                part = mapped(part, step)
            part = replace(part, axes=(*outer.axes[:2], *feature_axes(features)))
            if term.divisor != 1:
                part = scaled(part, np.full(1, 1 / term.divisor))
            total = part if total is None else added(total, part)
        if total is None:
            self._call.refuse("it does not read its input", _REMEDY)
        return total

    def _unit(self, charged: Form, drive: Form) -> float:
        """What a state is kept in: a loop may keep what is left of it after the leak, ``v * decay``."""
        if all(any(_same(term, other) for other in drive.terms) for term in charged.terms):
            return 1.0
        kept, _ = self._matrices(charged.terms, charged.features)
        fires, _ = self._matrices(drive.terms, drive.features)
        if _X not in kept or _X not in fires or kept[_X].shape != fires[_X].shape or not fires[_X].any():
            return 1.0
        at = np.unravel_index(int(np.argmax(np.abs(fires[_X]))), fires[_X].shape)
        unit = float(kept[_X][at] / fires[_X][at])
        return unit if unit > 0 and not _close(np.full(1, unit), 1.0) else 1.0

    def _same_sums(self, charged: Form, drive: Form) -> bool:
        """Whether both come from the same sums; terms that are the same steps are not even computed."""
        rest = [term for term in charged.terms if not any(_same(term, other) for other in drive.terms)]
        others = [term for term in drive.terms if not any(_same(term, other) for other in charged.terms)]
        one, size = self._matrices(rest, charged.features)
        other, _ = self._matrices(others, drive.features)
        return all(
            _close(one.get(name, np.zeros(1)) - other.get(name, np.zeros(1)), 0, np.full(1, size))
            for name in one.keys() | other.keys()
        )

    def _matrices(self, terms: Sequence[Term], features: Shape) -> tuple[dict[str, Array], float]:
        """The coefficients of each source, and the size of the largest of all that they are sums of."""
        found: dict[str, Array] = {}
        largest = 0.0
        for term in terms:
            weight = matrix(term.steps, term.shape, self._call.budget).weight.astype(np.float64) / term.divisor
            largest = max(largest, float(np.abs(weight).max()))
            found[term.source] = found[term.source] + weight if term.source in found else weight
        return found, largest

    def _kept(self, terms: Sequence[Term], unit: float = 1.0) -> float:
        """The share of its potential, counted in ``unit``, that a neuron keeps."""
        keep, size = 0.0, 0.0
        for term in terms:
            factors = _factors(term)
            if factors is None or not _close(factors, float(factors.flat[0]), factors):
                self._call.refuse("its membrane potential does not decay by one share of itself", _REMEDY)
            keep += float(factors.flat[0])
            size = max(size, abs(float(factors.flat[0])))
        keep, size = keep * unit, size * unit
        if not -_TOLERANCE <= keep <= 1 + _TOLERANCE:
            self._call.refuse("its membrane potential does not decay by one share of itself", _REMEDY)
        return 0.0 if abs(keep) <= _ROUNDING * size else keep

    def _one_float32(self, values: Array, what: str, of: Array | float = 0.0) -> float:
        """The number of the file, without what sums in float64 left on it."""
        first = float(values.reshape(-1)[0])
        if not _close(values, first, of):
            self._call.refuse(f"its {what} differs from neuron to neuron, of which a layer for Loihi has one", _REMEDY)
        return float(np.float32(first))


def _state(name: str, lead: Axes, given: Shape, outer: Form) -> Form:
    """A state, of which the loop sees ``[N, *given]``."""
    shape = given if len(given) in (1, 3) else (given[0], 1, given[1]) if len(given) == 2 else (prod(given),)
    return source(name, lead, shape, outer.budget, given)


def _factors(term: Term) -> Array | None:
    """What a term multiplies its source by, element by element; None if it does more."""
    factor: Array = np.full((1,) * len(term.shape), 1 / term.divisor)
    steps: Sequence[Step] = term.steps
    for step in steps:
        if not isinstance(step, Scale) or step.factor.ndim != factor.ndim:
            return None
        factor = factor * step.factor
    return factor


def _same(one: Term, other: Term) -> bool:
    return (one.source, one.shape, one.divisor) == (other.source, other.shape, other.divisor) and (
        len(one.steps) == len(other.steps) and all(a is b for a, b in zip(one.steps, other.steps, strict=True))
    )


def _lost(kept: float) -> float:
    return float(np.clip(1 - kept, 0, 1))


def _are_spikes(value: Value, drive: Form) -> bool:
    return (
        isinstance(value, Cases)
        and value.drive is drive
        and not value.on.terms
        and not value.off.terms
        and bool((value.on.constant == 1).all())
        and not value.off.has_constant
    )


def _close(values: Array, number: float, of: Array | float = 0.0) -> bool:
    """Whether ``values`` are ``number``, if they are differences of numbers like ``of``; a network may count in any unit."""
    allowed = _TOLERANCE * np.abs(number) + _ROUNDING * np.max(np.abs(of), initial=0)
    return bool((np.abs(values - number) <= allowed).all())
