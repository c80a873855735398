"""A rough estimate of how much of a Loihi 2 chip a population takes.

Intel has not published how its compiler places layers. The estimate counts neurons and weights and nothing else (no axons, no
buffers), so that it says where a network stands, not whether it fits.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from custom_ops.loihi import NEURONS_PER_CORE, SYNAPTIC_MEMORY

from ..network import Network, Population

__all__ = ["CoreEstimate", "estimate", "estimate_all"]


@dataclass(frozen=True)
class CoreEstimate:
    """How many neuro-cores a population takes.

    Args:
        fewest: if a convolution's kernels are stored once.
        most: if each connection is stored for itself.
        neurons_exceed: whether its neurons alone need more than one core.
        weights_exceed: whether its weights alone need more than one core.
    """

    fewest: int
    most: int
    neurons_exceed: bool
    weights_exceed: bool


def estimate(network: Network[Any], population: Population[Any]) -> CoreEstimate:
    """The cores that ``population`` takes, with the weights of all its edges."""
    neurons = ceil(population.neurons / NEURONS_PER_CORE)
    kernels = sum(each.weight.size for each in population.maps)
    connections = sum(edge.map.connections(network.reads(edge)) for edge in population.edges)
    weights, most = ceil(kernels / SYNAPTIC_MEMORY), ceil(connections / SYNAPTIC_MEMORY)
    return CoreEstimate(max(neurons, weights), max(neurons, most), neurons > 1, weights > 1)


def estimate_all(network: Network[Any]) -> tuple[int, int]:
    """The fewest and the most cores of all populations together; they do not share cores here."""
    each = [estimate(network, population) for population in network.populations]
    return sum(cores.fewest for cores in each), sum(cores.most for cores in each)
