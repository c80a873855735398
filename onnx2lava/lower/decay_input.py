"""A leak that takes a share of the input as well is a leak with smaller weights."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..layers import Convolution, Layer, Linear, SpikingNeuron

__all__ = ["decay_input"]


def decay_input(layers: Sequence[Layer]) -> list[Layer]:
    """Weight and bias of a neuron with ``decay_input=True`` are multiplied by its decay, 1 / tau.

    ``v + (x - (v - v_reset)) / tau`` is ``v - (v - v_reset) / tau + x / tau``.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    neuron = layer.neuron
    if not isinstance(neuron, SpikingNeuron) or not neuron.decay_input:
        return layer
    (synapse,) = layer.steps
    assert isinstance(synapse, Convolution | Linear)
    weight = synapse.weight.astype(np.float64) * neuron.decay
    bias = None if synapse.bias is None else synapse.bias.astype(np.float64) * neuron.decay
    return replace(layer, steps=(replace(synapse, weight=weight, bias=bias),), neuron=replace(neuron, decay_input=False))
