"""One Reshape where torch writes several in a row."""

import onnx_ir as ir

__all__ = ["ReshapeChainsPass"]


class ReshapeChainsPass(ir.passes.InPlacePass):
    """Let a Reshape read what the Reshape before it read, and drop one that gives back the shape it started from.

    Every step-mode layer folds time into the batch and out again, so that between two of them nothing happens: what follows a
    convolution is then its BatchNormalization, not two Reshapes. A target that copies dimensions of its input (a zero in it)
    is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            while (before := _reshape_before(node)) is not None and not _copies_dimensions(node):
                node.replace_input_with(0, before.inputs[0])
                modified = True
            if node.op_type == "Reshape" and node.domain == "" and _same_shape(node.inputs[0], node.outputs[0]):
                source = node.inputs[0]
                assert source is not None
                if not node.outputs[0].is_graph_output():
                    node.outputs[0].replace_all_uses_with(source)
                    model.graph.remove(node, safe=True)
                    modified = True
        return ir.passes.PassResult(model, modified)


def _reshape_before(node: ir.Node) -> ir.Node | None:
    if node.op_type != "Reshape" or node.domain != "" or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    return before if before is not None and before.op_type == "Reshape" and before.domain == "" else None


def _copies_dimensions(node: ir.Node) -> bool:
    """Whether the target names a dimension of the input by a zero, or is not known to name none."""
    target = node.inputs[1]
    assert target is not None
    join = target.producer()
    parts = join.inputs if join is not None and join.op_type == "Concat" else [target]
    for part in parts:
        tensor = None if part is None else ir.convenience.get_const_tensor(part)
        if tensor is not None and not tensor.numpy().all():
            return True
        if tensor is None and (part is None or (origin := part.producer()) is None or origin.op_type != "Shape"):
            return True
    return False


def _same_shape(one: ir.Value | None, other: ir.Value) -> bool:
    return one is not None and one.shape is not None and other.shape is not None and list(one.shape) == list(other.shape)
