"""Say plainly how time and batch are folded together and apart."""

import numpy as np
import onnx_ir as ir

__all__ = ["TimeFoldingPass"]


class TimeFoldingPass(ir.passes.InPlacePass):
    """Replace the computed target shape of every Reshape by the plainest one that means the same.

    torch writes the target of each Reshape as a chain of nodes that takes dimensions apart and joins them again. The shape
    of the result, which torch knows in symbols, tells which of these it is:

    * all dimensions known: a constant;
    * one unknown, the others known (time folded into batch, ``[T·N, C, H, W]``, or a fixed number of steps): ``[-1, C, H, W]``;
    * the first two are time and batch, and were so before (``[T, N, F]`` from ``[T, N, C, H, W]``): ``[0, 0, F]``;
    * the first two are time and batch (unfolded, ``[T, N, C, H, W]``): ``Concat(Shape(input)[0:2], [C, H, W])``, with one
      ``Shape`` for the whole graph.

    Anything else is left as it is. The old chains are left to dead-code removal.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        time_and_batch: ir.Value | None = None
        modified = False
        for node in list(graph):
            if node.op_type != "Reshape" or node.domain != "":
                continue
            data, result = node.inputs[0], node.outputs[0]
            if data is None or result.shape is None:
                continue
            dims = list(result.shape)
            known = [dim for dim in dims if isinstance(dim, int)]
            if len(known) == len(dims):
                target = _constant(graph, node, known)
            elif len(known) == len(dims) - 1:
                target = _constant(graph, node, [dim if isinstance(dim, int) else -1 for dim in dims])
            elif len(known) == len(dims) - 2 and _leads_with_time_and_batch(graph, dims):
                if data.shape is not None and _leads_with_time_and_batch(graph, list(data.shape)):
                    target = _constant(graph, node, [0, 0, *known])
                else:
                    if time_and_batch is None:
                        time_and_batch = _shape_of_time_and_batch(graph)
                    rest = _constant(graph, node, known)
                    join = ir.node("Concat", [time_and_batch, rest], {"axis": 0})
                    join.metadata_props.update(node.metadata_props)
                    graph.insert_before(node, join)
                    target = join.outputs[0]
            else:
                continue
            node.replace_input_with(1, target)
            node.attributes.pop("allowzero", None)
            modified = True
        return ir.passes.PassResult(model, modified)


def _leads_with_time_and_batch(graph: ir.Graph, dims: list[int | ir.SymbolicDim]) -> bool:
    whole = graph.inputs[0].shape
    return whole is not None and len(dims) >= 2 and dims[0] == whole[0] and dims[1] == whole[1]


def _constant(graph: ir.Graph, before: ir.Node, values: list[int]) -> ir.Value:
    node = ir.node("Constant", [], {"value": ir.tensor(np.array(values, np.int64))})
    node.metadata_props.update(before.metadata_props)
    graph.insert_before(before, node)
    return node.outputs[0]


def _shape_of_time_and_batch(graph: ir.Graph) -> ir.Value:
    node = ir.node("Shape", [graph.inputs[0]], {"start": 0, "end": 2})
    node.outputs[0].name = "time_and_batch"
    graph.insert_before(graph[0], node)
    return node.outputs[0]
