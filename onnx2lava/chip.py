"""What a Loihi 2 chip holds, and a rough estimate of how much of it a layer takes.

Intel has not published how its compiler places layers. The estimate counts neurons and weights and nothing else (no axons, no
buffers), so that it says where a network stands, not whether it fits.
"""

from dataclasses import dataclass
from math import ceil, prod

from .network import Block, Conv, Network

__all__ = ["CORES_PER_CHIP", "NEURONS_PER_CORE", "SYNAPTIC_MEMORY", "CoreEstimate", "estimate", "estimate_all"]

NEURONS_PER_CORE = 8192
"""At most (Intel Labs, "Taking Neuromorphic Computing to the Next Level with Loihi 2", technology brief, 2021)."""
CORES_PER_CHIP = 128
"""Neuro-cores (likewise)."""
SYNAPTIC_MEMORY = 128 * 1024
"""Bytes a core for weights, one byte each: those of the first Loihi, 16 MB on 128 cores (Davies et al., IEEE Micro 38(1), 2018).
Loihi 2 divides a core's memory as the network needs it."""


@dataclass(frozen=True)
class CoreEstimate:
    """How many neuro-cores a layer takes.

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


def estimate(block: Block) -> CoreEstimate:
    """The cores that ``block`` takes."""
    neurons = ceil(prod(block.shape) / NEURONS_PER_CORE)
    weights = ceil(block.synapse.weights.size / SYNAPTIC_MEMORY)
    most = ceil(block.synapses / SYNAPTIC_MEMORY) if isinstance(block.synapse, Conv) else weights
    return CoreEstimate(max(neurons, weights), max(neurons, most), neurons > 1, weights > 1)


def estimate_all(network: Network) -> tuple[int, int]:
    """The fewest and the most cores of all layers together; layers do not share cores here."""
    each = [estimate(block) for block in network.blocks]
    return sum(cores.fewest for cores in each), sum(cores.most for cores in each)
