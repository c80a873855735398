"""Lava-DL's neurons and synapses, each alone, from a graph that is one of them. Needs lava-dl (Python 3.10)."""

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..errors import ConversionError, LimitError
from ..lava_machine import require_slayer
from ..layers import Affine, AveragePool, Convolution, Linear, RealCubaNeuron, SpikingNeuron
from ..load import load_part
from ..network import CubaNeuron, Shape

if TYPE_CHECKING:
    import torch

__all__ = ["to_slayer_neuron", "to_slayer_synapse"]

_ALIGN = 64  # state units in a weight unit
_UNITY = 4096  # decays are fractions of it
_EXACT = 2**22  # below it, the quotient of a state and its unit in float32 stays apart from the next state's, at any scale


def to_slayer_neuron(model: str | os.PathLike[str] | bytes | onnx.ModelProto, *, scale: int = 64) -> "torch.nn.Module":
    """A graph that is one neuron as ``lava.lib.dl.slayer.neuron.cuba.Neuron``, fed with real numbers.

    slayer counts in state units of ``1 / s``, ``s = 64 * scale``, and truncates toward zero (rtz)::

        v[t] = rtz(v[t-1] * (4096 - round(4096 / tau)) / 4096) + rtz(x[t] * s)
        fires where v[t] >= ceil(s * threshold);    v[t] = 0 there

    The threshold counts from ``v_reset``, and is ``tau`` times as high where SpikingJelly's LIF decays its input. So an IF
    neuron gives SpikingJelly's spikes, every one, for inputs that are multiples of ``1 / s``; a leak is rounded at every step,
    the finer the larger ``scale``. On a GPU, slayer multiplies the threshold by ``s`` in float32: choose a power of two as
    ``scale`` there, or the product may end up below its whole number. ``device_params`` holds the
    threshold for the chip, in whole weight units.

    Args:
        model: ``sj2onnx.export`` of an IFNode, LIFNode or ParametricLIFNode; of a CubaLIFNode, which counts in such units
            itself, with a scale of its own, and whose spikes are equal for any input; or one ``snn.CubaLIF`` node, which reads
            whole weight units and becomes a neuron that reads the same numbers, with a scale of 1. A sj2onnx.CubaLIFNode has
            the chip's 24-bit states, and slayer none: equal while states stay inside.
        scale: weight units in 1.0, a whole number from 1 on; Lava-DL's own is 64. Only for neurons without a scale of their own.

    Returns:
        The neuron: ``[N, *, T]`` in, spikes ``[N, *, T]`` out, from rest at every call.

    Raises:
        ConversionError: the graph is not one neuron, or one that resets by subtraction.
        LimitError: the threshold has no place in slayer's float32 states at this scale.
        ModelFileError: the file is missing or broken.
        RuntimeUnavailableError: lava-dl is not installed.
    """
    if isinstance(scale, bool) or not scale >= 1 or scale % 1:  # also what is not a number
        raise ConversionError(f"The scale of a neuron is {scale}, but is a whole number from 1 on: use 64, as Lava-DL does.")
    neuron = load_part(model).neuron
    if neuron is None:
        raise ConversionError("The model is a synapse, not a neuron: convert it with to_slayer_synapse.")
    if isinstance(neuron, CubaNeuron):
        return _neuron(neuron.v_threshold, neuron.i_decay, neuron.v_decay, neuron.v_threshold * _ALIGN + 1, 1)
    if isinstance(neuron, RealCubaNeuron):
        scale, lowest = neuron.scale, neuron.lowest
        mantissa, decays = (lowest - 1) // _ALIGN, (neuron.i_decay, neuron.v_decay)
    else:
        threshold = _threshold(neuron)
        lowest = math.ceil(threshold * scale * _ALIGN)  # the lowest state that fires
        mantissa, decays = math.ceil(threshold * scale) - 1, (_UNITY, round(_UNITY * neuron.decay))
    if not 1 <= lowest < _EXACT:
        raise LimitError(
            f"The threshold of the neuron is {lowest} state units at scale {scale}, outside 1 ... {_EXACT - 1}, which slayer's "
            "float32 states hold: choose another scale."
        )
    return _neuron(mantissa, *decays, lowest, scale)


def to_slayer_synapse(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> "torch.nn.Module":
    """A graph that is one synapse as a synapse of ``lava.lib.dl.slayer.synapse`` with the same sums.

    Conv2d becomes ``Conv``, Linear ``Dense``. SumPool2d becomes ``Pool`` with Lava-DL's own weights of 1, AvgPool2d one whose
    weights are one over the size of the window; where windows overlap, are padded, dilated or leave a rest, for which Lava-DL's
    ``Pool`` gives other sums, they become the depthwise ``Conv`` of the same weights. Weights are real numbers, not quantised.

    Args:
        model: ``sj2onnx.export`` of one such layer.

    Returns:
        The synapse: ``[N, *, T]`` in, sums ``[N, *, T]`` out. It equals torch's layer as far as float32 sums are exact.

    Raises:
        ConversionError: the graph is not one synapse, it has a bias, or pads its sides differently.
        ModelFileError: the file is missing or broken.
        RuntimeUnavailableError: lava-dl is not installed.
    """
    part = load_part(model)
    if part.neuron is not None:
        raise ConversionError("The model is a neuron, not a synapse: convert it with to_slayer_neuron.")
    if any(isinstance(step, Affine) for step in part.steps):
        raise ConversionError("The synapse has a bias or a norm, which slayer's have not: export the layer with bias=False.")
    if len(part.steps) != 1:
        raise ConversionError(
            f"The model has {len(part.steps)} synapses in a row, but slayer's synapse is one: export one layer."
        )
    (step,) = part.steps
    if isinstance(step, AveragePool):
        step = _depthwise(step, part.input_shape)
    if isinstance(step, Convolution | Linear):
        if step.bias is not None and step.bias.any():
            raise ConversionError("The synapse has a bias, which slayer's have not: export the layer with bias=False.")
        if isinstance(step, Linear):
            return _with_weight(require_slayer().synapse.Dense(step.weight.shape[1], step.weight.shape[0]), step.weight)
        if _is_pool(step, part.input_shape):
            return _with_weight(require_slayer().synapse.Pool(step.weight.shape[2:], step.stride), step.weight.flat[0])
        return _convolution(step)
    raise ConversionError(
        f"The model is a {type(step).__name__}, which is no synapse of slayer: export Conv2d, Linear, AvgPool2d or SumPool2d."
    )


def _threshold(neuron: SpikingNeuron) -> float:
    """How much input, from rest, makes the neuron fire."""
    if neuron.v_reset is None:
        raise ConversionError("The neuron resets by subtraction, but slayer's resets to 0: use v_reset=0.0.")
    threshold = neuron.v_threshold - neuron.v_reset
    return threshold / neuron.decay if neuron.decay_input and neuron.decay else threshold


def _neuron(mantissa: int, i_decay: int, v_decay: int, lowest: int, scale: int) -> "torch.nn.Module":
    """Args: the threshold for the chip, both decays in 1/4096, and the lowest state, in whole units, that fires.

    slayer fires from its threshold on. Its kernel for GPUs cuts the threshold to whole units, so no part of one may stand in it.
    """
    # Half a weight unit more, since slayer truncates.
    neuron = require_slayer().neuron.cuba.Neuron((mantissa + 0.5) / scale, i_decay / _UNITY, v_decay / _UNITY, scale=scale)
    neuron.threshold_eps = lowest / neuron.s_scale - neuron.threshold
    return neuron.eval()  # type: ignore[no-any-return]


def _is_pool(step: Convolution, shape: Shape) -> bool:
    """Whether slayer's ``Pool`` gives the sums of ``step``: it stacks channels into one high image, which windows must tile."""
    kernel = step.weight.shape[2:]
    one_weight = bool((step.weight == step.weight.flat[0]).all())
    depthwise = step.groups == shape[0] == len(step.weight)
    whole = all(length % size == 0 for length, size in zip(shape[1:], kernel, strict=True))
    return one_weight and depthwise and whole and kernel == step.stride and not any(step.pads) and step.dilation == (1, 1)


def _depthwise(pool: AveragePool, shape: Shape) -> Convolution:
    ceil = pool.output_shape(shape) != AveragePool(pool.kernel, pool.stride, pool.pads).output_shape(shape)
    if ceil or (any(pool.pads) and not pool.counts_padding):
        raise ConversionError(
            "The AvgPool2d divides windows at the border by less than their size, which no weight of slayer can say: "
            "use ceil_mode=False and count_include_pad=True."
        )
    weight = np.full((shape[0], 1, *pool.kernel), 1 / math.prod(pool.kernel), np.float32)
    return Convolution(weight, pool.stride, pool.pads, groups=shape[0])


def _convolution(step: Convolution) -> "torch.nn.Module":
    top, left, bottom, right = step.pads
    if (top, left) != (bottom, right):
        raise ConversionError(f"The convolution pads its sides differently, {list(step.pads)}: slayer's cannot; pad both alike.")
    outputs, per_group, *kernel = step.weight.shape
    synapse = require_slayer().synapse.Conv(
        per_group * step.groups, outputs, tuple(kernel), step.stride, (top, left), step.dilation, step.groups
    )
    return _with_weight(synapse, step.weight)


def _with_weight(synapse: Any, weight: Any) -> "torch.nn.Module":
    import torch

    with torch.no_grad():
        given = torch.from_numpy(np.array(weight, np.float32))
        synapse.weight.copy_(given.reshape(synapse.weight.shape) if given.dim() else given)
    return synapse.eval()  # type: ignore[no-any-return]
