"""Store Loihi's 8-bit weights in 8 bits."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from custom_ops.operators import RECURRENT_CUBA_LIF

from .module_names import module_path

__all__ = ["IntegerWeightsPass"]


class IntegerWeightsPass(ir.passes.InPlacePass):
    """Give the synapse of every integer block its weight as int8 of half the value, rebuilt by ``Cast`` and ``Mul`` by 2.

    Cast and Mul rather than DequantizeLinear, because onnxruntime folds the former once, when a session is made, and keeps
    the latter for every run.
    """

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """``weights``: even whole numbers in -256 … 254 by module path, laid out as torch does; ``[1, 1, h, w]`` for a
        pooling block stands for the same kernel in every channel."""
        super().__init__()
        self._weights = weights

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        modified = False
        doubles: dict[str, ir.Value] = {}
        for node in list(graph):
            path = module_path(node)
            if node.op_type == RECURRENT_CUBA_LIF.name and path in doubles:  # spikes come back through the same weight
                node.replace_input_with(1, doubles[path])
                continue
            if node.op_type not in ("Conv", "MatMul") or path not in self._weights:
                continue
            half = (self._weights[path] / 2).astype(np.int8)
            if node.op_type == "MatMul":
                half = np.ascontiguousarray(half.T)
            elif half.shape[0] != (groups := node.attributes.get_int("group", 1)) and half.shape[0] == 1:
                half = np.repeat(half, groups, axis=0)
            name = f"{path}.weight"
            graph.initializers.pop(name, None)
            weight = ir.Value(
                name=name,
                shape=ir.Shape(half.shape),
                type=ir.TensorType(ir.DataType.INT8),
                const_value=ir.tensor(half, name=name),
            )
            graph.register_initializer(weight)
            cast = ir.node("Cast", [weight], {"to": ir.DataType.FLOAT})
            two = ir.node("Constant", [], {"value": ir.tensor(np.array(2, np.float32))})
            double = ir.node("Mul", [cast.outputs[0], two.outputs[0]])
            for new in (cast, two, double):
                new.metadata_props.update(node.metadata_props)
            graph.insert_before(node, [cast, two, double])
            doubles[path] = double.outputs[0]
            node.replace_input_with(1, doubles[path])
            modified = True
        return ir.passes.PassResult(model, modified)
