"""Parts of a value as outputs of one node."""

import numpy as np
import onnx_ir as ir

__all__ = ["SplitSequencesPass"]


class SplitSequencesPass(ir.passes.InPlacePass):
    """Replace ``SplitToSequence`` and the ``SequenceAt`` that read it by ``Split``.

    torch writes ``chunk`` and ``split`` so, where all sizes are known. A sequence that something else reads is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type == "SplitToSequence" and node.domain == "":
                modified |= _replaced(model.graph, node)
        return ir.passes.PassResult(model, modified)


def _replaced(graph: ir.Graph, node: ir.Node) -> bool:
    sizes = _sizes(node)
    readers = [use.node for use in node.outputs[0].uses()]
    places = [_number(reader.inputs[1]) if reader.op_type == "SequenceAt" else None for reader in readers]
    if sizes is None or not all(place is not None and -len(sizes) <= place < len(sizes) for place in places):
        return False
    given = ir.node("Constant", [], {"value": ir.tensor(np.array(sizes, np.int64))})
    split = ir.node(
        "Split", [node.inputs[0], given.outputs[0]], {"axis": node.attributes.get_int("axis", 0)}, num_outputs=len(sizes)
    )
    for new in (given, split):
        new.metadata_props.update(node.metadata_props)
    graph.insert_before(node, [given, split])
    for reader, place in zip(readers, places, strict=True):
        assert place is not None
        part, old = split.outputs[place], reader.outputs[0]
        part.shape, part.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, part, replace_graph_outputs=True)
        graph.remove(reader, safe=True)
    graph.remove(node, safe=True)
    return True


def _sizes(node: ir.Node) -> list[int] | None:
    """Of the parts, or None where the file does not say them, or where each part loses its axis."""
    value = node.inputs[0]
    tensor = ir.convenience.get_const_tensor(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if tensor is None or value is None or value.shape is None:
        return None
    given = tensor.numpy()
    if given.ndim == 1:
        return [int(size) for size in given]
    whole = value.shape[node.attributes.get_int("axis", 0)]
    if not isinstance(whole, int):
        return None
    return [min(int(given), whole - start) for start in range(0, whole, int(given))]


def _number(value: ir.Value | None) -> int | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else int(tensor.numpy().reshape(()))
