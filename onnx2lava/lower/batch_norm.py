"""Batch normalisation in evaluation is a factor and a shift per channel."""

from collections.abc import Sequence
from dataclasses import replace

from ..layers import Affine, Convolution, Layer, Linear, Step
from .compose import composed

__all__ = ["batch_norm"]


def batch_norm(layers: Sequence[Layer]) -> list[Layer]:
    """A BatchNorm, or a bias that stands alone, behind a synapse is folded into the synapse's weight and bias.

    One that stands elsewhere, before a synapse or behind pooling that divides differently at the edge, is left to merging.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    steps: list[Step] = []
    for step in layer.steps:
        before = steps[-1] if steps else None
        if isinstance(step, Affine) and isinstance(before, Convolution | Linear):
            folded = composed(before, step, ())
            if folded is not None:
                steps[-1] = folded
                continue
        steps.append(step)
    return layer if len(steps) == len(layer.steps) else replace(layer, steps=tuple(steps))
