"""Store the weights of linear layers the way MatMul reads them."""

import numpy as np
import onnx_ir as ir

__all__ = ["TransposedWeightsPass"]


class TransposedWeightsPass(ir.passes.InPlacePass):
    """Replace ``Transpose(initialiser)`` by the transposed initialiser, under its old name.

    torch keeps a linear layer's weight as ``[out, in]`` and MatMul wants ``[in, out]``. An initialiser that something else
    uses as well is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        modified = False
        for node in list(graph):
            if node.op_type != "Transpose" or node.domain != "":
                continue
            weight = node.inputs[0]
            if weight is None or not weight.is_initializer() or len(weight.uses()) != 1 or weight.const_value is None:
                continue
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
            array = np.ascontiguousarray(np.transpose(weight.const_value.numpy(), order))
            name = weight.name
            weight.const_value = ir.tensor(array, name=name)
            weight.shape = ir.Shape(array.shape)
            node.outputs[0].replace_all_uses_with(weight)
            graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)
