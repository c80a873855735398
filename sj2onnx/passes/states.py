"""One form of call for all nodes of an operator: with states, or without."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from custom_ops import DOMAIN

from ..node_call import MODULE_KEY

__all__ = ["StatesPass"]


class StatesPass(ir.passes.InPlacePass):
    """Let the nodes of each operator take and give states where one of them does, and none where none does.

    torch traces every neuron with its final states, which mostly nobody reads. A function body, however, serves all nodes of its
    name: so a node that starts from reset states gets them as an input where others are given theirs.

    Attributes:
        stateful: the names of the operators whose nodes have states, after a run.
    """

    def __init__(
        self, inputs: Mapping[str, int], initial: Mapping[tuple[str, str], Sequence[float]], shapes: Mapping[str, object]
    ) -> None:
        """Operators by name.

        Args:
            inputs: how many inputs each has in front of its states.
            initial: what the states of a node start with by themselves, by its module path and its operator: two LIF neurons
                may have different reset potentials.
            shapes: of an operator's states for one sample, with their element types, or None where they are like the input.
        """
        super().__init__()
        self._inputs = inputs
        self._initial = initial
        self._shapes = shapes
        self.stateful: set[str] = set()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        nodes = [node for node in graph if node.domain == DOMAIN and node.op_type in self._inputs]
        for node in nodes:
            if len(node.inputs) > self._inputs[node.op_type] or any(_is_read(value) for value in node.outputs[1:]):
                self.stateful.add(node.op_type)
        for node in nodes:
            before = self._inputs[node.op_type]
            if node.op_type not in self.stateful:
                node.resize_outputs(1)
            elif len(node.inputs) <= before:
                initial = self._initial[node.metadata_props[MODULE_KEY], node.op_type]
                rest = [
                    _at_rest(graph, node, value, shape)
                    for value, shape in zip(initial, self._shapes[node.op_type], strict=True)  # type: ignore[call-overload]
                ]
                node.resize_inputs(before + len(rest))
                for index, value in enumerate(rest):
                    node.replace_input_with(before + index, value)
        return ir.passes.PassResult(model, bool(nodes))


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _at_rest(graph: ir.Graph, node: ir.Node, value: float, shape: tuple[tuple[int, ...] | None, str]) -> ir.Value:
    """A state of ``value`` for every sample of the node's input."""
    sizes, dtype = shape
    x = node.inputs[0]
    new: list[ir.Node] = []
    if sizes is None:
        new.append(ir.node("Shape", [x], {"start": 1}))
    else:
        new.append(ir.node("Shape", [x], {"start": 1, "end": 2}))
        new.append(ir.node("Constant", [], {"value": ir.tensor(np.array(sizes, np.int64))}))
        new.append(ir.node("Concat", [new[0].outputs[0], new[1].outputs[0]], {"axis": 0}))
    new.append(ir.node("ConstantOfShape", [new[-1].outputs[0]], {"value": ir.tensor(np.full(1, value, dtype))}))
    for made in new:
        made.metadata_props.update(node.metadata_props)
    graph.insert_before(node, new)
    return new[-1].outputs[0]
