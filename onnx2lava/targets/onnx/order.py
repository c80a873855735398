"""In which order the populations of a network can run, each from its first step to its last."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from ...network import Network, Neuron, Population
from ...network.network import N_co
from ...network.unrolling import LARGEST
from ..base import Finding

__all__ = ["in_order", "loops"]

_OTHERWISE = "or leave onnxruntime out and verify against numpy"


def in_order(network: Network[N_co]) -> list[Population[N_co]]:
    """Each population behind all that it reads, late or not, but itself; in the network's own order where that is one.

    Raises:
        CycleError: some read each other.
    """
    places = {each.name: place for place, each in enumerate(network.populations)}
    behind = _sorter(network)
    ordered: list[Population[N_co]] = []
    behind.prepare()
    ready: list[str] = []
    while behind.is_active():
        ready = sorted([*ready, *behind.get_ready()], key=places.__getitem__)
        ordered.append(network[ready[0]])
        behind.done(ready.pop(0))
    return ordered


def loops(network: Network[Neuron], target: str = "ort") -> Iterator[Finding]:
    """The loops that no operator can run, for each of them is one population, whose feedback is a matrix and takes one step."""
    try:
        _sorter(network).prepare()
    except CycleError as error:
        first, *others = dict.fromkeys(error.args[1])
        through = ", ".join(repr(name) for name in others)
        message = (
            f"hears itself through {through}, but each operator in ONNX is one population: let one have the loop as feedback"
        )
        yield Finding(first, target, f"{message}, {_OTHERWISE}")
    for each in network.populations:
        delays = {edge.delay for edge in each.feedback}
        message = ""
        if delays - {1}:
            message = f"hears itself {max(delays)} steps late, but feedback in ONNX takes one step: delay it by 1"
        elif delays and (size := each.neurons**2) > LARGEST:
            message = f"hears itself, which in ONNX takes a matrix of {size:,} weights, above {LARGEST:,}: use fewer neurons"
        if message:
            yield Finding(each.name, target, f"{message}, {_OTHERWISE}")


def _sorter(network: Network[Neuron]) -> "TopologicalSorter[str]":
    names = {each.name for each in network.populations}
    return TopologicalSorter(
        {each.name: {edge.source for edge in each.edges if edge.source != each.name} & names for each in network.populations}
    )
