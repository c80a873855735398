"""Constants: what follows from initializers alone is computed, weights behind a few harmless operators, and shapes.

No operator stores many more numbers than it is given, so that a small file cannot ask for a huge array; whatever is made counts
against the file's budget.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from custom_ops.files.model_file import numbers

from ...network import Array
from ..call import Call, Filled, Operator

__all__ = ["CONSTANTS", "elementwise", "reduced"]

_FEW = 1024  # elements that shape arithmetic may make out of nothing


def elementwise(function: Callable[..., Any]) -> Callable[[Call, list[Array]], Array]:
    """An operator that works number by number."""

    def evaluate(call: Call, inputs: list[Array]) -> Array:
        size = prod(np.broadcast_shapes(*(array.shape for array in inputs)))
        if size > _FEW + sum(array.size for array in inputs):
            raise ValueError("it makes more numbers than it is given")
        with np.errstate(all="ignore"):  # a weight that ends up not finite is refused as a weight
            return np.asarray(function(*inputs))

    return evaluate


def reduced(function: Callable[..., Any]) -> Callable[[Call, list[Array]], Array]:
    """An operator that makes one number of many, along axes."""

    def evaluate(call: Call, inputs: list[Array]) -> Array:
        axes = call.axes(1, inputs[0].ndim)
        if axes is None and call.get_int("noop_with_empty_axes", 0):
            return inputs[0]
        keep = bool(call.get_int("keepdims", 1))
        with np.errstate(all="ignore"):
            return np.asarray(function(inputs[0], axis=None if axes is None else tuple(axes), keepdims=keep)).astype(
                inputs[0].dtype
            )

    return evaluate


def _constant(call: Call, inputs: list[Array]) -> Array:
    for name, attribute in call.node.attributes.items():
        if name == "value":
            return numbers(attribute.as_tensor())
        if name in ("value_int", "value_ints"):
            return np.array(attribute.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(attribute.value, np.float32)
    raise ValueError("it holds no numbers")


def _constant_of_shape(call: Call, inputs: list[Array]) -> Any:
    attributes = call.node.attributes
    value = numbers(attributes["value"].as_tensor()).reshape(-1)[0] if "value" in attributes else np.float32(0)
    (shape,) = inputs
    if shape.dtype.kind not in "iu" or shape.size > 32 or shape.min(initial=0) < 0:
        raise ValueError("its input is no shape")
    dims = tuple(int(dim) for dim in shape.reshape(-1))
    # Small ones without T and N may be weights.
    return Filled(dims, float(value)) if prod(dims) > _FEW else np.full(dims, value)


def _dequantize(call: Call, inputs: list[Array]) -> Array:
    values, scale, *zero_point = inputs
    axis = call.get_int("axis", 1)
    if scale.size > 1 and (scale.ndim != 1 or scale.shape[0] != values.shape[axis]):
        raise ValueError("its scale is neither one number nor one per channel")
    column = [1] * values.ndim
    if scale.size > 1:
        column[axis] = -1
    zero = zero_point[0].reshape(column).astype(np.float32) if zero_point else np.float32(0)
    return np.asarray((values.astype(np.float32) - zero) * scale.reshape(column))


def _modulo(one: Array, other: Array) -> Array:
    if not other.all():
        raise ValueError("it divides by zero")
    return np.mod(one, other)


def _range(call: Call, inputs: list[Array]) -> Array:
    start, limit, step = (array.reshape(-1)[0] for array in inputs)
    if not step or not np.isfinite([start, limit, step]).all():
        raise ValueError("its step is zero, or a number is not finite")
    count = max(0, int(np.ceil((float(limit) - float(start)) / float(step))))
    call.budget.take(count, 8)
    return np.asarray(start + np.arange(count) * step).astype(inputs[0].dtype)


CONSTANTS: Mapping[str, Operator] = {
    "Constant": Operator(_constant),
    "ConstantOfShape": Operator(_constant_of_shape),
    "DequantizeLinear": Operator(_dequantize),
    "Mod": Operator(elementwise(_modulo)),
    "Range": Operator(_range),
    "ReduceMin": Operator(reduced(np.min)),
    "ReduceProd": Operator(reduced(np.prod)),
}
"""Operators that only constants pass."""
