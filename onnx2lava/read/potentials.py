"""Neurons at the end of a network that are read by their potential: Loihi gives spikes alone, so they stay on the host."""

from collections.abc import Collection, Mapping

import onnx_ir as ir

from .scan import scan_of

__all__ = ["are_potentials", "is_read_by_potential"]


def is_read_by_potential(
    node: ir.Node, needed: Collection[ir.Node], output: ir.Value, functions: Mapping[tuple[str, str], ir.Function]
) -> bool:
    """Whether what the network makes of a neuron is its potential, alone or beside its spikes.

    Args:
        node: the neuron.
        needed: all nodes that the network's output is made of.
        output: the network's output.
        functions: of the file, by domain and name.
    """
    if any(value is output or any(use.node in needed for use in value.uses()) for value in node.outputs[1:]):
        return True
    function = functions.get((node.domain, node.op_type))
    return function is not None and are_potentials(function)


def are_potentials(function: ir.Function) -> bool:
    """Whether what a loop over time gives is made of what it keeps otherwise than by a comparison, by which spikes are made."""
    scan = function.outputs[0].producer() if function.outputs else None
    said = scan_of(scan) if scan is not None and scan.op_type == "Scan" else None
    if scan is None or said is None:
        return False
    body = said.body
    states = body.inputs[: len(scan.inputs) - said.sequences]
    given = scan.outputs.index(function.outputs[0])
    waiting = list(body.outputs[given : given + 1])
    seen: set[ir.Value] = set()
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in seen:
            continue
        seen.add(value)
        if value in states:
            return True
        if node is not None and node.op_type not in _COMPARISONS:
            waiting += [each for each in node.inputs[node.op_type == "Where" :] if each is not None]
    return False


_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
