"""Operators that leave every number as it is: other shapes, other types, and what is gone in evaluation."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import onnx_ir as ir

from .signal import Inputs, Signal, SignalOperator, constant, get_int, listed, refusal, signal_at

__all__ = ["ARRANGEMENTS"]

_MOST_AXES = 32
_NUMBERS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64)


def _identity(node: ir.Node, inputs: Inputs) -> Signal:
    return signal_at(node, inputs, 0)


def _dropout(node: ir.Node, inputs: Inputs) -> Signal:
    if len(inputs) > 2 and inputs[2] is not None and constant(node, inputs, 2).any():
        raise refusal(node, "it drops spikes at random", "export the network in evaluation mode (net.eval())")
    return signal_at(node, inputs, 0)


def _cast(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    if get_int(node, "to", 0) not in _NUMBERS:
        raise refusal(node, "it casts to a type that does not hold all sums", "cast to float32")
    return signal


def _reshape(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    dims = list(_dims(node, inputs))
    if not get_int(node, "allowzero", 0):
        dims = [signal.dims[axis] if dim == 0 and axis < len(signal.dims) else dim for axis, dim in enumerate(dims)]
    known = prod(dim for dim in dims if dim != -1)
    if dims.count(-1) == 1 and known > 0:
        dims[dims.index(-1)] = prod(signal.dims) // known
    return _rearranged(node, signal, tuple(dims))


def _flatten(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    axis = get_int(node, "axis", 1)
    return _rearranged(node, signal, (prod(signal.dims[:axis]), prod(signal.dims[axis:])))


def _squeeze(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    if len(inputs) > 1:
        axes = {axis % len(signal.dims) for axis in _dims(node, inputs)}
    else:
        axes = {axis for axis, dim in enumerate(signal.dims) if dim == 1}
    return _rearranged(node, signal, tuple(dim for axis, dim in enumerate(signal.dims) if axis not in axes))


def _unsqueeze(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    new = _dims(node, inputs)
    rank = len(signal.dims) + len(new)
    axes = {axis % rank for axis in new}
    rest = iter(signal.dims)
    return _rearranged(node, signal, tuple(1 if axis in axes else next(rest, -1) for axis in range(rank)))


def _dims(node: ir.Node, inputs: Inputs) -> tuple[int, ...]:
    """Sizes or axes, the second input of what arranges."""
    values = constant(node, inputs, 1)
    if values.dtype.kind not in "iu" or values.size > _MOST_AXES:
        raise refusal(node, f"its second input is not up to {_MOST_AXES} whole numbers", "export it again")
    return tuple(int(value) for value in values.reshape(-1))


def _rearranged(node: ir.Node, signal: Signal, dims: tuple[int, ...]) -> Signal:
    if prod(dims) != prod(signal.dims) or min(dims, default=-1) < 0:
        raise refusal(node, f"its target shape {listed(dims)} does not hold its input", "export it with T and N left open")
    return replace(signal, dims=dims)


ARRANGEMENTS: Mapping[str, SignalOperator] = {
    "Cast": _cast,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
