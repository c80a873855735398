"""Loops that a target cannot run which runs one population after the other, each from its first step to its last."""

from collections.abc import Iterator
from graphlib import CycleError

from ..network import Network, Neuron
from ..network.unrolling import LARGEST
from .base import Finding
from .order import sorter

__all__ = ["loops"]


def loops(network: Network[Neuron], target: str, title: str) -> Iterator[Finding]:
    """All loops but feedback of a population to itself, through a matrix and in one step.

    Args:
        target: its name.
        title: how messages call it.
    """
    otherwise = f"or leave {title} out and verify against numpy"
    try:
        sorter(network).prepare()
    except CycleError as error:
        first, *others = dict.fromkeys(error.args[1])
        through = ", ".join(repr(name) for name in others)
        message = (
            f"hears itself through {through}, but {title} runs one population after the other: let one have the loop as feedback"
        )
        yield Finding(first, target, f"{message}, {otherwise}")
    for each in network.populations:
        delays = {edge.delay for edge in each.feedback}
        message = ""
        if delays - {1}:
            message = f"hears itself {max(delays)} steps late, but feedback in {title} takes one step: delay it by 1"
        elif delays and (size := each.neurons**2) > LARGEST:
            message = f"hears itself, which in {title} takes a matrix of {size:,} weights, above {LARGEST:,}: use fewer neurons"
        if message:
            yield Finding(each.name, target, f"{message}, {otherwise}")
