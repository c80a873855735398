"""Evaluate the constant parts of a graph: weights behind a few harmless operators, and computed shapes.

No operator stores many more numbers than it is given, so that a small file cannot ask for a huge array: Expand gives a view of
its input, which the reader weighs by the size that it seems to have.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from custom_ops.model_file import numbers

from ..network import Array
from .signal import Filled

__all__ = ["FOLDABLE", "filled", "fold"]

_FEW = 1024  # elements that shape arithmetic may make out of nothing


def fold(node: ir.Node, inputs: Sequence[object]) -> Array | str:
    """The first output of ``node``, computed from constants, or the reason why it has none.

    Args:
        node: an operator of :data:`FOLDABLE`.
        inputs: arrays; None for those left out; a string says why a value could not be had.
    """
    for value in inputs:
        if isinstance(value, str):
            return value
    arrays = [value for value in inputs if isinstance(value, np.ndarray)]
    try:
        return FOLDABLE[node.op_type](node, arrays)
    except (ValueError, TypeError, IndexError, OverflowError, KeyError, AttributeError) as error:
        return f"the node {node.name!r} ({node.op_type}) cannot be computed ({' '.join(str(error).split())})"


def filled(node: ir.Node, inputs: Sequence[object]) -> Filled | str:
    """What ``node``, a ConstantOfShape, gives; or the reason why it gives nothing. Arguments as for :func:`fold`."""
    shape = inputs[0] if inputs else None
    if isinstance(shape, str):
        return shape
    try:
        value = numbers(node.attributes["value"].as_tensor()).reshape(-1)[0] if "value" in node.attributes else 0.0
        if not isinstance(shape, np.ndarray) or shape.dtype.kind not in "iu" or shape.size > _FEW or shape.min(initial=0) < 0:
            raise ValueError("its input is no shape")
        return Filled(tuple(int(dim) for dim in shape.reshape(-1)), float(value))
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        return f"the node {node.name!r} ({node.op_type}) cannot be computed ({' '.join(str(error).split())})"


def _elementwise(function: Callable[..., Array]) -> Callable[[ir.Node, list[Array]], Array]:
    def evaluate(node: ir.Node, inputs: list[Array]) -> Array:
        if prod(np.broadcast_shapes(*(array.shape for array in inputs))) > _FEW + sum(array.size for array in inputs):
            raise ValueError("it makes more numbers than it is given")
        with np.errstate(all="ignore"):  # a weight that ends up not finite is refused as a weight
            return np.asarray(function(*inputs))

    return evaluate


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu" and not b.all():
        raise ValueError("it divides by zero")
    return np.asarray(np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b)


def _constant(node: ir.Node, inputs: list[Array]) -> Array:
    for name, attribute in node.attributes.items():
        if name == "value":
            return numbers(attribute.as_tensor())
        if name in ("value_int", "value_ints"):
            return np.array(attribute.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(attribute.value, np.float32)
    raise ValueError("it holds no numbers")


def _cast(node: ir.Node, inputs: list[Array]) -> Array:
    if inputs[0].dtype.kind == "c":
        raise ValueError("it takes complex numbers for real ones")
    with np.errstate(all="ignore"):
        return inputs[0].astype(ir.DataType(node.attributes["to"].as_int()).numpy())


def _dequantize(node: ir.Node, inputs: list[Array]) -> Array:
    values, scale, *zero_point = inputs
    axis = node.attributes.get_int("axis", 1)
    if scale.size > 1 and (scale.ndim != 1 or scale.shape[0] != values.shape[axis]):
        raise ValueError("its scale is neither one number nor one per channel")
    column = [1] * values.ndim
    if scale.size > 1:
        column[axis] = -1
    zero = zero_point[0].reshape(column).astype(np.float32) if zero_point else np.float32(0)
    return np.asarray((values.astype(np.float32) - zero) * scale.reshape(column))


def _reshape(node: ir.Node, inputs: list[Array]) -> Array:
    data, shape = inputs
    dims = [int(dim) for dim in shape.reshape(-1)]
    if not node.attributes.get_int("allowzero", 0):
        dims = [data.shape[axis] if dim == 0 else dim for axis, dim in enumerate(dims)]
    return data.reshape(dims)


def _axes(node: ir.Node, inputs: list[Array]) -> tuple[int, ...] | None:
    """Axes as the second input (opset 13 and later) or as an attribute."""
    if len(inputs) > 1:
        return tuple(int(axis) for axis in inputs[1].reshape(-1))
    given = node.attributes.get_ints("axes", None)
    return None if given is None else tuple(given)


def _squeeze(node: ir.Node, inputs: list[Array]) -> Array:
    return np.squeeze(inputs[0], _axes(node, inputs))


def _unsqueeze(node: ir.Node, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], _axes(node, inputs) or ())


def _transpose(node: ir.Node, inputs: list[Array]) -> Array:
    return np.transpose(inputs[0], node.attributes.get_ints("perm", None))


def _concat(node: ir.Node, inputs: list[Array]) -> Array:
    if sum(array.size for array in inputs) > _FEW:
        raise ValueError("it makes more than a shape")
    return np.concatenate(inputs, axis=node.attributes["axis"].as_int())


def _expand(node: ir.Node, inputs: list[Array]) -> Array:
    data, shape = inputs
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(int(dim) for dim in shape)))


def _gather(node: ir.Node, inputs: list[Array]) -> Array:
    if inputs[0].ndim != 1 or inputs[1].size > _FEW:
        raise ValueError("it gathers from something that is not a shape")
    return np.asarray(np.take(inputs[0], inputs[1]))


def _slice(node: ir.Node, inputs: list[Array]) -> Array:
    data, starts, ends, *rest = inputs
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    where = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(where)]


def _product(node: ir.Node, inputs: list[Array]) -> Array:
    axes = _axes(node, inputs)
    return np.asarray(np.prod(inputs[0], axis=axes, keepdims=bool(node.attributes.get_int("keepdims", 1)), dtype=inputs[0].dtype))


def _shape(node: ir.Node, inputs: list[Array]) -> Array:
    dims = np.array(inputs[0].shape, np.int64)
    return dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(dims))]


FOLDABLE: dict[str, Callable[[ir.Node, list[Array]], Array]] = {
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "DequantizeLinear": _dequantize,
    "Div": _elementwise(_divide),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda node, inputs: inputs[0],
    "Mul": _elementwise(np.multiply),
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators that are computed when all their inputs are constants."""
