"""ONNX of SpikingJelly's layers as ``sj2onnx.export`` writes it, without torch's exporter, which takes seconds for a network.

``test_random_graphs.py`` compares what is written here with what is exported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from spikingjelly.activation_based import layer, neuron
from torch import nn

from custom_ops.operators import DOMAIN, OPERATORS, OPSET, VERSION

__all__ = ["Writer"]

Shape = tuple[int, ...]


@dataclass
class Writer:
    """A graph under construction; values are ``[T, N, *]``."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lead = self.node("Shape", "input", start=0, end=2)

    def node(self, op: str, *inputs: Any, outputs: int = 1, name: str = "", domain: str = "", **attributes: Any) -> Any:
        """One more node, of names of values and of constants; the name of its output, or of its outputs."""
        at = len(self.nodes)
        read = []
        for index, given in enumerate(inputs):
            if isinstance(given, str):
                read.append(given)
                continue
            array = given.detach().numpy().astype(np.float32) if isinstance(given, torch.Tensor) else np.asarray(given)
            read.append(f"c{at}.{index}")
            self.constants.append(numpy_helper.from_array(array, read[-1]))
        made = [f"v{at}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, read, made, name or f"node.{at}/{op}", domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def folded(self, op: str, x: str, shape: Shape, made: Shape, *inputs: Any, **attributes: Any) -> str:
        """A node that reads ``[T * N, *shape]`` and gives ``[T * N, *made]``."""
        y = self.node(op, self.node("Reshape", x, np.array([-1, *shape])), *inputs, **attributes)
        return self.reshaped(y, made)

    def reshaped(self, x: str, shape: Shape) -> str:
        """As ``[T, N, *shape]``."""
        return str(self.node("Reshape", x, self.node("Concat", self.lead, np.array(shape), axis=0)))

    def model(self, output: str, given: Shape, made: Shape) -> onnx.ModelProto:
        """The file, whose output is the value ``output``."""
        nodes = [*self.nodes, helper.make_node("Identity", [output], ["output"])]
        used = sorted({node.op_type for node in nodes if node.domain == DOMAIN})
        x, y = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", "N", *shape])
            for name, shape in (("input", given), ("output", made))
        )
        model = helper.make_model(
            helper.make_graph(nodes, "random", [x], [y], self.constants),
            ir_version=10,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            functions=[OPERATORS[name].function() for name in used],
        )
        onnx.checker.check_model(model)
        return model

    def layer(self, name: str, module: nn.Module, x: str, shape: Shape, made: Shape) -> str:
        """A layer at the module path ``name`` that reads ``[T, N, *shape]`` and gives ``[T, N, *made]``."""
        match module:
            case nn.Conv2d() | nn.ConvTranspose2d():
                return self._convolution(module, x, shape, made)
            case nn.Linear():
                y = self.node("MatMul", x, module.weight.T.contiguous())
                return y if module.bias is None else str(self.node("Add", y, module.bias))
            case nn.modules.batchnorm._BatchNorm():
                values = (module.weight, module.bias, module.running_mean, module.running_var)
                return self.folded("BatchNormalization", x, shape, made, *values, epsilon=module.eps)
            case nn.AvgPool2d() | nn.MaxPool2d():
                average = isinstance(module, nn.AvgPool2d)
                return self.folded(
                    "AveragePool" if average else "MaxPool",
                    x,
                    shape,
                    made,
                    kernel_shape=[module.kernel_size] * 2,
                    strides=[module.stride] * 2,
                    pads=[module.padding] * 4,
                    ceil_mode=int(module.ceil_mode),
                    **({"count_include_pad": int(module.count_include_pad)} if average else {}),
                )
            case nn.AdaptiveAvgPool2d():
                return self.folded("ReduceMean", x, shape, made, np.array([-1, -2]), keepdims=1)
            case nn.Upsample():
                return self.folded(
                    "Resize",
                    x,
                    shape,
                    made,
                    "",
                    np.float32([1, 1, 2, 2]),
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            case nn.ZeroPad2d():
                left, right, top, bottom = module.padding
                return self.folded("Pad", x, shape, made, np.array([0, 0, top, left, 0, 0, bottom, right]), np.float32(0))
            case nn.Flatten():
                return self.reshaped(x, made)
            case layer.Dropout():
                return x
            case neuron.BaseNode():
                return self._neuron(name, module, x)
        raise NotImplementedError(type(module))

    def delay(self, x: str, steps: int, shape: Shape) -> str:
        """Zeros before it, and as many steps cut off behind."""
        steps_, samples = (self.node("Shape", "input", start=at, end=at + 1) for at in (0, 1))
        size = self.node("Concat", np.array([steps]), samples, np.array(shape), axis=0)
        later = self.node("Concat", self.node("ConstantOfShape", size), x, axis=0)
        return str(self.node("Slice", later, np.array([0]), steps_, np.array([0]), np.array([1])))

    def swapped(self, x: str, shape: Shape) -> str:
        """Both halves of the first axis of the features, the other way round."""
        first, second = self.node("Split", x, np.array([shape[0] // 2] * 2), outputs=2, axis=2)
        return str(self.node("Concat", second, first, axis=2))

    def join(self, kind: str, x: str, y: str) -> str:
        """One of ``random_graphs.JOINS``."""
        match kind:
            case "add" | "subtract":
                return str(self.node({"add": "Add", "subtract": "Sub"}[kind], x, y))
            case "concatenate":
                return str(self.node("Concat", x, y, axis=2))
            case "and":
                return str(self.node("Mul", x, y))
            case "iand":
                return str(self.node("Mul", x, self.node("Sub", np.float32(1), y)))
            case "or":
                return str(self.node("Sub", self.node("Add", x, y), self.node("Mul", x, y)))
            case "or by clamp":
                return str(self.node("Clip", self.node("Add", x, y), "", np.float32(1)))
            case "greater":
                return str(self.node("Cast", self.node("Greater", x, y), to=1))
            case "xor":
                return str(self.node("Cast", self.node("Xor", self.node("Cast", x, to=9), self.node("Cast", y, to=9)), to=1))
            case "masked":
                return str(self.node("Where", self.node("Greater", y, np.float32(0)), np.float32(0), x))
            case "attend":
                turned = self.node("Transpose", y, perm=[0, 1, 2, 4, 3])
                return str(self.node("MatMul", self.node("MatMul", x, turned), y))
        raise NotImplementedError(kind)

    def _convolution(self, module: Any, x: str, shape: Shape, made: Shape) -> str:
        parameters = [module.weight] if module.bias is None else [module.weight, module.bias]
        window: dict[str, Sequence[int]] = {"strides": module.stride, "dilations": module.dilation}
        if isinstance(module, nn.ConvTranspose2d):
            return self.folded(
                "ConvTranspose", x, shape, made, *parameters, pads=[*module.padding] * 2, group=module.groups, **window
            )
        pads = [*module.padding] * 2
        if module.padding == "same":
            total = [size - 1 for size in module.kernel_size]
            pads = [*(each // 2 for each in total), *(each - each // 2 for each in total)]
        return self.folded("Conv", x, shape, made, *parameters, pads=pads, group=module.groups, **window)

    def _neuron(self, name: str, node: Any, x: str) -> str:
        attributes = {"v_threshold": node.v_threshold, "v_reset": node.v_reset}
        if isinstance(node, neuron.LIFNode | neuron.ParametricLIFNode):
            decay = 1 / node.tau if isinstance(node, neuron.LIFNode) else float(node.w.detach().sigmoid())
            attributes |= {"decay": decay, "decay_input": int(node.decay_input)}
        op = "LIF" if "decay" in attributes else "IF"
        return str(self.node(op, x, name=f"{name}/{op}", domain=DOMAIN, **attributes))
