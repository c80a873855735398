"""How many synapses leave each neuron, through a map: those at the border of an image reach fewer windows."""

from math import prod
from typing import Any

import numpy as np

from .maps import Array, Conv, Dense, Kernel, Map, Shape
from .maps.kernel import places
from .network import Network

__all__ = ["fan_out", "synapse_count"]


def synapse_count(network: Network[Any]) -> int:
    """How many synapses there are over all edges, weights of 0 not counted."""
    return sum(int(fan_out(edge.map, network.reads(edge)).sum()) for each in network.populations for edge in each.edges)


def fan_out(map_: Map, shape: Shape) -> Array:
    """Synapses by the neuron that they leave; those whose weight is 0 are none.

    Args:
        map_: any map.
        shape: ``(C, H, W)`` or ``(F,)`` of the spikes that it reads.

    Returns:
        Whole numbers of the shape ``shape``: of each column of the map's matrix, how many entries are not 0.

    Raises:
        NetworkError: the map cannot read such spikes.
    """
    sums = map_.output_shape(shape)
    if isinstance(map_, Dense):
        columns: Array = np.count_nonzero(map_.weight, axis=0)
        return columns.reshape(shape)
    if not isinstance(map_, Kernel):
        _, at, weights = map_.entries(shape)
        return np.bincount(at[weights != 0], minlength=prod(shape)).reshape(shape)
    found = np.zeros(shape, np.int64)
    if isinstance(map_, Conv):
        # From each channel, [C, kh, kw]: the channels of its own group that it reaches.
        reached = map_.weight.reshape(map_.groups, -1, *map_.weight.shape[1:]) != 0
        counts = reached.sum(axis=1).reshape(-1, *map_.weight.shape[2:])
        for i, j in np.ndindex(*counts.shape[1:]):
            _, y = places(sums[1], shape[1], i, map_, 0)
            _, x = places(sums[2], shape[2], j, map_, 1)
            found[:, y[:, None], x] += counts[:, i, j, None, None]
        return found
    counts = np.count_nonzero(map_.weight, axis=1)
    for i, j in np.ndindex(*counts.shape[1:]):
        y, _ = places(shape[1], sums[1], i, map_, 0)
        x, _ = places(shape[2], sums[2], j, map_, 1)
        found[:, y[:, None], x] += counts[:, i, j, None, None]
    return found
