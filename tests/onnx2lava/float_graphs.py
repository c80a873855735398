"""Random float networks as exporters write them, and what they mean: torch in float64, layer by layer, nothing lowered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from custom_ops.operators import DOMAIN, OPERATORS, OPSET, VERSION

__all__ = ["FloatGraph", "float_graphs"]

Meaning = Callable[[torch.Tensor], torch.Tensor]


@dataclass(repr=False)
class FloatGraph:
    """A network under construction: its ONNX graph, and the same as functions on ``[T, N, *]`` in float64.

    Args:
        shape: features of the input, and then of whatever was added last.
    """

    shape: tuple[int, ...]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    meanings: list[tuple[str | None, Meaning]] = field(default_factory=list)
    value: str = "input"
    folded: bool = False

    def __post_init__(self) -> None:
        self.input_shape = self.shape

    def add(self, op: str, *parameters: Any, meaning: Meaning, name: str = "", domain: str = "", **attributes: Any) -> None:
        """One more node; what it means on folded ``[T * N, *]``."""
        index = len(self.nodes)
        names = []
        for i, parameter in enumerate(parameters):
            self.constants[f"p{index}_{i}"] = np.asarray(parameter)
            names.append(f"p{index}_{i}")
        output = f"v{index}"
        self.nodes.append(
            helper.make_node(op, [self.value, *names], [output], f"{name or f'layer.{index}'}/{op}", domain=domain, **attributes)
        )
        self.value = output
        self.meanings.append((name or None, meaning))
        self.shape = tuple(self.evaluate_last(meaning).shape[1:])

    def __repr__(self) -> str:
        return "\n".join(
            f"{n.op_type} {[self.constants[i].shape for i in n.input[1:] if i in self.constants]} "
            f"{ {a.name: helper.get_attribute_value(a) for a in n.attribute} }"
            for n in self.nodes
        )

    def evaluate_last(self, meaning: Meaning) -> torch.Tensor:
        return meaning(torch.zeros(1, *self.shape, dtype=torch.float64))

    def arrange(self, *dims: int) -> None:
        """A Reshape to ``dims``, in which -1 is what is left."""
        index = len(self.nodes)
        self.constants[f"p{index}"] = np.array(dims, np.int64)
        self.nodes.append(helper.make_node("Reshape", [self.value, f"p{index}"], [f"v{index}"], f"layer.{index}/Reshape"))
        self.value = f"v{index}"

    def fold(self) -> None:
        if not self.folded:
            self.arrange(-1, *self.shape)
            self.folded = True

    def unfold(self) -> None:
        if not self.folded:
            return
        index = len(self.nodes)
        self.constants[f"p{index}"] = np.array(self.shape, np.int64)
        self.nodes += [
            helper.make_node("Shape", ["input"], [f"s{index}"], f"layer.{index}/Shape", start=0, end=2),
            helper.make_node("Concat", [f"s{index}", f"p{index}"], [f"c{index}"], f"layer.{index}/Concat", axis=0),
            helper.make_node("Reshape", [self.value, f"c{index}"], [f"v{index}"], f"layer.{index}/Reshape"),
        ]
        self.value, self.folded = f"v{index}", False

    def neuron(self, name: str, op: str, **attributes: Any) -> None:
        """A spiking layer."""
        self.unfold()
        self.add(op, meaning=lambda a: a, name=name, domain=DOMAIN, **attributes)
        self.meanings[-1] = (name, lambda a: spikes_of(a, op, **attributes))

    def model(self) -> onnx.ModelProto:
        """The ONNX file; the last thing added is its output."""
        self.unfold()
        used = sorted({node.op_type for node in self.nodes if node.domain == DOMAIN})
        last = helper.make_node("Identity", [self.value], ["output"], "output/Identity")
        model = helper.make_model(
            helper.make_graph(
                [*self.nodes, last],
                "random",
                [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["T", "N", *self.input_shape])],
                [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["T", "N", *self.shape])],
                [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
            ),
            ir_version=10,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            functions=[OPERATORS[name].function() for name in used],
        )
        onnx.checker.check_model(model)
        return model

    def evaluate(self, x: np.ndarray) -> Mapping[str, np.ndarray]:
        """The spikes ``[T, N, *]`` of every spiking layer, by its name, computed in float64."""
        steps, samples = x.shape[:2]
        value = torch.from_numpy(x.astype(np.float64)).flatten(0, 1)
        spikes = {}
        for name, meaning in self.meanings:
            if name is not None and name.startswith("neuron"):
                value = meaning(value.unflatten(0, (steps, samples)))
                spikes[name] = value.numpy()
                value = value.flatten(0, 1)
            else:
                value = meaning(value)
        return spikes


def spikes_of(
    a: torch.Tensor,
    op: str,
    v_threshold: float,
    v_reset: float,
    tau: float | None = None,
    decay: float | None = None,
    decay_input: int = 1,
) -> torch.Tensor:
    """SpikingJelly's equations, in float64."""
    v = torch.full_like(a[0], v_reset)
    spikes = torch.zeros_like(a)
    for t, x in enumerate(a):
        if op == "IF":
            v = v + x
        else:
            leak = 1 / tau if decay is None else decay
            v = v + leak * (x - (v - v_reset)) if decay_input else v - leak * (v - v_reset) + x
        spikes[t] = (v >= v_threshold).double()
        v = torch.where(spikes[t] == 1, torch.full_like(v, v_reset), v)
    return spikes


@st.composite
def float_graphs(draw: st.DrawFn, *, ends: bool = True) -> FloatGraph:
    """Chains of one to six spiking layers with everything around their synapses that lowering takes away.

    Args:
        draw: of hypothesis.
        ends: whether windows may end beyond the image, be padded unevenly, or be dilated while pooling.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    convolutional = draw(st.integers(0, 3))
    channels = draw(st.integers(1, 4))
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    graph = FloatGraph((channels, *size) if convolutional else (channels,))
    for index in range(convolutional):
        for _ in range(draw(st.integers(0, 1))):
            graph.fold()
            _max_pool(draw, graph, index)
        graph.fold()
        if draw(st.integers(0, 2)) == 0:
            _average_pool(draw, graph)
        if len(graph.nodes) == 1 or draw(st.integers(0, 4)):  # else the pool before has a neuron of its own
            _convolution(draw, rng, graph)
            if draw(st.booleans()):
                _batch_norm(rng, graph)
            if draw(st.integers(0, 4)) == 0:
                _average_pool(draw, graph)
        if graph.nodes[-1].op_type in ("Reshape", "MaxPool"):
            _convolution(draw, rng, graph)
        _neuron(draw, graph, f"neuron.{index}")
    for index in range(draw(st.integers(0 if convolutional else 1, 3))):
        if len(graph.shape) == 3 and draw(st.integers(0, 2)) == 0:
            graph.fold()
            _average_pool(draw, graph)
        _linear(draw, rng, graph)
        if draw(st.integers(0, 2)) == 0:
            _batch_norm(rng, graph)
        _neuron(draw, graph, f"neuron.{convolutional + index}")
    return graph


def _neuron(draw: st.DrawFn, graph: FloatGraph, name: str) -> None:
    reset = draw(st.sampled_from([0.0, 0.0, -0.25, 0.125]))
    levels = {"v_threshold": _float32(reset + draw(st.sampled_from([0.31, 0.73, 1.07]))), "v_reset": reset}
    kind = draw(st.sampled_from(["IF", "tau", "decay"]))
    if kind == "IF":
        graph.neuron(name, "IF", **levels)
    else:
        leak = (
            {"tau": draw(st.sampled_from([1.0, 1.5, 2.0, 3.0]))}
            if kind == "tau"
            else {"decay": _float32(draw(st.sampled_from([0.3, 0.5, 0.9])))}
        )
        graph.neuron(name, "LIF", **levels, **leak, decay_input=draw(st.integers(0, 1)))


def _convolution(draw: st.DrawFn, rng: np.random.Generator, graph: FloatGraph) -> None:
    channels, *size = graph.shape
    groups = draw(st.sampled_from([d for d in range(1, channels + 1) if channels % d == 0]))
    kernel, pads, dilation = [], [], []
    for length in size:
        low, high = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        if draw(st.booleans()):
            high = low
        kernel.append(draw(st.integers(1, min(5, length + low + high))))
        most = (length + low + high - 1) // (kernel[-1] - 1) if kernel[-1] > 1 else 1
        dilation.append(draw(st.integers(1, min(most, 3))))
        pads.append((low, high))
    stride = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    outputs = groups * draw(st.integers(1, 3))
    fan_in = channels // groups * kernel[0] * kernel[1]
    weight = _weights(rng, fan_in, outputs, channels // groups, *kernel)
    parameters = [weight] + ([_biases(rng, outputs)] if draw(st.booleans()) else [])

    def meaning(x: torch.Tensor) -> torch.Tensor:
        real = [torch.from_numpy(each.astype(np.float64)) for each in parameters]
        padded = F.pad(x, (*pads[1], *pads[0]))
        return F.conv2d(padded, real[0], real[1] if len(real) > 1 else None, stride, 0, dilation, groups)

    ends = [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
    graph.add("Conv", *parameters, meaning=meaning, strides=stride, pads=ends, dilations=dilation, group=groups)


def _linear(draw: st.DrawFn, rng: np.random.Generator, graph: FloatGraph) -> None:
    inputs, outputs = int(np.prod(graph.shape)), draw(st.integers(1, 6))
    if len(graph.shape) == 3 or graph.folded:
        graph.arrange(-1, inputs)
        graph.folded = True
        graph.shape = (inputs,)
    graph.fold()
    weight, bias = _weights(rng, inputs, outputs, inputs), _biases(rng, outputs)
    given = [weight, bias] if draw(st.booleans()) else [weight]

    def meaning(x: torch.Tensor) -> torch.Tensor:
        total = x.flatten(1) @ torch.from_numpy(weight.astype(np.float64)).T
        return total + torch.from_numpy(bias.astype(np.float64)) if len(given) > 1 else total

    graph.add("Gemm", *given, meaning=meaning, transB=1)


def _batch_norm(rng: np.random.Generator, graph: FloatGraph) -> None:
    channels = graph.shape[0]
    values = [
        rng.normal(1, 0.5, channels),
        rng.normal(0, 0.3, channels),
        rng.normal(0, 0.3, channels),
        rng.uniform(0.3, 2, channels),
    ]
    values = [value.astype(np.float32) for value in values]

    def meaning(x: torch.Tensor) -> torch.Tensor:
        scale, shift, mean, variance = (torch.from_numpy(value.astype(np.float64)) for value in values)
        return F.batch_norm(x, mean, variance, scale, shift, eps=float(np.float32(1e-5)))

    graph.add("BatchNormalization", *values, meaning=meaning, epsilon=1e-5)


def _windows(draw: st.DrawFn, graph: FloatGraph) -> tuple[list[int], list[int], list[int], bool]:
    kernel, stride, pads = [], [], []
    for length in graph.shape[1:]:
        kernel.append(draw(st.integers(1, min(4, length))))
        stride.append(draw(st.sampled_from([kernel[-1], kernel[-1], 1, 2, 3])))
        pads.append(draw(st.integers(0, kernel[-1] // 2)))
    if draw(st.booleans()):
        pads = [0, 0]
    return kernel, stride, pads, draw(st.integers(0, 3)) == 0


def _average_pool(draw: st.DrawFn, graph: FloatGraph) -> None:
    kernel, stride, pads, ceil = _windows(draw, graph)
    counts = draw(st.booleans())
    graph.add(
        "AveragePool",
        meaning=lambda x: F.avg_pool2d(x, kernel, stride, pads, ceil, counts),
        kernel_shape=kernel,
        strides=stride,
        pads=[*pads, *pads],
        ceil_mode=int(ceil),
        count_include_pad=int(counts),
    )


def _max_pool(draw: st.DrawFn, graph: FloatGraph, index: int) -> None:
    kernel, stride, pads, ceil = _windows(draw, graph)
    dilation = [
        draw(st.integers(1, 2)) if (k - 1) * 2 + 1 <= length else 1 for k, length in zip(kernel, graph.shape[1:], strict=True)
    ]
    graph.add(
        "MaxPool",
        name=f"pool.{index}",
        meaning=lambda x: F.max_pool2d(x, kernel, stride, pads, dilation, ceil),
        kernel_shape=kernel,
        strides=stride,
        pads=[*pads, *pads],
        dilations=dilation,
        ceil_mode=int(ceil),
    )


def _float32(value: float) -> float:
    """As an attribute stores it."""
    return float(np.float32(value))


def _weights(rng: np.random.Generator, fan_in: int, *shape: int) -> np.ndarray:
    return (rng.normal(0.3, 1.5, shape) / np.sqrt(fan_in)).astype(np.float32)


def _biases(rng: np.random.Generator, channels: int) -> np.ndarray:
    return rng.normal(0, 0.2, channels).astype(np.float32)
