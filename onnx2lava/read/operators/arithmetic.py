"""Sums, factors, comparisons and products of values, element by element."""

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from ...network import Array
from ..call import Call, Cases, Filled, Operator, Value
from ..form import Form, added, constant_form, multiplied, scaled, shifted
from ..repeating import alike
from .constants import elementwise
from .functions import of_spikes, product_of_spikes

__all__ = ["ARITHMETIC"]


def _two(call: Call) -> tuple[Value, Value]:
    one, other = call.inputs if len(call.inputs) == 2 else (None, None)
    if one is None or other is None:
        call.refuse("it needs two inputs", "write it as the operator's schema says")
    return one, other


def _add(call: Call) -> Value:
    return _sum(call, 1.0)


def _subtract(call: Call) -> Value:
    return _sum(call, -1.0)


def _sum(call: Call, sign: float) -> Value:
    one, other = (_plain(value) for value in _two(call))
    if isinstance(one, Form) and isinstance(other, Form):
        return added(*alike(one, other if sign > 0 else scaled(other, np.full(1, sign))))
    if isinstance(one, Form):
        return (
            shifted(one, sign * call.constant(1).astype(np.float64)) if not isinstance(other, float) else _by(one, sign * other)
        )
    form = call.form(1)
    form = form if sign > 0 else scaled(form, np.full(1, sign))
    return _by(form, one) if isinstance(one, float) else shifted(form, call.constant(0))


def _by(form: Form, number: float) -> Form:
    return shifted(form, np.full(1, number))


def _plain(value: Value) -> Value | float:
    return value.value if isinstance(value, Filled) else value


def _multiply(call: Call) -> Value:
    one, other = (_plain(value) for value in _two(call))
    if isinstance(one, Form) and isinstance(other, Form):
        one, other = alike(one, other)
        if not one.terms or not other.terms:
            return multiplied(one, other) if one.terms else multiplied(other, one)
        if call.gates is None:
            call.refuse("it multiplies what its neurons give", "use a container of linear layers and one neuron with hard reset")
        return product_of_spikes(call)
    for at, value, factor in ((0, one, other), (1, other, one)):
        if isinstance(value, Form):
            return scaled(value, np.full(1, factor) if isinstance(factor, float) else call.constant(1 - at))
    _refuse_filled(call)


def _divide(call: Call) -> Value:
    one, other = (_plain(value) for value in _two(call))
    if not isinstance(one, Form) or isinstance(other, Form):
        call.refuse("it divides by spikes", "divide by constants")
    divisor = np.full(1, other) if isinstance(other, float) else call.constant(1).astype(np.float64)
    if not divisor.all():
        call.refuse("it divides by zero", "divide by other numbers")
    return scaled(one, 1 / divisor)


def _negate(call: Call) -> Value:
    return scaled(call.form(), -np.ones(1))


_COMPARISONS = {
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
_MIRRORED = {"Greater": "Less", "GreaterOrEqual": "LessOrEqual", "Less": "Greater", "LessOrEqual": "GreaterOrEqual"}


def _compare(call: Call) -> Value:
    """Spikes inside a loop: where a neuron's potential is at least its threshold, or above it."""
    if call.gates is not None:
        return of_spikes(
            call, _COMPARISONS[call.node.op_type], "it compares sums without a neuron", "use a spiking neuron of SpikingJelly"
        )
    name = call.node.op_type
    one, other = (_plain(value) for value in _two(call))
    if not isinstance(one, Form):
        name, one, other = _MIRRORED[name], other, one
        assert isinstance(one, Form)
    if isinstance(other, Form):
        drive = added(*alike(one, scaled(other, -np.ones(1))))
    else:
        drive = shifted(one, np.full(1, -other) if isinstance(other, float) else -np.asarray(other, np.float64))
    fires, silent = (constant_form(drive, np.full(1, number)) for number in (1.0, 0.0))
    strict = name in ("Greater", "LessOrEqual")
    return Cases(drive, fires, silent, strict) if name.startswith("Greater") else Cases(drive, silent, fires, strict)


def _sum_of_all(call: Call) -> Value:
    total = call.form()
    for index in range(1, len(call.inputs)):
        total = added(*alike(total, call.form(index)))
    return total


def _divide_constants(one: Array, other: Array) -> Array:
    if one.dtype.kind in "iu" and not other.all():
        raise ValueError("it divides by zero")
    return np.asarray(np.trunc(one / other).astype(one.dtype) if one.dtype.kind in "iu" else one / other)


def _refuse_filled(call: Call) -> NoReturn:
    call.refuse("it works on numbers whose size depends on T or N", "store constants in the file")


ARITHMETIC: Mapping[str, Operator] = {
    "Add": Operator(elementwise(np.add), _add),
    "Div": Operator(elementwise(_divide_constants), _divide),
    "Greater": Operator(elementwise(np.greater), _compare),
    "GreaterOrEqual": Operator(elementwise(np.greater_equal), _compare),
    "Less": Operator(elementwise(np.less), _compare),
    "LessOrEqual": Operator(elementwise(np.less_equal), _compare),
    "Mul": Operator(elementwise(np.multiply), _multiply),
    "Neg": Operator(elementwise(np.negative), _negate),
    "Sub": Operator(elementwise(np.subtract), _subtract),
    "Sum": Operator(elementwise(lambda *values: sum(values)), _sum_of_all),
}
"""A new operator is a line here."""
