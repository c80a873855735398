"""Compare the spikes of quantised populations with those of the float network, on input like that which it will see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from ..errors import ConversionError
from ..host import encode, fitting
from ..network import Array, Input, Network, Neuron, Population

__all__ = ["Calibration", "Run"]

Run: TypeAlias = Callable[[Network[Any], Mapping[str, Array]], Mapping[str, Array]]
"""Runs a network on spikes ``[T, N, *]`` by the name of each input; gives the spikes of every population by its name."""

_OPERATIONS = 2e10
"""Synaptic operations that calibration may take, a minute or so: it uses as many samples as that allows, at least one."""
_CHOICES = 14


class Calibration:
    """A walk through a float network that keeps both its own spikes and those of its quantised twin, population by population.

    Each quantised population is fed with the spikes of the quantised ones before it: what is measured is then what it will do.
    (Feeding it with the float network's spikes chose scales as good, within the noise, on networks trained on the digits.) In a
    loop through several populations those behind it are not quantised yet; there the float network's spikes stand in.

    Args:
        network: with float neurons.
        x: input ``[T, N, *]``, as the network reads it, or one by the name of each input.
        run: what runs networks.

    Raises:
        ConversionError: ``x`` does not fit the network, or holds nothing.
    """

    def __init__(self, network: Network[Neuron], x: Array | Mapping[str, Array], run: Run) -> None:
        given = fitting(network, x)
        steps, samples = next(iter(given.values())).shape[:2]
        if steps == 0 or samples == 0:
            raise ConversionError(
                f"The calibration input has {steps} time steps and {samples} samples: there is nothing to calibrate on."
            )
        cost = sum(map(network.connections, network.populations)) * steps * _CHOICES
        self._network, self._run = network, run
        self._given, self._samples = samples, min(samples, max(1, int(_OPERATIONS / max(cost, 1))))
        spikes = encode(network, {name: values[:, : self._samples] for name, values in given.items()})
        self._float: dict[str, Array] = {**spikes, **run(network, spikes)}
        self._quantised: dict[str, Array] = dict(spikes)
        self._mismatches: dict[str, tuple[int, int]] = {}

    def choose(self, population: Population[Neuron], choices: Sequence[Population[Neuron]]) -> int:
        """Which of ``choices`` gives the spikes nearest to those of ``population``; call it in the order of the network.

        Counts of mismatches that lie within the counting noise of the smallest, its square root, are alike: the first wins.
        """
        expected = self._float[population.name]
        results = self._side_by_side(population, choices)
        mismatches = [int(np.count_nonzero(result != expected)) for result in results]
        fewest = min(mismatches)
        best = next(i for i, count in enumerate(mismatches) if count <= fewest + sqrt(fewest))
        self._quantised[population.name] = results[best]
        self._mismatches[population.name] = (mismatches[best], expected.size)
        return best

    def _side_by_side(self, population: Population[Neuron], choices: Sequence[Population[Neuron]]) -> list[Array]:
        """The spikes of all choices, which run as the populations of one network on the same sources."""
        sources = dict.fromkeys(edge.source for edge in population.edges if edge.source != population.name)
        names = {source: f"source{index}" for index, source in enumerate(sources)}
        spikes = {names[source]: self._quantised.get(source, self._float[source]) for source in sources}
        inputs = {names[source]: self._network.inputs.get(source, Input(self._network.shapes[source])) for source in sources}
        alike = []
        for index, choice in enumerate(choices):
            own = {**names, population.name: f"choice{index}"}
            edges = tuple(replace(edge, source=own[edge.source]) for edge in choice.edges)
            alike.append(replace(choice, name=f"choice{index}", edges=edges))
        outputs = tuple(each.name for each in alike)
        found = self._run(Network(population.name, inputs, tuple(alike), outputs), spikes)
        return [found[name] for name in outputs]

    def summary(self) -> dict[str, Any]:
        """What was measured, for the metadata."""
        return {"samples": self._samples, "given": self._given, "mismatches": self._mismatches}
