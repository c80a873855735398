"""Lava-DL's neurons and synapses, each alone, from a graph that is one of them. Needs lava-dl (Python 3.10)."""

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from custom_ops.loihi import DECAY_UNIT, STATE_UNIT
from custom_ops.operators import SpikingNeuron

from ...errors import ConversionError, LimitError
from ...lava_machine import require_slayer
from ...network import Conv, CubaNeuron, Kernel, Shape
from ...network.unrolling import unrolled
from ...read.neurons import RealCubaNeuron
from ...read.part import load_part

if TYPE_CHECKING:
    import torch

__all__ = ["to_slayer_neuron", "to_slayer_synapse"]

_EXACT = 2**22  # below it, the quotient of a state and its unit in float32 stays apart from the next state's, at any scale


def to_slayer_neuron(model: str | os.PathLike[str] | bytes | onnx.ModelProto, *, scale: int = 64) -> "torch.nn.Module":
    """A graph that is one neuron as ``lava.lib.dl.slayer.neuron.cuba.Neuron``, fed with real numbers.

    slayer counts in state units of ``1 / s``, ``s = 64 * scale``, and truncates toward zero (rtz)::

        v[t] = rtz(v[t-1] * (4096 - round(4096 / tau)) / 4096) + rtz(x[t] * s)
        fires where v[t] >= ceil(s * threshold);    v[t] = 0 there

    The threshold counts from ``v_reset``, and is ``tau`` times as high where SpikingJelly's LIF decays its input. So an IF
    neuron gives SpikingJelly's spikes, every one, for inputs that are multiples of ``1 / s``; a leak is rounded at every step,
    the finer the larger ``scale``. On a GPU, slayer multiplies the threshold by ``s`` in float32: choose a power of two as
    ``scale`` there, or the product may end up below its whole number. ``device_params`` holds the threshold for the chip, in
    whole weight units.

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
        i_decay, v_decay, whole = (int(value) for _, value in neuron.parameters())  # all alike: they are attributes
        return _neuron(whole, i_decay, v_decay, whole * STATE_UNIT + 1, 1)
    if isinstance(neuron, RealCubaNeuron):
        scale, lowest = neuron.scale, neuron.lowest
        mantissa, decays = (lowest - 1) // STATE_UNIT, (neuron.i_decay, neuron.v_decay)
    else:
        threshold = _threshold(neuron)
        lowest = math.ceil(threshold * scale * STATE_UNIT)  # the lowest state that fires
        mantissa, decays = math.ceil(threshold * scale) - 1, (DECAY_UNIT, round(DECAY_UNIT * neuron.decay))
    if not 1 <= lowest < _EXACT:
        raise LimitError(
            f"The threshold of the neuron is {lowest} state units at scale {scale}, outside 1 ... {_EXACT - 1}, which slayer's "
            "float32 states hold: choose another scale."
        )
    return _neuron(mantissa, *decays, lowest, scale)


def to_slayer_synapse(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> "torch.nn.Module":
    """A graph that is one synapse as a synapse of ``lava.lib.dl.slayer.synapse`` with the same sums.

    Conv2d becomes ``Conv``, ConvTranspose2d ``ConvTranspose``, Linear ``Dense``. SumPool2d becomes ``Pool`` with Lava-DL's own
    weights of 1, AvgPool2d one whose weights are one over the size of the window; where windows overlap, are padded, dilated or
    leave a rest, for which Lava-DL's ``Pool`` gives other sums, they become the depthwise ``Conv`` of the same weights. Weights
    are real numbers, not quantised.

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
    map_ = part.map
    if map_ is None:
        raise ConversionError("The model is a neuron, not a synapse: convert it with to_slayer_neuron.")
    if part.has_constant:
        raise ConversionError("The synapse has a bias or a norm, which slayer's have not: export the layer with bias=False.")
    if not isinstance(map_, Kernel):
        if len(part.input_shape) > 1:
            raise ConversionError(
                "The synapse is no convolution with one kernel for all places, such as an AvgPool2d that divides windows at the "
                "border by less than their size: use ceil_mode=False and count_include_pad=True."
            )
        matrix = unrolled(map_, part.input_shape)
        return _with_weight(require_slayer().synapse.Dense(matrix.shape[1], matrix.shape[0]), matrix)
    if isinstance(map_, Conv) and _is_pool(map_, part.input_shape):
        return _with_weight(require_slayer().synapse.Pool(map_.weight.shape[2:], map_.stride), map_.weight.flat[0])
    return _convolution(map_)


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
    neuron = require_slayer().neuron.cuba.Neuron(
        (mantissa + 0.5) / scale, i_decay / DECAY_UNIT, v_decay / DECAY_UNIT, scale=scale
    )
    neuron.threshold_eps = lowest / neuron.s_scale - neuron.threshold
    return neuron.eval()  # type: ignore[no-any-return]


def _is_pool(conv: Conv, shape: Shape) -> bool:
    """Whether slayer's ``Pool`` gives the sums of ``conv``: it stacks channels into one high image, which windows must tile."""
    kernel = conv.weight.shape[2:]
    one_weight = bool((conv.weight == conv.weight.flat[0]).all())
    depthwise = conv.groups == shape[0] == len(conv.weight)
    whole = all(length % size == 0 for length, size in zip(shape[1:], kernel, strict=True))
    return one_weight and depthwise and whole and kernel == conv.stride and not any(conv.pads) and conv.dilation == (1, 1)


def _convolution(map_: Kernel) -> "torch.nn.Module":
    top, left, bottom, right = map_.pads
    if (top, left) != (bottom, right):
        raise ConversionError(f"The convolution pads its sides differently, {list(map_.pads)}: slayer's cannot; pad both alike.")
    first, second, *kernel = map_.weight.shape
    inputs, outputs = (second * map_.groups, first) if isinstance(map_, Conv) else (first, second * map_.groups)
    synapses = require_slayer().synapse
    kind = synapses.Conv if isinstance(map_, Conv) else synapses.ConvTranspose
    synapse = kind(inputs, outputs, tuple(kernel), map_.stride, (top, left), map_.dilation, map_.groups)
    return _with_weight(synapse, map_.weight)


def _with_weight(synapse: Any, weight: Any) -> "torch.nn.Module":
    import torch

    with torch.no_grad():
        given = torch.from_numpy(np.array(weight, np.float32))
        synapse.weight.copy_(given.reshape(synapse.weight.shape) if given.dim() else given)
    return synapse.eval()  # type: ignore[no-any-return]
