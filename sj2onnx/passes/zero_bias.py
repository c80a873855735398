"""Drop biases that torch's exporter invents."""

import numpy as np
import onnx_ir as ir

__all__ = ["ZeroBiasPass"]


class ZeroBiasPass(ir.passes.InPlacePass):
    """Remove the bias of a convolution where it is the zeros that torch writes for a layer without one.

    Those are ``Expand(CastLike(0, …), …)``; a bias that the layer really has is an initialiser and stays.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            if node.op_type not in ("Conv", "ConvTranspose") or len(node.inputs) < 3 or node.inputs[2] is None:
                continue
            if _is_zero(node.inputs[2]):
                node.resize_inputs(2)
                modified = True
        return ir.passes.PassResult(model, modified)


def _is_zero(value: ir.Value) -> bool:
    producer = value.producer()
    if producer is None:
        return False
    if producer.op_type in ("Expand", "CastLike", "Cast"):
        source = producer.inputs[0]
        return source is not None and _is_zero(source)
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.size == 1 and not np.any(tensor.numpy())
