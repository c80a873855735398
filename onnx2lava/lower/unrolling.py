"""A layer that had to become a matrix gives flat spikes; the convolutions behind it become matrices too."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ..layers import Convolution, Layer
from ..network import INPUT
from .compose import TooLargeError, unrolled

__all__ = ["unrolling"]


def unrolling(layers: Sequence[Layer]) -> list[Layer]:
    """Every layer reads its source's spikes in the shape in which they now come.

    A matrix reads ``(C, H, W)`` flattened in that order, so that linear layers need no change; convolutions are unrolled. NetX's
    layers keep the name and the order of their neurons, and lose their shape.
    """
    flat: set[str] = set()
    result = []
    for layer in layers:
        if layer.source in flat and layer.source != INPUT:
            layer = _reading_flat(layer)
        # The step before merging may have given (C, H, W): a matrix there is what merging had to make of it.
        if len(layer.shape) == 1:
            flat.add(layer.name)
        result.append(layer)
    return result


def _reading_flat(layer: Layer) -> Layer:
    steps = layer.steps
    if isinstance(steps[0], Convolution):
        try:
            steps = (unrolled(steps[0], layer.input_shape), *steps[1:])
        except TooLargeError as error:
            raise layer.refusal(
                f"the layer before it is no convolution, so that it would have to become a matrix as well, and {error}",
                "choose sizes that pooling divides evenly, or put a neuron between",
            ) from error
    return replace(layer, steps=steps, input_shape=(prod(layer.input_shape),))
