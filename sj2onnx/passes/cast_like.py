"""Casts that say what they cast to."""

import onnx_ir as ir

__all__ = ["CastLikePass"]


class CastLikePass(ir.passes.InPlacePass):
    """Replace ``CastLike`` by ``Cast`` to the element type of its second input, which is known.

    onnxruntime knows CastLike only as a function and warns about each one that it cannot compute beforehand.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type != "CastLike" or node.domain != "":
                continue
            value, like = node.inputs
            dtype = _element_type(like)
            if dtype is None:
                continue
            cast = ir.node("Cast", [value], {"to": dtype})
            cast.metadata_props.update(node.metadata_props)
            cast.outputs[0].shape, cast.outputs[0].type = node.outputs[0].shape, ir.TensorType(dtype)
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [cast], node.outputs, cast.outputs)
            modified = True
        return ir.passes.PassResult(model, modified)


def _element_type(value: ir.Value | None) -> ir.DataType | None:
    if value is None or value.dtype is not None:
        return None if value is None else value.dtype
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.dtype
