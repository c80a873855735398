"""What all passes have left becomes blocks."""

from collections.abc import Sequence

import numpy as np

from ..layers import Convolution, Layer, Linear
from ..limits import UNITY_DECAY
from ..network import Array, Block, Conv, CubaNeuron, Dense, FloatNeuron, Synapse

__all__ = ["blocks"]


def blocks(layers: Sequence[Layer]) -> tuple[Block, ...]:
    """One block a layer, each of one synapse, one bias and one neuron."""
    return tuple(_block(layer) for layer in layers)


def _block(layer: Layer) -> Block:
    (step,) = layer.steps
    assert isinstance(step, Convolution | Linear)
    assert isinstance(layer.neuron, CubaNeuron | FloatNeuron)
    weight, bias = step.weight, step.bias
    if bias is not None and not bias.any():
        bias = None
    recurrent = layer.recurrent
    if isinstance(layer.neuron, CubaNeuron):
        weight, bias = _integer_layer(layer, weight, bias)
        recurrent = None if recurrent is None else _integers(layer, "weights", recurrent)
    synapse = _synapse(step, weight, recurrent)
    return Block(layer.name, synapse, layer.neuron, layer.input_shape, bias, (layer.source,), layer.late)


def _synapse(step: Convolution | Linear, weight: Array, recurrent: Array | None) -> Synapse:
    if isinstance(step, Linear):
        return Dense(weight, recurrent)
    assert step.pads[:2] == step.pads[2:]
    return Conv(weight, step.stride, (step.pads[0], step.pads[1]), step.dilation, step.groups)


def _integer_layer(layer: Layer, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
    """The numbers of a layer that trained quantised.

    A synapse's bias enters the current u, not the voltage v. Where u keeps nothing from step to step, that is the same.
    """
    assert isinstance(layer.neuron, CubaNeuron)
    if bias is not None and layer.neuron.i_decay != UNITY_DECAY:
        raise layer.refusal("its synapse has a bias, which its current would integrate", "give the bias to the neuron instead")
    total = np.zeros(len(weight))
    for part in (bias, layer.bias):
        total = total if part is None else total + _integers(layer, "bias", part)
    return _integers(layer, "weights", weight), _integers(layer, "bias", total) if total.any() else None


def _integers(layer: Layer, what: str, values: Array) -> Array:
    """``values`` as int32.

    Raises:
        ConversionError: they are not whole numbers.
    """
    whole = np.rint(values)
    if not (whole == values).all() or not float(np.abs(whole).max()) < 2**31:
        raise layer.refusal(f"its {what} are not whole numbers", "train it with sj2onnx.BlockContainer, which quantises")
    return whole.astype(np.int32)
