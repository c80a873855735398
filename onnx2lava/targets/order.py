"""In which order the populations of a network can run, each from its first step to its last, and whether they are a chain."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import numpy as np

from ..network import Dense, Edge, Network, Neuron, Population
from ..network.network import N_co

__all__ = ["branches", "in_order", "sorter"]


def in_order(network: Network[N_co]) -> list[Population[N_co]]:
    """Each population behind all that it reads, late or not, but itself; in the network's own order where that is one.

    Raises:
        CycleError: some read each other.
    """
    places = {each.name: place for place, each in enumerate(network.populations)}
    behind = sorter(network)
    behind.prepare()
    ordered: list[Population[N_co]] = []
    ready: list[str] = []
    while behind.is_active():
        ready = sorted([*ready, *behind.get_ready()], key=places.__getitem__)
        ordered.append(network[ready[0]])
        behind.done(ready.pop(0))
    return ordered


def sorter(network: Network[Neuron]) -> "TopologicalSorter[str]":
    """The populations by name, each with those that it reads but itself."""
    names = {each.name for each in network.populations}
    return TopologicalSorter({each.name: {edge.source for edge in forward(each)} & names for each in network.populations})


def forward(population: Population[Neuron]) -> list[Edge]:
    """The edges that bring it spikes of others."""
    return [edge for edge in population.edges if edge.source != population.name]


def branches(network: Network[Neuron], *, late: bool = False) -> Iterator[tuple[str, str]]:
    """Populations with which the network is no chain from its input to its output, each with the reason; none in a chain.

    In a chain, every population reads the one before through one edge, and may have feedback.

    Args:
        late: whether a chain may have several edges in place of one, each with synapses of its own and another delay.
    """
    try:
        populations = in_order(network)
    except CycleError as error:
        yield error.args[1][0], "is part of a loop through several populations"
        return
    before, *others = network.inputs
    if others:
        yield populations[0].name, f"is in a network of several inputs, {', '.join(map(repr, network.inputs))}"
        return
    for each in populations:
        edges = forward(each)
        sources = [edge.source for edge in edges]
        if sources != [before] and not (late and set(sources) == {before} and _apart(edges)):
            read = " and ".join(f"{edge.source!r}{f' ({edge.delay} steps late)' * (edge.delay > 0)}" for edge in edges)
            yield each.name, f"reads {read or 'nothing but itself'} and not just {before!r}, which is before it"
            return
        before = each.name
    for name in network.outputs:
        if name != before:
            yield name, "is an output, though others read it"


def _apart(edges: list[Edge]) -> bool:
    """Whether no synapse is in two of them."""
    maps = [edge.map for edge in edges]
    if not all(isinstance(map_, Dense) and map_.weight.shape == maps[0].weight.shape for map_ in maps):
        return False
    used = np.zeros(maps[0].weight.shape, np.uint8)
    for map_ in maps:
        used += map_.weight != 0
    return bool(used.max() <= 1)
