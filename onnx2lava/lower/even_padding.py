"""NetX and slayer pad both sides alike; zeros in the kernel make up for it where a file does not."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..layers import Convolution, Layer
from .compose import LARGEST

__all__ = ["even_padding"]


def even_padding(layers: Sequence[Layer]) -> list[Layer]:
    """A convolution whose sides differ gets as many zeros on both, and a kernel with zeros that see the extra ones."""
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    (step,) = layer.steps
    if not isinstance(step, Convolution) or step.pads[:2] == step.pads[2:]:
        return layer
    kernel, before, dilation, pads = [], [], [], []
    for axis in range(2):
        low, high, spacing, size = step.pads[axis], step.pads[axis + 2], step.dilation[axis], step.weight.shape[2 + axis]
        if (low - high) % spacing:  # elements so far apart cannot be joined by zeros: fill the gaps first
            size, spacing = spacing * (size - 1) + 1, 1
        pad = max(low, high, 0)
        pad += (low - pad) % spacing
        before.append((pad - low) // spacing)
        kernel.append(size + (2 * pad - low - high) // spacing)
        dilation.append(spacing)
        pads.append(pad)
    shape = (*step.weight.shape[:2], *kernel)
    if prod(shape) > LARGEST:
        raise layer.refusal(f"its padding {list(step.pads)} differs between the sides too much", "pad both sides alike")
    weight = np.zeros(shape, step.weight.dtype)
    places = [
        before[axis] + np.arange(step.weight.shape[2 + axis]) * (step.dilation[axis] // dilation[axis]) for axis in range(2)
    ]
    weight[:, :, places[0][:, None], places[1]] = step.weight
    even = replace(step, weight=weight, pads=(pads[0], pads[1], pads[0], pads[1]), dilation=(dilation[0], dilation[1]))
    return replace(layer, steps=(even,))
