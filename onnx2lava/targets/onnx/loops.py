"""Loops that ONNX cannot say."""

from collections.abc import Iterator
from graphlib import CycleError

from ...network import Network, Neuron
from ...network.unrolling import LARGEST
from ..base import Finding
from ..order import sorter

__all__ = ["loops"]

_OTHERWISE = "or leave onnxruntime out and verify against numpy"


def loops(network: Network[Neuron], target: str = "ort") -> Iterator[Finding]:
    """The loops that no operator can run, for each of them is one population, whose feedback is a matrix and takes one step."""
    try:
        sorter(network).prepare()
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
