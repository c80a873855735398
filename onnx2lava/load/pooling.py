"""Operators that pool over windows of the image."""

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from ..layers import AveragePool, MaxPool
from .signal import Inputs, Signal, SignalOperator, applied, attribute, constant, get_int, pair, refusal, signal_at
from .synapses import read_pads

__all__ = ["POOLING"]


def _average_pool(node: ir.Node, inputs: Inputs) -> Signal:
    signal = _images(node, inputs)
    kernel, strides = pair(node, "kernel_shape", ()), pair(node, "strides")
    if pair(node, "dilations") != (1, 1):
        raise refusal(node, "it is dilated", "use AvgPool2d")
    pads = read_pads(node, signal.dims[2:], kernel, strides, (1, 1))
    ceil, counts = bool(get_int(node, "ceil_mode", 0)), bool(get_int(node, "count_include_pad", 0))
    return applied(node, signal, AveragePool(kernel, strides, pads, ceil, counts), signal.dims[1:])


def _global_average_pool(node: ir.Node, inputs: Inputs) -> Signal:
    signal = _images(node, inputs)
    size = (signal.dims[2], signal.dims[3])
    return applied(node, signal, AveragePool(size, size), signal.dims[1:])


def _reduce_mean(node: ir.Node, inputs: Inputs) -> Signal:
    """The mean over the whole image, as AdaptiveAvgPool2d(1) is exported."""
    signal = signal_at(node, inputs, 0)
    given = constant(node, inputs, 1).reshape(-1) if len(inputs) > 1 and inputs[1] is not None else None
    axes = attribute(node, node.attributes.get_ints, "axes", []) if given is None else given
    rank = len(signal.dims)
    if len(signal.features) != 3 or {int(axis) % rank for axis in axes} != {rank - 2, rank - 1}:
        raise refusal(node, "it averages over something else than the image", "put it behind the last spiking layer")
    if signal.dims[-3:] != signal.features:
        raise refusal(node, "it averages over something else than the image", "fold only time and batch")
    size = (signal.dims[-2], signal.dims[-1])
    mean = applied(node, signal, AveragePool(size, size), signal.features)
    return mean if get_int(node, "keepdims", 1) else replace(mean, dims=mean.dims[:-2])


def _max_pool(node: ir.Node, inputs: Inputs) -> Signal:
    signal = _images(node, inputs)
    kernel, strides, dilations = pair(node, "kernel_shape", ()), pair(node, "strides"), pair(node, "dilations")
    pads = read_pads(node, signal.dims[2:], kernel, strides, dilations)
    return applied(node, signal, MaxPool(kernel, strides, pads, dilations, bool(get_int(node, "ceil_mode", 0))), signal.dims[1:])


def _global_max_pool(node: ir.Node, inputs: Inputs) -> Signal:
    signal = _images(node, inputs)
    size = (signal.dims[2], signal.dims[3])
    return applied(node, signal, MaxPool(size, size), signal.dims[1:])


def _images(node: ir.Node, inputs: Inputs) -> Signal:
    signal = signal_at(node, inputs, 0)
    if len(signal.dims) != 4:
        raise refusal(node, "it does not pool images with time folded into the batch", "use a two-dimensional layer")
    return signal


POOLING: Mapping[str, SignalOperator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
}
