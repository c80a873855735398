"""Loihi resets to 0: a membrane potential that is counted from its reset does so too."""

from collections.abc import Sequence
from dataclasses import replace

from ..layers import Layer, SpikingNeuron
from ..network import FloatNeuron

__all__ = ["reset"]


def reset(layers: Sequence[Layer]) -> list[Layer]:
    """The threshold becomes ``v_threshold - v_reset``.

    SpikingJelly's neurons start from ``v_reset``, return to it after a spike and leak towards it: nothing else knows of it. A
    soft reset subtracts the threshold instead, which no neuron of Loihi does.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    neuron = layer.neuron
    if not isinstance(neuron, SpikingNeuron):
        return layer
    assert not neuron.decay_input  # a pass of its own
    if neuron.v_reset is None:
        raise layer.refusal(
            "it resets by subtraction (v_reset=None), but neurons of Loihi reset to one value", "train with v_reset=0.0"
        )
    threshold = neuron.v_threshold - neuron.v_reset
    if not threshold > 0:
        raise layer.refusal(
            f"its threshold {neuron.v_threshold:g} is not above its reset {neuron.v_reset:g}, so that it fires without input",
            "train with a threshold above the reset",
        )
    return replace(layer, neuron=FloatNeuron(neuron.decay, threshold))
