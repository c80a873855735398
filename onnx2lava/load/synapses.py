"""Operators that make sums of spikes."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ..layers import Affine, Convolution, Linear, Pads, column
from ..network import Array
from .signal import (
    Inputs,
    Signal,
    SignalOperator,
    applied,
    attribute,
    constant,
    get_float,
    get_int,
    pair,
    refusal,
    signal_at,
)

__all__ = ["SYNAPSES", "read_pads"]


def _conv(node: ir.Node, inputs: Inputs) -> Signal:
    signal, weight = signal_at(node, inputs, 0), constant(node, inputs, 1)
    if len(signal.dims) != 4 or weight.ndim != 4:
        raise refusal(node, "it is not a two-dimensional convolution with time folded into the batch", "use Conv2d")
    strides, dilations = pair(node, "strides"), pair(node, "dilations")
    pads = read_pads(node, signal.dims[2:], weight.shape[2:], strides, dilations)
    bias = _bias(node, inputs, 2, len(weight))
    return applied(node, signal, Convolution(weight, strides, pads, dilations, get_int(node, "group", 1), bias), signal.dims[1:])


def read_pads(
    node: ir.Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    """The zeros around an image of ``size``, as the attributes ``pads`` or ``auto_pad`` say."""
    mode = attribute(node, node.attributes.get_string, "auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-length // max(step, 1)) - 1) * step + dilate * (k - 1) + 1 - length, 0)
            for length, k, step, dilate in zip(size, kernel, strides, dilations, strict=True)
        ]
        upper, lower = [-(-total // 2) for total in totals], [total // 2 for total in totals]
        pads = [*lower, *upper] if mode == "SAME_UPPER" else [*upper, *lower]
    else:
        pads = [int(pad) for pad in attribute(node, node.attributes.get_ints, "pads", [0, 0, 0, 0])]
    if len(pads) != 4 or min(pads) < 0:
        raise refusal(node, f"its padding is {pads}, not four numbers from 0 on", "export it again")
    return pads[0], pads[1], pads[2], pads[3]


def _gemm(node: ir.Node, inputs: Inputs) -> Signal:
    signal, weight = signal_at(node, inputs, 0), constant(node, inputs, 1)
    if len(signal.dims) != 2 or weight.ndim != 2 or get_int(node, "transA", 0):
        raise refusal(node, "it does not multiply folded spikes [T * N, F] by a matrix", "use Linear")
    weight = np.asarray(weight if get_int(node, "transB", 0) else weight.T) * get_float(node, "alpha", 1.0)
    bias = _bias(node, inputs, 2, len(weight))
    return _linear(node, signal, weight, None if bias is None else bias * get_float(node, "beta", 1.0))


def _matmul(node: ir.Node, inputs: Inputs) -> Signal:
    signal, weight = signal_at(node, inputs, 0), constant(node, inputs, 1)
    if weight.ndim != 2:
        raise refusal(node, "its second input is not a matrix", "use Linear")
    return _linear(node, signal, weight.T, None)


def _linear(node: ir.Node, signal: Signal, weight: Array, bias: Array | None) -> Signal:
    if weight.size == 0 or weight.shape[1] != signal.dims[-1]:
        raise refusal(node, f"its matrix {weight.shape} cannot read {signal.dims[-1]} spikes", "export it again")
    return applied(node, signal, Linear(weight, bias), signal.dims[-1:])


def _bias(node: ir.Node, inputs: Inputs, index: int, channels: int) -> Array | None:
    if index >= len(inputs) or inputs[index] is None:
        return None
    bias = constant(node, inputs, index)
    if bias.size not in (1, channels) or bias.size != max((1, *bias.shape)):
        raise refusal(node, f"its bias has {bias.size} values for {channels} channels", "export it again")
    return np.broadcast_to(bias.reshape(-1), (channels,))


def _batch_norm(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    if get_int(node, "training_mode", 0):
        raise refusal(node, "it normalises each batch by itself", "export the network in evaluation mode (net.eval())")
    scale, shift, mean, variance = (constant(node, inputs, index).astype(np.float64) for index in range(1, 5))
    channels = signal.dims[1] if len(signal.dims) > 1 else 0
    if any(values.shape != (channels,) for values in (scale, shift, mean, variance)):
        raise refusal(node, f"its statistics are not one number for each of {channels} channels", "fold time into the batch")
    with np.errstate(all="ignore"):  # what ends up not finite is refused as a weight
        factor = scale / np.sqrt(variance + get_float(node, "epsilon", 1e-5))
        shift = shift - mean * factor
    axes = len(signal.dims) - 1
    affine = Affine(column(factor, axes), column(shift, axes))
    if signal.dims[1:] != signal.features:
        raise refusal(node, "it normalises something else than the channels of one time step", "fold time into the batch")
    return applied(node, signal, affine, signal.dims[1:])


def _add(node: ir.Node, inputs: Inputs) -> Signal:
    signal, values = _with_constant(node, inputs)
    return _scaled(node, signal, np.ones(1), values)


def _subtract(node: ir.Node, inputs: Inputs) -> Signal:
    signal, values = _with_constant(node, inputs)
    if inputs[0] is not signal:
        return _scaled(node, signal, -np.ones(1), values)
    return _scaled(node, signal, np.ones(1), -values.astype(np.float64))


def _multiply(node: ir.Node, inputs: Inputs) -> Signal:
    signal, values = _with_constant(node, inputs)
    return _scaled(node, signal, values, np.zeros(1))


def _divide(node: ir.Node, inputs: Inputs) -> Signal:
    signal, values = _with_constant(node, inputs)
    if inputs[0] is not signal or not values.all():
        raise refusal(node, "it divides by spikes or by zero", "export it again")
    return _scaled(node, signal, 1 / values.astype(np.float64), np.zeros(1))


def _with_constant(node: ir.Node, inputs: Inputs) -> tuple[Signal, Array]:
    """The signal and the constant, whichever comes first."""
    if len(inputs) != 2:
        raise refusal(node, "it has not two inputs", "export it again")
    if all(isinstance(value, Signal) for value in inputs):
        raise refusal(
            node,
            "it combines what two layers give element by element, which a chain of layers cannot",
            "convert a network without skip connections",
        )
    at = 0 if isinstance(inputs[0], Signal) else 1
    return signal_at(node, inputs, at), constant(node, inputs, 1 - at)


def _scaled(node: ir.Node, signal: Signal, factor: Array, shift: Array) -> Signal:
    features = signal.features
    rank = len(features)
    if signal.dims[-rank:] != features:
        raise refusal(node, "it works on sums that are not arranged by channel", "give the bias to the synapse")
    parts = []
    for values in (factor, shift):
        own = values.shape[max(values.ndim - rank, 0) :]
        own = (1,) * (rank - len(own)) + own
        fits = values.size == np.prod(own, dtype=np.int64) and all(a in (1, b) for a, b in zip(own, features, strict=True))
        if not fits or np.prod(own[1:], dtype=np.int64) != 1:
            raise refusal(
                node, f"its constant has the shape {values.shape}, not one number per channel", "use a bias of [C, 1, 1]"
            )
        parts.append(values.reshape(own))
    return applied(node, signal, Affine(*parts), features)


SYNAPSES: Mapping[str, SignalOperator] = {
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Div": _divide,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _multiply,
    "Sub": _subtract,
}
