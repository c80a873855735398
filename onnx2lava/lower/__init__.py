"""From layers as a file has them to blocks for Loihi: one pass a file, run in this order. Each is exact.

A pass takes all layers and gives all layers; a new one is a file and a line in :data:`PASSES`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..layers import Layer
from ..network import Block
from .average_pooling import average_pooling
from .batch_norm import batch_norm
from .blocks import blocks
from .decay_input import decay_input
from .even_padding import even_padding
from .max_pooling import max_pooling
from .merging import merging
from .reset import reset
from .unrolling import unrolling

__all__ = ["PASSES", "lower"]

PASSES: Sequence[Callable[[Sequence[Layer]], list[Layer]]] = (
    max_pooling,
    average_pooling,
    batch_norm,
    merging,
    unrolling,
    decay_input,
    reset,
    even_padding,
)


def lower(layers: Sequence[Layer]) -> tuple[Block, ...]:
    """The blocks that do what ``layers`` do, spike by spike.

    Args:
        layers: each after the one whose spikes it reads.

    Raises:
        ConversionError: a layer has no counterpart on Loihi; the message names its node.
    """
    current = list(layers)
    with np.errstate(all="ignore"):  # what ends up not finite is refused as a weight
        for one_pass in PASSES:
            current = one_pass(current)
        return blocks(current)
