"""A small network as people train them: images or counts in, one convolution that turns them into spikes, a readout."""

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from tests.onnx2lava.float_graphs import FloatGraph

__all__ = ["READOUTS", "images", "network"]

READOUTS = {
    "none": [],
    "mean over time and a linear layer": [
        helper.make_node("ReduceMean", ["spikes", "time"], ["rates"], "mean/ReduceMean", keepdims=0),
        helper.make_node("Gemm", ["rates", "matrix", "offset"], ["output"], "head/Gemm", transB=1),
    ],
    "a vote at each step": [
        helper.make_node("MatMul", ["spikes", "ballot"], ["votes"], "voting/MatMul"),
        helper.make_node("Softmax", ["votes"], ["output"], "voting/Softmax", axis=-1),
    ],
}


def network(readout: str = "none") -> onnx.ModelProto:
    """Images [T, N, 2, 7, 7] → conv, BatchNorm, LIF → conv, IF → linear, IF (12 neurons) → the readout."""
    rng = np.random.default_rng(3)
    graph = FloatGraph((2, 7, 7))
    for index, (inputs, size) in enumerate([(2, 3), (5, 2)]):
        weight = (rng.normal(0.15, 0.6, (5, inputs, size, size))).astype(np.float32)
        real = torch.from_numpy(weight.astype(np.float64))
        graph.fold()
        graph.add("Conv", weight, meaning=lambda x, real=real: F.conv2d(x, real), kernel_shape=[size, size])
        if index == 0:
            values = [rng.uniform(low, 2, 5).astype(np.float32) for low in (1, -1, -1, 1)]
            graph.add("BatchNormalization", *values, meaning=lambda x: x, epsilon=1e-5)
        neuron = ("LIF", {"tau": 2.0}) if index == 0 else ("IF", {})
        graph.neuron(f"neuron.{index}", neuron[0], v_threshold=0.9, v_reset=0.0, **neuron[1])
    graph.fold()
    matrix = rng.normal(0.1, 0.5, (12, 80)).astype(np.float32)
    graph.arrange(-1, 80)
    graph.shape = (80,)
    graph.add("Gemm", matrix, meaning=lambda x: x[:, :12], transB=1)
    graph.neuron("neuron.2", "IF", v_threshold=1.1, v_reset=0.0)
    model = graph.model()
    if READOUTS[readout]:
        model.graph.node[-1].output[0] = "spikes"
        model.graph.node.extend(READOUTS[readout])
        given = {"time": np.array([0]), "matrix": rng.normal(size=(4, 12)), "offset": rng.normal(size=4)}
        given["ballot"] = np.kron(np.eye(4), np.full((3, 1), 1 / 3))
        read = {name for node in READOUTS[readout] for name in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.int64 if name == "time" else np.float32), name)
            for name, value in given.items()
            if name in read
        )
        dims = ["N", 4] if "rates" in {value for node in READOUTS[readout] for value in node.output} else ["T", "N", 4]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", TensorProto.FLOAT, dims))
    onnx.checker.check_model(model)
    return model


def images(steps: int, samples: int, *, counts: bool = False) -> np.ndarray:
    """Images that stay the same at all steps, or frames of counts, most of them small and some of them as large as can be."""
    rng = np.random.default_rng(8)
    if counts:
        frames = rng.poisson(0.7, (steps, samples, 2, 7, 7))
        frames[rng.random(frames.shape) < 0.003] = 255
        return frames.astype(np.float32)
    return np.broadcast_to(rng.normal(0.4, 1, (samples, 2, 7, 7)), (steps, samples, 2, 7, 7)).astype(np.float32)
