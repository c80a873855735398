"""The largest of some spikes is a spike if any of them is: an OR."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import NetworkError
from ..layers import Convolution, Layer, MaxPool
from ..limits import UNITY_DECAY
from ..network import CubaNeuron, Shape

__all__ = ["OR", "max_pooling"]

OR = CubaNeuron(i_decay=UNITY_DECAY, v_decay=0, v_threshold=0)
"""Fed with even positive weights, it fires in the very step in which any input does, and is back at 0 after every step."""


def max_pooling(layers: Sequence[Layer]) -> list[Layer]:
    """MaxPool of spikes becomes a depthwise convolution of weight 2 into neurons that fire if anything comes.

    Places beyond the edge never win in a MaxPool and never fire here. A MaxPool of sums is refused: the largest of several sums
    is no sum.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    pools = [step for step in layer.steps if isinstance(step, MaxPool)]
    if not pools:
        return layer
    if layer.neuron is not None or len(layer.steps) > 1:
        raise layer.refusal(
            "there is a MaxPool between its synapse and itself, and the largest of several sums is no sum",
            "put the MaxPool behind the neuron, or use AvgPool",
        )
    return replace(layer, steps=(_any_of(pools[0], layer.input_shape),), neuron=OR)


def _any_of(pool: MaxPool, shape: Shape) -> Convolution:
    size = pool.output_shape(shape)[1:]
    top, left, bottom, right = pool.pads
    if pool.ceil:
        # The last window may reach beyond the padding; what it finds there never wins.
        ends = [(size[i] - 1) * pool.stride[i] + pool.dilation[i] * (pool.kernel[i] - 1) + 1 for i in range(2)]
        bottom, right = max(bottom, ends[0] - shape[1] - top), max(right, ends[1] - shape[2] - left)
    weight = np.full((shape[0], 1, *pool.kernel), 2, np.int32)
    convolution = Convolution(weight, pool.stride, (top, left, bottom, right), pool.dilation, shape[0])
    if convolution.output_shape(shape)[1:] != size:
        raise NetworkError(f"a MaxPool of {list(pool.kernel)} does not fit its input of the shape {shape}")
    return convolution
