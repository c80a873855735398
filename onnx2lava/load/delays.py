"""Delays: as many steps of zeros before spikes as they are late, and the last spikes cut off."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ..layers import Affine
from .signal import Filled, Inputs, Signal, SignalOperator, constant, get_int, refusal

__all__ = ["DELAYS"]


def _concat(node: ir.Node, inputs: Inputs) -> Signal:
    zeros, signal = inputs if len(inputs) == 2 else (None, None)
    if isinstance(zeros, np.ndarray) and not zeros.any():  # T and N may be fixed
        zeros = Filled(zeros.shape, 0.0)
    if (
        not isinstance(zeros, Filled)
        or zeros.value
        or not isinstance(signal, Signal)
        or get_int(node, "axis", 0) != 0
        or zeros.dims[1:] != signal.dims[1:]
        or not _time_first(signal)
    ):
        raise refusal(node, "it joins spikes with something else than steps of zeros before them", "use SpikingJelly's Delay")
    if any(isinstance(step, Affine) or getattr(step, "bias", None) is not None for step in signal.steps):
        raise refusal(node, "it delays sums that a bias is in already", "put the delay before the synapse")
    return replace(signal, dims=(signal.dims[0] + zeros.dims[0], *signal.dims[1:]), late=signal.late + zeros.dims[0])


def _slice(node: ir.Node, inputs: Inputs) -> Signal:
    """It may take zeros away again at the beginning; the end is up to whoever asks for T steps."""
    signal = inputs[0]
    constants = [constant(node, inputs, index) for index in range(1, len(inputs))]
    given = [values.reshape(-1).tolist() for values in constants if values.dtype.kind in "iu"]
    starts, ends, axes, steps = [*given, [0], [1]][:4] if len(given) == 2 else [*given, [1]][:4] if len(given) >= 3 else [[]] * 4
    one_axis = len(starts) == len(ends) == 1 and axes == [0] and steps == [1]
    if not isinstance(signal, Signal) or not one_axis or not _time_first(signal):
        raise refusal(node, "it cuts something else than time steps", "export the network without it")
    length = signal.dims[0]
    start, end, _ = slice(starts[0], ends[0]).indices(length)
    if start > signal.late:
        raise refusal(node, "it drops the first spikes", "export the network without it")
    return replace(signal, dims=(max(end - start, 0), *signal.dims[1:]), late=signal.late - start)


def _time_first(signal: Signal) -> bool:
    """Whether the first axis is time, and time alone."""
    return signal.dims[1:] == (signal.samples, *signal.features)


DELAYS: Mapping[str, SignalOperator] = {"Concat": _concat, "Slice": _slice}
