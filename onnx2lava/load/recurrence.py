"""Recurrent layers: a function whose Scan over time feeds spikes back, understood by what one step of it computes.

SpikingJelly's recurrent containers are exported as functions that were traced from their own single step, in whatever operators
torch chose. So the step is not compared with a pattern: it is computed, with every value as what it is in terms of the step's
input and states. A layer for Loihi comes out where, and only where, that has the form of one::

    h = A @ x + B @ s[t-1] + k * v + c
    s[t] = h >= threshold;    v = v_reset where s[t], else h
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ..lower.compose import LARGEST
from ..network import Array, FloatNeuron, Shape
from .constants import FOLDABLE, filled, fold
from .signal import Filled, Inputs, refusal

__all__ = ["Recurrence", "is_recurrent", "read_recurrence"]

_REMEDY = "use a container of linear layers and one IF or LIF neuron with hard reset"
_ROOM = 16 * LARGEST
"""Numbers that are computed for one step: a small file must not keep us busy."""
_TOLERANCE = 1e-6
"""Relative; what float32 constants of a trace (1 / tau, v_reset) make of numbers that are equal."""
_ROUNDING = 1e-12
"""What float64 leaves of a difference, relative to the numbers that it is one of."""


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A layer that reads its own spikes of the step before, in float64.

    Args:
        weight: ``[F, I]``.
        recurrent: ``[F, F]``.
        bias: ``[F]``.
        neuron: without reset potential, which is in the bias.
        shape: of the spikes, for one sample at one time step.
    """

    weight: Array
    recurrent: Array
    bias: Array
    neuron: FloatNeuron
    shape: Shape


@dataclass(frozen=True, eq=False)
class _Sum:
    """A value that depends on the step's input and states, for one sample.

    Args:
        terms: an array with one axis more than the value has, the last, of its coefficients: for each element of the input, of
            the first state, and so on; and for 1.
    """

    terms: Array


@dataclass(frozen=True, eq=False)
class _Spikes:
    """A value that spikes decide about: one thing where ``drive`` is at least 0, another elsewhere."""

    drive: _Sum
    on: "Array | _Sum"
    off: "Array | _Sum"


_Plain = Array | _Sum
_Value = Array | _Sum | _Spikes


class _NotLinearError(Exception):
    """Why a step is no layer for Loihi."""


def is_recurrent(function: ir.Function) -> bool:
    """Whether it loops over time with more than one state: what comes back, and the membrane potential."""
    return any(node.op_type == "Scan" and len(node.inputs) > 2 for node in function)


def read_recurrence(node: ir.Node, function: ir.Function, features: Shape, inputs: Inputs) -> Recurrence:
    """What ``function`` computes in each step.

    Args:
        node: calls the function; for messages.
        function: with a Scan over its first input.
        features: of the input, for one sample at one time step.
        inputs: of the node; all but the first are constants.

    Raises:
        ConversionError: it is not a layer for Loihi.
    """
    try:
        with np.errstate(all="ignore"):  # what ends up not finite is no layer's
            return _read(function, features, inputs)
    except _NotLinearError as error:
        raise refusal(node, str(error), _REMEDY) from error
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise refusal(node, f"its steps cannot be followed ({' '.join(str(error).split())})", "export it again") from error


def _read(function: ir.Function, features: Shape, inputs: Inputs) -> Recurrence:
    scans = [each for each in function if each.op_type == "Scan"]
    if len(scans) != 1 or len(function.outputs) != 1:
        raise _NotLinearError("it is no single loop over time without states")
    (scan,) = scans
    body = scan.attributes["body"].as_graph()
    states = len(scan.inputs) - 1
    plain = scan.attributes.get_int("num_scan_inputs", 0) == 1 and not any(
        any(scan.attributes.get_ints(name, [])) for name in ("scan_input_directions", "scan_output_directions", "scan_input_axes")
    )
    if not plain or scan.inputs[-1] is not function.inputs[0] or scan.outputs[states] is not function.outputs[0]:
        raise _NotLinearError("it is no single loop over time from its input to its output")
    outer: dict[ir.Value, object] = dict(zip(function.inputs, (Filled((2, 1, *features), 0.0), *inputs[1:]), strict=True))
    for each in function:
        if each is not scan:
            _fold(each, outer)
    starts = [outer.get(value) if value is not None else None for value in scan.inputs[:-1]]
    if not all(isinstance(start, Filled) and start.dims[:1] == (1,) for start in starts):
        raise _NotLinearError("its states do not start from one number each")
    filled = [start for start in starts if isinstance(start, Filled)]
    return _Step(body, outer, features, filled).layer()


def _fold(node: ir.Node, values: dict[ir.Value, object]) -> None:
    inputs = [None if value is None else values.get(value, "it is unknown") for value in node.inputs]
    if node.op_type == "Shape" and inputs and isinstance(inputs[0], Filled):
        dims = np.array(inputs[0].dims, np.int64)
        values[node.outputs[0]] = dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(dims))]
    elif node.op_type == "ConstantOfShape":
        values[node.outputs[0]] = filled(node, inputs)
    elif node.op_type in FOLDABLE:
        values[node.outputs[0]] = fold(node, inputs)


class _Step:
    """One step, computed for one sample."""

    def __init__(self, body: ir.Graph, outer: Mapping[ir.Value, object], features: Shape, starts: Sequence[Filled]) -> None:
        self._body = body
        self._outer = outer
        self._starts = starts
        sizes = [prod(features), *(prod(start.dims) for start in starts)]
        self._ends = np.cumsum(sizes)
        columns = int(self._ends[-1]) + 1
        if columns * max(sizes) > LARGEST:
            raise _NotLinearError(f"a matrix from all of its neurons to all of them has more than {LARGEST:,} weights")
        self._values: dict[ir.Value, _Value] = {}
        # The body's inputs are the states and then x; the coefficients are those of x and then of the states.
        for index, value in enumerate(body.inputs):
            source = 0 if index == len(starts) else 1 + index
            identity = np.zeros((sizes[source], columns))
            identity[:, self._ends[source] - sizes[source] : self._ends[source]] = np.eye(sizes[source])
            shape = (1, *features) if source == 0 else starts[index].dims
            self._values[value] = _Sum(identity.reshape(*shape, columns))

    def layer(self) -> Recurrence:
        """The layer that the step is one step of."""
        waiting = Counter(value for node in self._body for value in node.inputs)
        waiting.update(self._body.outputs)
        room = _ROOM
        for node in self._body:
            inputs = [None if value is None else self._value(value) for value in node.inputs]
            if len(node.outputs) != 1 or node.domain not in ("", "ai.onnx"):
                raise _NotLinearError(f"a {node.op_type} is in its loop")
            result = _computed(node, inputs)
            self._values[node.outputs[0]] = result
            room -= _size(result)
            if room < 0:
                raise _NotLinearError("its loop takes more than a layer does")
            waiting.subtract(node.inputs)
            for value in node.inputs:
                if value is not None and not waiting[value]:
                    self._values.pop(value, None)
        *following, spiking = [self._value(value) for value in self._body.outputs]
        if not isinstance(spiking, _Spikes) or not _are_spikes(spiking, spiking.drive):
            raise _NotLinearError("what it gives are not spikes")
        kept = [index for index, value in enumerate(following) if not _are_spikes(value, spiking.drive)]
        if len(kept) != 1:
            raise _NotLinearError("besides its spikes it keeps something else than one membrane potential")
        potential = following[kept[0]]
        if not isinstance(potential, _Spikes) or not isinstance(potential.off, _Sum):
            raise _NotLinearError("its membrane potential is not reset by spikes")
        if isinstance(potential.on, _Sum) and potential.on.terms[..., :-1].any():
            raise _NotLinearError("its reset is soft, but Loihi's neurons reset to a fixed voltage")
        reset = _float32(potential.on.terms[..., -1] if isinstance(potential.on, _Sum) else potential.on, "reset potential")
        return self._layer(kept[0], spiking.drive, potential.off, reset)

    def _layer(self, potential: int, drive: _Sum, charged: _Sum, reset: float) -> Recurrence:
        before = charged.terms.reshape(-1, charged.terms.shape[-1])
        missing = before - drive.terms.reshape(before.shape)
        if not _close(missing[:, :-1], 0, before[:, :-1]):
            raise _NotLinearError("its spikes and its membrane potential come from different sums")
        threshold = _float32(missing[:, -1], "threshold", before[:, -1])
        weight, *states = np.split(before[:, :-1], self._ends[:-1], axis=1)
        own = states.pop(potential)
        keep = _one(np.diagonal(own), "decay")
        if not _close(own, keep * np.eye(len(before))) or not -_TOLERANCE <= keep <= 1 + _TOLERANCE:
            raise _NotLinearError("its membrane potential does not decay by one share of itself")
        starts = [start.value for start in self._starts]
        if not _close(starts.pop(potential), reset) or any(starts):
            raise _NotLinearError("it does not start from the reset potential and without spikes")
        recurrent = sum(states, start=np.zeros((len(before), len(before))))
        # Counted from v_reset on: h - r = A x + B s + k (v - r) + c + k r - r.
        bias = before[:, -1] + keep * reset - reset
        neuron = FloatNeuron(float(np.clip(1 - keep, 0, 1)), threshold - reset)
        return Recurrence(weight, recurrent, bias, neuron, drive.terms.shape[1:-1])

    def _value(self, value: ir.Value) -> _Value:
        if value not in self._values:
            found = self._outer.get(value)
            if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
                raise _NotLinearError(found if isinstance(found, str) else "a value in its loop is not a number")
            return found
        return self._values[value]


def _size(value: _Value) -> int:
    if isinstance(value, _Spikes):
        return _size(value.on) + _size(value.off)
    return value.terms.size if isinstance(value, _Sum) else value.size


def _computed(node: ir.Node, inputs: Sequence[_Value | None]) -> _Value:
    """An operator: once where nothing or only input and states go in; for each of the two cases where spikes decide."""
    if any(value is None for value in (inputs[:2] if node.op_type == "Gemm" else inputs)):
        raise _NotLinearError(f"a {node.op_type} in its loop lacks an input")
    spikes = [value for value in inputs if isinstance(value, _Spikes)]
    if not spikes:
        return _plain(node, [value for value in inputs if not isinstance(value, _Spikes)])
    if any(other.drive is not spikes[0].drive for other in spikes[1:]):
        raise _NotLinearError(f"a {node.op_type} in its loop combines spikes with others")
    drive = spikes[0].drive
    numbers = np.arange(drive.terms[..., 0].size).reshape(drive.terms.shape[:-1])
    cases = []
    for case in ("on", "off"):
        given = [getattr(value, case) if isinstance(value, _Spikes) else value for value in inputs]
        if node.op_type in _ARRANGING:
            # Each element must stay where it is in the order of all, or nothing that follows would know whose spike it is.
            numbered = numbers.reshape(_shape(given[0]))
            if not np.array_equal(_rearranged(node, [numbered, *given[1:]]).reshape(-1), numbers.reshape(-1)):
                raise _NotLinearError(f"a {node.op_type} in its loop mixes up spikes")
            cases.append(_rearranged(node, given) if isinstance(given[0], np.ndarray) else _arranged(node, given))
        else:
            cases.append(_plain(node, given))
    on, off = cases
    if isinstance(on, _Spikes) or isinstance(off, _Spikes) or not _shape(on) == _shape(off) or prod(_shape(on)) != numbers.size:
        raise _NotLinearError(f"a {node.op_type} in its loop makes something else than one value for each neuron of its spikes")
    return _Spikes(drive, on, off)


def _shape(value: _Plain | None) -> Shape:
    assert value is not None
    return value.terms.shape[:-1] if isinstance(value, _Sum) else value.shape


def _rearranged(node: ir.Node, inputs: Sequence[_Plain | None]) -> Array:
    """An array, as :func:`_arranged` does it to the coefficients of a sum."""
    value = inputs[0]
    assert isinstance(value, np.ndarray)
    arranged = _arranged(node, [_Sum(value[..., None]), *inputs[1:]])
    assert isinstance(arranged, _Sum)
    return arranged.terms[..., 0]


def _plain(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    """An operator on what no spikes decide about."""
    sums = [value for value in inputs if isinstance(value, _Sum)]
    if not sums and node.op_type == "Sigmoid":
        (value,) = inputs
        return np.asarray(1 / (1 + np.exp(-np.asarray(value, np.float64))))
    if not sums and node.op_type in FOLDABLE:
        folded = fold(node, inputs)
        if isinstance(folded, str):
            raise _NotLinearError(folded)
        return folded
    if node.op_type not in _OPERATORS:
        raise _NotLinearError(f"a {node.op_type} is in its loop")
    return _OPERATORS[node.op_type](node, inputs)


def _terms(value: _Plain | None, columns: int) -> Array:
    """The coefficients of a sum, or those of a constant."""
    if isinstance(value, _Sum):
        return value.terms
    assert value is not None
    terms = np.zeros((*value.shape, columns))
    terms[..., -1] = value
    return terms


def _added(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    first, second = inputs
    columns = next(value.terms.shape[-1] for value in inputs if isinstance(value, _Sum))
    sign = -1 if node.op_type == "Sub" else 1
    return _Sum(_terms(first, columns) + sign * _terms(second, columns))


def _scaled(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    first, second = inputs
    if node.op_type == "Mul" and isinstance(first, np.ndarray):
        first, second = second, first
    if not isinstance(first, _Sum) or not isinstance(second, np.ndarray):
        raise _NotLinearError(f"a {node.op_type} in its loop multiplies or divides by what its neurons give")
    factor = second.astype(np.float64)[..., None]
    return _Sum(first.terms / factor if node.op_type == "Div" else first.terms * factor)


def _negated(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    (value,) = inputs
    assert isinstance(value, _Sum)
    return _Sum(-value.terms)


def _multiplied(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    value, matrix, *rest = inputs
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", False)
    if not isinstance(value, _Sum):
        raise _NotLinearError(f"a {node.op_type} in its loop stands behind its neurons")
    if (
        not isinstance(matrix, np.ndarray)
        or matrix.ndim != 2
        or (node.op_type == "Gemm" and node.attributes.get_int("transA", False))
    ):
        raise _NotLinearError(f"a {node.op_type} in its loop does not multiply its neurons by a matrix")
    matrix = matrix.astype(np.float64) if transposed else matrix.astype(np.float64).T
    result = matrix @ value.terms
    if node.op_type == "Gemm":
        result = result * node.attributes.get_float("alpha", 1.0)
        if rest and rest[0] is not None:
            result = result + node.attributes.get_float("beta", 1.0) * _terms(rest[0], result.shape[-1])
    return _Sum(result)


def _normalised(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    value, *statistics = inputs
    if not isinstance(value, _Sum) or node.attributes.get_int("training_mode", False):
        raise _NotLinearError(f"a {node.op_type} in its loop normalises each batch by itself")
    scale, shift, mean, variance = (
        np.asarray(each, np.float64).reshape(-1, *[1] * (value.terms.ndim - 3)) for each in statistics
    )
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    terms = value.terms * factor[..., None]
    terms[..., -1] += shift - mean * factor
    return _Sum(terms)


def _compared(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    first, second = inputs
    if not isinstance(first, _Sum):
        raise _NotLinearError(f"a {node.op_type} in its loop compares a constant with its neurons")
    drive = first.terms - _terms(second, first.terms.shape[-1])
    return _Spikes(_Sum(drive), np.ones(drive.shape[:-1]), np.zeros(drive.shape[:-1]))


def _cast(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    (value,) = inputs
    if ir.DataType(node.attributes["to"].as_int()) not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        raise _NotLinearError(f"a {node.op_type} in its loop rounds")
    assert value is not None
    return value


def _arranged(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    """The axes count without that of the coefficients."""
    value = inputs[0]
    if node.op_type == "Concat":
        return _joined(node, inputs)
    if not isinstance(value, _Sum):
        raise _NotLinearError(f"a {node.op_type} in its loop looks up what its neurons give")
    terms = value.terms
    rank, columns = terms.ndim - 1, terms.shape[-1]
    given = [np.asarray(each).reshape(-1) for each in inputs[1:] if isinstance(each, np.ndarray)]
    if len(given) != len([each for each in inputs[1:] if each is not None]):
        raise _NotLinearError(f"a {node.op_type} in its loop depends on what its neurons give")
    axes = [int(axis) for axis in given[0]] if given else []
    match node.op_type:
        case "Reshape":
            dims = [terms.shape[axis] if dim == 0 else dim for axis, dim in enumerate(axes)]
            return _Sum(terms.reshape(*dims, columns))
        case "Unsqueeze":
            return _Sum(np.expand_dims(terms, [axis % (rank + len(axes)) for axis in axes]))
        case "Squeeze":
            return _Sum(np.squeeze(terms, tuple(axis % rank for axis in axes)))
        case "Slice":
            starts, ends, *others = given
            along = others[0] if others else np.arange(len(starts))
            steps = others[1] if len(others) > 1 else np.ones(len(starts), np.int64)
            where = [slice(None)] * terms.ndim
            for start, end, axis, step in zip(starts, ends, along, steps, strict=True):
                where[int(axis) % rank] = slice(int(start), int(end), int(step))
            return _Sum(terms[tuple(where)])
        case _:  # Gather
            (indices,) = (each for each in inputs[1:] if isinstance(each, np.ndarray))
            return _Sum(np.take(terms, indices, axis=node.attributes.get_int("axis", 0) % rank))


def _joined(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    columns = next(value.terms.shape[-1] for value in inputs if isinstance(value, _Sum))
    terms = [_terms(value, columns) for value in inputs]
    return _Sum(np.concatenate(terms, axis=node.attributes["axis"].as_int() % (terms[0].ndim - 1)))


def _same(node: ir.Node, inputs: Sequence[_Plain | None]) -> _Value:
    assert inputs[0] is not None
    return inputs[0]


_ARRANGING = ("Concat", "Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_OPERATORS: Mapping[str, Callable[[ir.Node, Sequence[_Plain | None]], _Value]] = {
    "Add": _added,
    "BatchNormalization": _normalised,
    "Cast": _cast,
    "Concat": _arranged,
    "Div": _scaled,
    "Gather": _arranged,
    "Gemm": _multiplied,
    "GreaterOrEqual": _compared,
    "Identity": _same,
    "MatMul": _multiplied,
    "Mul": _scaled,
    "Neg": _negated,
    "Reshape": _arranged,
    "Slice": _arranged,
    "Squeeze": _arranged,
    "Sub": _added,
    "Unsqueeze": _arranged,
}


def _are_spikes(value: _Value, drive: _Sum) -> bool:
    return isinstance(value, _Spikes) and value.drive is drive and _are(value.on, 1) and _are(value.off, 0)


def _are(value: _Plain, number: float) -> bool:
    return isinstance(value, np.ndarray) and bool((value == number).all())


def _close(values: Array | float, number: Array | float, of: Array | float = 0.0) -> bool:
    """Whether ``values`` are ``number``, if they are differences of numbers like ``of``; a network may count in any unit."""
    allowed = _TOLERANCE * np.abs(number) + _ROUNDING * np.max(np.abs(of))
    return bool((np.abs(values - number) <= allowed).all())


def _one(values: Array, what: str, of: Array | float = 0.0) -> float:
    first = float(values.reshape(-1)[0])
    if not _close(values, first, of):
        raise _NotLinearError(f"its {what} differs from neuron to neuron, of which a layer for Loihi has one")
    return first


def _float32(values: Array, what: str, of: Array | float = 0.0) -> float:
    """The number of the file, without what sums in float64 left on it."""
    return float(np.float32(_one(values, what, of)))
