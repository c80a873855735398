"""What happens in a network while it runs: spikes, and the synapses that they pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..network import Array, Edge, Network
from ..network.fan_out import fan_out

__all__ = ["Activity", "Traffic", "activity"]


@dataclass(frozen=True)
class Traffic:
    """One edge.

    Args:
        source, target: names of an input or population, and of the population that it leads to.
        axons: neurons of the source from which synapses leave.
        synapses: how many leave them, weights of 0 not counted.
        spikes: that came to the target in time: those that the edge's delay carries beyond the end are lost.
        events: synaptic operations: a synapse that a spike passed. A graded spike counts once, whatever it carries.
    """

    source: str
    target: str
    axons: int
    synapses: int
    spikes: int
    events: int


@dataclass(frozen=True)
class Activity:
    """Everything that happened; of other samples of the same network it can be added.

    Args:
        samples, steps: how many, and time steps of each.
        spikes: by the name of each input and population.
        traffic: of each edge, in the network's order.
    """

    samples: int
    steps: int
    spikes: Mapping[str, int]
    traffic: tuple[Traffic, ...]

    def __add__(self, other: "Activity") -> "Activity":
        return Activity(
            self.samples + other.samples,
            self.steps,
            {name: count + other.spikes[name] for name, count in self.spikes.items()},
            tuple(
                Traffic(a.source, a.target, a.axons, a.synapses, a.spikes + b.spikes, a.events + b.events)
                for a, b in zip(self.traffic, other.traffic, strict=True)
            ),
        )


def activity(network: Network[Any], spikes: Mapping[str, Array]) -> Activity:
    """Count what happened.

    Args:
        network: any.
        spikes: ``[T, N, *shape]`` of every input and population, by name.
    """
    steps, samples = next(iter(spikes.values())).shape[:2]
    fired = {name: spikes[name] != 0 for name in network.shapes}
    return Activity(
        samples,
        steps,
        {name: int(np.count_nonzero(each)) for name, each in fired.items()},
        tuple(_traffic(network, each.name, edge, fired[edge.source]) for each in network.populations for edge in each.edges),
    )


def _traffic(network: Network[Any], target: str, edge: Edge, fired: Array) -> Traffic:
    leaving = fan_out(edge.map, network.reads(edge)).reshape(-1)
    arriving = fired[: max(len(fired) - edge.delay, 0)].reshape(-1, leaving.size).sum(axis=0, dtype=np.int64)
    return Traffic(
        edge.source,
        target,
        int(np.count_nonzero(leaving)),
        int(leaving.sum()),
        int(arriving[leaving > 0].sum()),
        int(arriving @ leaving),
    )
