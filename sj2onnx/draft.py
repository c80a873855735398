"""A model whose large weights are still the network's own, so that it is checked and run without copies of them."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto

__all__ = ["Draft"]

_LARGE = 1 << 16
"""Bytes from which on a weight is kept apart; what shapes are computed from is far smaller."""


class Draft:
    """A model that is about to become a file.

    Args:
        model: the graph; its large weights move into the draft.

    Attributes:
        proto: the model; where a weight is large it has its name, type and shape alone.
        weights: the large weights, by name.
    """

    def __init__(self, model: ir.Model) -> None:
        self.weights: dict[str, npt.NDArray[np.generic]] = {}
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes >= _LARGE and tensor.dtype == ir.DataType.FLOAT:
                self.weights[name] = np.ascontiguousarray(tensor.numpy())
                value.const_value = ir.ExternalTensor(
                    "weights", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(self.weights[name].shape), name=name
                )
        self.proto = ir.to_proto(model)

    def check(self) -> None:
        """Let ONNX check the graph and the shapes in it, with the large weights as inputs.

        Raises:
            onnx.checker.ValidationError: the graph is not well formed.
            onnx.shape_inference.InferenceError: shapes do not fit.
        """
        shell = onnx.ModelProto()
        shell.CopyFrom(self.proto)
        small = [tensor for tensor in shell.graph.initializer if tensor.name not in self.weights]
        for name, array in self.weights.items():
            shell.graph.input.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        kept = [tensor.SerializeToString() for tensor in small]
        del shell.graph.initializer[:]
        for content in kept:
            shell.graph.initializer.add().ParseFromString(content)
        onnx.checker.check_model(shell, full_check=True)

    def whole(self) -> onnx.ModelProto:
        """The model with all its weights in it; the draft is used up."""
        for tensor in self.proto.graph.initializer:
            if tensor.name in self.weights:
                del tensor.external_data[:]
                tensor.ClearField("data_location")
                content = self.weights.pop(tensor.name).tobytes()
                tensor.raw_data = content
        return self.proto
