"""Time steps that a file runs one by one, joined for what the host does with their spikes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import ConversionError
from .call import Value
from .evaluate import is_neuron
from .form import Form

__all__ = ["join_steps"]


def join_steps(
    graph: ir.Graph,
    values: dict[ir.Value, Value],
    found: Mapping[str, tuple[Form, Sequence[ir.Value]]],
    every: int,
    behind: Iterable[ir.Node],
) -> dict[str, ir.Value]:
    """Let what is behind neurons that the file runs step by step read all of their time steps, which is what Loihi gives.

    Args:
        graph: changed in place.
        values: what is known of its values; takes the new ones.
        found: by the name of a population, its spikes, and the values that hold those of one time step each, from the first on.
        every: how many time steps there are; where nothing reads the last spikes, there are fewer values.
        behind: the nodes that stay on the host.

    Returns:
        by the name of a population, the new value that holds all of its spikes.

    Raises:
        ConversionError: nodes read what is made of them.
    """
    moved: dict[ir.Value, ir.Value] = {}
    joined: dict[str, ir.Value] = {}
    for name, (spikes, steps) in found.items():
        (whole,) = _appended(graph, "Concat", steps, name, axis=0)
        joined[name], values[whole] = whole, spikes
        parts = np.array([1] * len(steps) + [every - len(steps)] * (len(steps) < every), np.int64)
        (sizes,) = _appended(graph, "Constant", [], name, value=ir.tensor(parts))
        values[sizes] = parts
        moved.update(zip(steps, _appended(graph, "Split", [whole, sizes], name, len(parts), axis=0), strict=False))
    if moved:
        for node in behind:
            for index, value in enumerate(node.inputs):
                if value is not None:
                    node.replace_input_with(index, _moved(graph, values, value, moved))
        try:
            graph.sort()
        except ValueError as error:
            raise ConversionError(
                f"The model {graph.name!r} has nodes that read what is made of them: repair the file."
            ) from error
    return joined


def _moved(graph: ir.Graph, values: Mapping[ir.Value, Value], value: ir.Value, moved: dict[ir.Value, ir.Value]) -> ir.Value:
    """What stands for ``value`` on the host, where ``moved`` says what stands for others: what is made of those is made again."""
    waiting = [value]
    while waiting:
        node = waiting[-1].producer()
        form = values.get(waiting[-1])
        if waiting[-1] in moved:
            waiting.pop()
        elif node is None or is_neuron(node) or not isinstance(form, Form) or form.at is None:
            moved[waiting[-1]] = waiting[-1]
        elif further := [each for each in node.inputs if each is not None and each not in moved]:
            waiting += further
        else:
            given = [None if each is None else moved[each] for each in node.inputs]
            again = ir.Node("", node.op_type, given, node.attributes.values(), num_outputs=len(node.outputs))
            moved.update(zip(node.outputs, _append(graph, again, node.name or ""), strict=True))
    return moved[value]


def _appended(
    graph: ir.Graph, operator: str, inputs: Sequence[ir.Value], name: str, count: int = 1, **given: Any
) -> Sequence[ir.Value]:
    return _append(graph, ir.node(operator, inputs, given, num_outputs=count), name)


def _append(graph: ir.Graph, node: ir.Node, name: str) -> Sequence[ir.Value]:
    node.name = name = f"{name}/{node.op_type}/{len(graph)}"
    for at, value in enumerate(node.outputs):
        value.name = f"{name}:{at}"
    graph.append(node)
    return node.outputs
