"""What slayer runs wrongly, and convolutions in its form: padded alike on both sides."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from custom_ops.loihi import DECAY_UNIT

from ...errors import NetworkError
from ...network import Conv, ConvTranspose, CubaNeuron, Kernel, Map, Network, Neuron, Population
from ...network.network import N_co
from ...network.unrolling import matrices_but
from ..base import Finding
from ..convolutions import even_padding
from ..limits import numbers
from ..loops import loops

__all__ = ["checked", "legalised"]


def checked(network: Network[Neuron]) -> list[Finding]:
    """What slayer cannot hold or runs wrongly."""
    found = [*loops(network, "slayer", "slayer"), *numbers(network, "slayer", "this rewrite for slayer")]
    return found + [Finding(each.name, "slayer", message) for each in network.populations for message in _misread(each)]


def legalised(network: Network[N_co]) -> Network[N_co]:
    """Convolutions evenly padded, and a matrix of whatever slayer has not; edges that share a map still do."""
    network = matrices_but(network, (Conv, ConvTranspose))
    maps: dict[Map, Map] = {}
    for each in network.populations:
        for edge in each.edges:
            if edge.map not in maps:
                maps[edge.map] = even_padding(edge.map) if isinstance(edge.map, Kernel) else edge.map
    return replace(
        network,
        populations=tuple(
            replace(each, edges=tuple(replace(edge, map=maps[edge.map]) for edge in each.edges)) for each in network.populations
        ),
    )


def _misread(population: Population[Neuron]) -> Iterator[str]:
    neuron = population.neuron
    if isinstance(neuron, CubaNeuron):
        yield from _differing(neuron, population)
    biased = population.bias is not None and bool(population.feedback)
    if biased and isinstance(neuron, CubaNeuron) and np.any(np.asarray(neuron.i_decay) != DECAY_UNIT):
        # slayer/neuron/cuba.py, Neuron.dynamics, keeps the current behind the norm, which adds the bias, from step to step
        yield (
            "is recurrent and has a bias, which slayer adds to the current again at every step: leave slayer out, or let the "
            "current decay at once (iDecay = 4096)"
        )
    for edge in population.edges:
        if isinstance(edge.map, Kernel):
            try:
                even_padding(edge.map)
            except NetworkError as error:
                yield f"has a convolution that slayer cannot pad, for {error}: pad both sides alike"


def _differing(neuron: CubaNeuron, population: Population[Neuron]) -> Iterator[str]:
    """slayer/neuron/cuba.py, Neuron, has one threshold, and decays for each neuron of one axis: of images, it broadcasts those of
    channels along the width."""
    if isinstance(neuron.v_threshold, np.ndarray):
        yield "has thresholds that differ, where slayer's neurons have one for all: leave slayer out"
    for name, values in (("current", neuron.i_decay), ("voltage", neuron.v_decay)):
        if isinstance(values, np.ndarray) and len(population.shape) > 1:
            yield f"has {name} decays that differ and is no vector, where slayer mixes up channels and places: leave slayer out"
