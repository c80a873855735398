"""What Loihi can hold, whatever the target; what a target cannot, its own folder says."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from custom_ops.loihi import BIAS_RANGE, DECAY_UNIT, THRESHOLD_MAX, WEIGHT_RANGE
from custom_ops.operators import THRESHOLD_LIMIT

from ..network import Array, CubaNeuron, Edge, Network, Neuron, Population
from .base import Finding

__all__ = ["chip", "largest_sums", "loihi", "numbers"]

_SUM_LIMIT = 2**24  # float32 holds every whole number up to here, and so does a sum of them in any order


def loihi(network: Network[Neuron]) -> list[Finding]:
    """What no target can hold, or not exactly; populations of real numbers have none of it before they are quantised."""
    return _findings(network, "loihi")


def chip(network: Network[Neuron]) -> list[Finding]:
    """What Lava's simulation runs, but the chip's registers do not hold."""
    return _findings(network, "chip")


def _findings(network: Network[Neuron], target: str) -> list[Finding]:
    return [
        Finding(population.name, target, message)
        for population in network.populations
        for rule in _RULES[target]
        for message in rule(network, population)
    ]


_Rule = Callable[[Network[Neuron], Population[Neuron]], Iterator[str]]


def _weights(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    low, high = WEIGHT_RANGE
    for edge in population.edges:
        weight = edge.map.weight
        if not isinstance(population.neuron, CubaNeuron):
            continue
        if weight.min() < low or weight.max() > high:
            source = f" of the spikes of {edge.source!r}" if len(population.edges) > 1 else ""
            yield f"has weights{source} that are not all in {low} ... {high}: quantise the network first"


def _bias(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    low, high = BIAS_RANGE
    bias = population.bias
    if isinstance(population.neuron, CubaNeuron) and bias is not None and (bias.min() < low or bias.max() > high):
        yield f"has biases that are not all whole numbers in {low} ... {high}: choose a smaller scale"


def _neuron(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    neuron = population.neuron
    if not isinstance(neuron, CubaNeuron):
        return
    for name, value, largest in (
        ("current decay", neuron.i_decay, DECAY_UNIT),
        ("voltage decay", neuron.v_decay, DECAY_UNIT),
        ("threshold mantissa", neuron.v_threshold, THRESHOLD_LIMIT),
    ):
        for extreme in (int(np.min(value)), int(np.max(value))):
            if not 0 <= extreme <= largest:
                yield f"has a {name} of {extreme}, outside 0 ... {largest}: choose a smaller scale or other neurons"
                break


def _sums(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    if not isinstance(population.neuron, CubaNeuron):
        return
    total = sum((largest_sums(network, edge) for edge in population.edges), start=np.zeros(1, np.int64))
    if total.max() >= _SUM_LIMIT:
        yield "can sum to 2**24 or more, where float32 is no longer exact: make its fan-in or its weights smaller"


def numbers(network: Network[Neuron], target: str, title: str) -> Iterator[Finding]:
    """What a target that takes whole numbers alone says of a population that reads any."""
    for population in network.populations:
        if any(edge.source in network.inputs and network.inputs[edge.source].numbers for edge in population.edges):
            message = (
                f"reads any numbers, such as images, where {title} takes spikes: leave it out, or feed it what the layer gives"
            )
            yield Finding(population.name, target, message)


def largest_sums(network: Network[Neuron], edge: Edge) -> Array:
    """By neuron, flat, the largest absolute sum that the edge can bring; of a kernel, all elements count."""
    largest = network.inputs[edge.source].largest if edge.source in network.inputs else 1
    return edge.map.magnitudes(network.reads(edge)) * largest


def _registers(network: Network[Neuron], population: Population[Neuron]) -> Iterator[str]:
    neuron = population.neuron
    if np.any(np.asarray(neuron.v_decay) == (DECAY_UNIT if isinstance(neuron, CubaNeuron) else 1)):
        yield "has a voltage decay of 4096, which Lava's simulation runs but the chip's 12-bit register does not hold: use 4095"
    if not isinstance(neuron, CubaNeuron):
        return
    if (most := int(np.max(neuron.v_threshold))) > THRESHOLD_MAX:
        yield (
            f"has a threshold mantissa of {most}, above the {THRESHOLD_MAX} of the chip's 17-bit register: in Lava's simulation "
            "it never fires there"
        )
    for edge in population.edges:
        weight = edge.map.weight
        if (weight % 2).any() and weight.min() < 0 and (weight.min() < -128 or weight.max() > 127):
            yield (
                "has odd weights of both signs beyond -128 ... 127, which Lava's simulation runs, but eight bits do not hold: "
                "use even ones"
            )
    if np.any(np.asarray(neuron.i_decay) == 0):
        # Lava adds 1 to the register (PyLifModelBitAcc), and NetX writes iDecay - 1 into it.
        yield (
            "has a current decay of 0, for which NetX writes -1: Lava's simulation runs it, but the chip's register has no sign: "
            "use at least 1"
        )


_RULES: Mapping[str, tuple[_Rule, ...]] = {"loihi": (_weights, _bias, _neuron, _sums), "chip": (_registers,)}
