"""Which of Lava's synapses a map becomes."""

from dataclasses import replace
from enum import Enum
from typing import TypeVar

from custom_ops.loihi import INT8_MAX

from ...errors import NetworkError
from ...network import Conv, Dense, Map, Network, Neuron, Shape
from ..convolutions import even_padding

__all__ = ["Form", "form", "legalised"]

N = TypeVar("N", bound=Neuron)


class Form(Enum):
    """The synapses that Lava has; Dense and Sparse can delay spikes, Conv cannot."""

    CONV = "Conv"
    DENSE = "Dense"
    SPARSE = "Sparse"


def form(map_: Map | None, reads: Shape, delayed: bool) -> Form:
    """What ``map_`` becomes.

    Args:
        map_: of a legalised network; None for one to one.
        reads: the shape of the spikes that it reads.
        delayed: whether the synapse has to hold spikes back for some steps, if it can.
    """
    if isinstance(map_, Dense):
        return Form.DENSE
    if not isinstance(map_, Conv) or not _fits(map_):
        return Form.SPARSE
    # A synapse for each neuron, as pooling and skips have, costs no more than a relay in front of it would.
    return Form.SPARSE if delayed and map_.connections(reads) <= reads[0] * reads[1] * reads[2] else Form.CONV


def _fits(conv: Conv) -> bool:
    """Whether Lava's Conv holds it: even padding, and nothing that its int8 cannot count."""
    top, left, bottom, right = conv.pads
    numbers = (*conv.weight.shape[2:], *conv.stride, *conv.dilation, *conv.pads, conv.groups)
    return top == bottom and left == right and min(conv.pads) >= 0 and max(numbers) <= INT8_MAX


def legalised(network: Network[N]) -> Network[N]:
    """The same network with evenly padded convolutions, wherever zeros in the kernel can do that; edges that share a map still
    do."""
    maps: dict[Map, Map] = {}
    populations = tuple(
        replace(each, edges=tuple(replace(edge, map=maps.setdefault(edge.map, _even(edge.map))) for edge in each.edges))
        for each in network.populations
    )
    return replace(network, populations=populations)


def _even(map_: Map) -> Map:
    if not isinstance(map_, Conv):
        return map_
    try:
        return even_padding(map_)
    except NetworkError:
        return map_  # so uneven that a sparse matrix is smaller
