"""Functions of spikes, element by element: whatever a few spikes decide, neurons that are added say exactly."""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import numpy as np

from ...network import Array
from ..call import Call, Filled, Operator, Value
from ..form import Form, added, scaled, shifted
from ..repeating import alike, repeated
from .constants import elementwise

__all__ = ["FUNCTIONS", "of_spikes", "product_of_spikes"]


def of_spikes(call: Call, function: Callable[..., Any], reason: str = "", remedy: str = "", *, whole: bool = True) -> Form:
    """The function of all inputs of a node, of which one or two are spikes.

    Args:
        call: of the node.
        function: of arrays, as NumPy has it.
        reason: why it is refused where it reads something else than a few spikes.
        remedy: what to do about that.
        whole: whether it is what the node gives, and not a part of that.
    """
    if call.gates is None:
        call.refuse("it has no counterpart on Loihi", "use a container of linear layers and one neuron with hard reset")
    given = [_given(call, index) for index in range(len(call.inputs))]
    made: Form = call.gates.function(
        call,
        given,
        function,
        reason or "it takes more than a few spikes, or sums of a synapse, and no neuron of the file stands there",
        remedy or "use a spiking neuron of SpikingJelly in its place, or compute with spikes",
        whole=whole,
    )
    return made


def product_of_spikes(call: Call) -> Form:
    """The product of both inputs, each of spikes or sums of a few."""
    reason = "it multiplies numbers that are no spikes, which no neuron can"
    return of_spikes(call, np.multiply, reason, "multiply spikes by spikes or by constants")


def _given(call: Call, index: int) -> Form | Array | float | None:
    value = call.inputs[index]
    if isinstance(value, Filled):
        return float(value.value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "b":
        return value.astype(np.float64)
    return value if value is None or isinstance(value, Form) else call.constant(index)


def _of_many(function: Callable[..., Any], call: Call) -> Value:
    """The function of the first two, of that and the third, and so on."""
    first, *rest = call.inputs
    for at, value in enumerate(rest):
        pair = Call(call.node, [first, value], call.budget, call.gates)
        first = of_spikes(pair, function, whole=at == len(rest) - 1)
    if first is None:
        call.refuse("it has no inputs", "write it as the operator's schema says")
    return first


def _clip(values: Array, low: Array | None = None, high: Array | None = None) -> Array:
    return np.minimum(np.maximum(values, -np.inf if low is None else low), np.inf if high is None else high)


def _clip_constant(call: Call, inputs: list[Array]) -> Array:
    bounds = [value for value in call.inputs[1:3] if isinstance(value, np.ndarray)]
    low = call.inputs[1] if call.has(1) else call.attribute(call.node.attributes.get_float, "min", -np.inf)
    high = call.inputs[2] if call.has(2) else call.attribute(call.node.attributes.get_float, "max", np.inf)
    if any(bound.size != 1 for bound in bounds):
        raise ValueError("its bounds are not one number each")
    return np.clip(inputs[0], low, high).astype(inputs[0].dtype)  # type: ignore[arg-type]


def _clip_by_attributes(call: Call) -> Value:
    """The bounds were attributes before version 11."""
    if len(call.inputs) > 1:
        return of_spikes(call, _clip)
    low, high = (call.attribute(call.node.attributes.get_float, name, None) for name in ("min", "max"))
    return of_spikes(call, lambda values: _clip(values, low, high))


def _where(call: Call) -> Value:
    """Of three that depend on spikes, the first decides: it times the second, and its complement times the third."""
    condition, one, other = call.inputs if len(call.inputs) == 3 else (None, None, None)
    if isinstance(condition, np.ndarray):
        return _chosen(call, condition)
    if not isinstance(one, Form) or not isinstance(other, Form):
        return of_spikes(call, np.where)
    first, second = (
        of_spikes(Call(call.node, [condition, value], call.budget, call.gates), function, whole=False)
        for value, function in ((one, _if), (other, _if_not))
    )
    return added(*alike(first, second))


def _chosen(call: Call, condition: Array) -> Form:
    """By a constant, elements of two values: ``x[..., :1] = y`` is exported so, too."""
    forms = {index: value for index in (1, 2) if isinstance(value := call.inputs[index], Form)}
    if len(forms) == 2:
        forms = dict(zip(forms, alike(*forms.values()), strict=True))
    total: Form | None = None
    for index, form in forms.items():
        wide = repeated(form, tuple(max(pair) for pair in zip(form.dims, _of_rank(condition, form), strict=True)))
        part = scaled(wide, np.where(condition, index == 1, index == 2).astype(np.float64))
        total = part if total is None else added(total, part)
    assert total is not None
    if len(forms) == 2:
        return total
    index = 3 - next(iter(forms))
    value = call.inputs[index]
    numbers = np.full(1, value.value) if isinstance(value, Filled) else call.constant(index)
    numbers = np.where(condition if index == 1 else ~condition.astype(bool), numbers, 0.0)
    if not np.isfinite(numbers).all():
        call.refuse("it chooses something that is no finite number", "choose numbers")
    return shifted(total, numbers)


def _of_rank(values: Array, form: Form) -> tuple[int, ...]:
    return (1,) * (len(form.dims) - values.ndim) + values.shape


def _if(condition: Array, value: Array) -> Array:
    return np.where(condition, value, 0.0)


def _if_not(condition: Array, value: Array) -> Array:
    return np.where(condition, 0.0, value)


def _one(function: Callable[..., Any]) -> Operator:
    return Operator(elementwise(function), lambda call: of_spikes(call, function))


FUNCTIONS: Mapping[str, Operator] = {
    "Abs": _one(np.abs),
    "And": _one(np.logical_and),
    "Ceil": _one(np.ceil),
    "Clip": Operator(_clip_constant, _clip_by_attributes),
    "Equal": _one(np.equal),
    "Exp": _one(np.exp),
    "Floor": _one(np.floor),
    "Log": _one(np.log),
    "Max": Operator(elementwise(lambda *values: reduce(np.maximum, values)), partial(_of_many, np.maximum)),
    "Min": Operator(elementwise(lambda *values: reduce(np.minimum, values)), partial(_of_many, np.minimum)),
    "Not": _one(np.logical_not),
    "Or": _one(np.logical_or),
    "Pow": _one(np.power),
    "Reciprocal": _one(np.reciprocal),
    "Relu": _one(partial(np.maximum, 0)),
    "Round": _one(np.rint),
    "Sigmoid": _one(lambda values: 1 / (1 + np.exp(-np.asarray(values, np.float64)))),
    "Sign": _one(np.sign),
    "Sqrt": _one(np.sqrt),
    "Tanh": _one(np.tanh),
    "Where": Operator(elementwise(np.where), _where),
    "Xor": _one(np.logical_xor),
}
"""A new operator is a line here."""
