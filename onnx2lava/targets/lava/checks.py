"""What a graph of Lava's processes cannot hold, or would run differently."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from custom_ops.loihi import CONV_SUM_MAX

from ...network import Conv, Dense, Network, Neuron, Population
from ..base import Finding
from ..limits import largest_sums, numbers
from .schedule import too_early_or_late

__all__ = ["checked"]

_SPARSE_LIMIT = 2**26  # weights of a sparse matrix, which takes twelve bytes for each


def checked(network: Network[Neuron]) -> list[Finding]:
    """Spikes too early or too late, sums beyond 24 bits, matrices too large."""
    untimely = too_early_or_late(network)
    found = [] if untimely is None else [Finding(untimely[0], "lava", untimely[1])]
    found += numbers(network, "lava", "this graph of Lava's processes")
    rules = (_sums, _matrices, _odd)
    return found + [
        Finding(each.name, "lava", text) for each in network.populations for rule in rules for text in rule(network, each)
    ]


def _sums(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    edges = [edge for edge in population.edges if isinstance(edge.map, Conv) and edge.map.weight.dtype.kind in "iu"]
    for _, sharing in groupby(sorted(edges, key=lambda edge: id(edge.map)), lambda edge: id(edge.map)):
        total = sum((largest_sums(network, edge) for edge in sharing), start=np.zeros(1, np.int64))
        if total.max() > CONV_SUM_MAX:
            yield "can sum to 2**23 or more in a convolution, where Lava's wraps around: make its fan-in or its weights smaller"
            return


def _matrices(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    for edge in population.edges:
        if not isinstance(edge.map, Conv | Dense) and edge.map.connections(network.reads(edge)) > _SPARSE_LIMIT:
            yield (
                f"has a {edge.map.kind} with more than {_SPARSE_LIMIT:,} synapses, which Lava has as a sparse matrix alone: "
                "make it smaller"
            )


def _odd(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    for edge in population.edges:
        if not isinstance(edge.map, Conv) and edge.map.weight.dtype.kind in "iu" and (edge.map.weight % 2).any():
            yield "has odd weights, of which the matrices of this graph have but the even ones: run it with run_netx"
            return
