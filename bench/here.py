"""What is measured in this environment: onnxruntime with and without the native library, SpikingJelly, and a plain copy."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from spikingjelly.activation_based import functional, lava_exchange, layer, neuron
from torch import nn

import custom_ops
import sj2onnx
from models.mnist_csnn import MNISTNet

from .timing import THREADS, median_seconds
from .workloads import NETWORK, NEURON, Array, neuron_input

__all__ = [
    "copy_seconds",
    "cuba_model",
    "export_seconds",
    "growth",
    "neuron_seconds",
    "peak_bytes_per_neuron_step",
    "reference_network",
    "run_network",
    "session_seconds",
    "spikingjelly_network",
    "spikingjelly_neuron",
]

FLOAT_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "IF": {"v_threshold": 50.0, "v_reset": 0.0},
    "LIF": {"v_threshold": 50.0, "v_reset": 0.0, "tau": 2.0},
}
_ROOT = Path(__file__).parents[1]


def reference_network() -> tuple[MNISTNet, onnx.ModelProto]:
    """The reference network with random weights, and its export."""
    torch.manual_seed(0)
    net = MNISTNet(NETWORK["channels"], NETWORK["image_size"]).eval()
    size = NETWORK["image_size"]
    return net, sj2onnx.export(net, torch.zeros(2, 2, 1, size, size))


def _session(model: onnx.ModelProto, native: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return custom_ops.session(model, native=native, sess_options=options)


def run_network(model: onnx.ModelProto, x: Array, native: bool) -> Array:
    """The spikes of the last layer."""
    return np.asarray(_session(model, native).run(None, {"input": x})[0])


def session_seconds(model: onnx.ModelProto, x: Array, native: bool, runs: int) -> float:
    """Time of one run, into memory that is there before."""
    session = _session(model, native)
    name, binding = session.get_inputs()[0].name, session.io_binding()
    shape = session.run(None, {name: x})[0].shape
    binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(x))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, output)
    return median_seconds(lambda: session.run_with_iobinding(binding), runs)


def cuba_model(op_type: str = "CubaLIF", rank: int = 3) -> onnx.ModelProto:
    """One node of an ``snn`` operator."""
    attributes = dict(NEURON.attributes) if op_type == "CubaLIF" else FLOAT_ATTRIBUTES[op_type]
    dims = ["T", "N", *(f"D{axis}" for axis in range(rank - 2))]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["input"], ["output"], domain="snn", **attributes)],
        "neurons",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, dims)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("snn", 1)]
    functions = [custom_ops.OPERATORS[op_type].function()]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def copy_seconds(x: Array, runs: int) -> float:
    """A plain copy of ``x`` to memory of the same size, by torch and on as many threads as everything else."""
    torch.set_num_threads(THREADS)
    source = torch.from_numpy(x)
    target = torch.empty_like(source)
    return median_seconds(lambda: target.copy_(source), runs)


def spikingjelly_network(net: MNISTNet, cuba: bool) -> nn.Sequential:
    """The network in SpikingJelly's own modules, multi-step: with its quantised CubaLIFNode, or with its float IFNode.

    Both have the quantised weights, so that the former gives the very spikes.
    """
    modules: list[nn.Module] = []
    for block in net.conv_fc:
        assert isinstance(block, sj2onnx.BlockContainer)
        if block.neuron is None:
            modules.append(layer.Flatten(step_mode="m"))
            continue
        synapse = block.synapse
        if isinstance(synapse, nn.Conv2d):
            sizes = synapse.in_channels, synapse.out_channels, synapse.kernel_size, synapse.stride, synapse.padding
            modules.append(layer.Conv2d(*sizes, bias=False, step_mode="m"))
        else:
            assert isinstance(synapse, nn.Linear)
            modules.append(layer.Linear(synapse.in_features, synapse.out_features, bias=False, step_mode="m"))
        with torch.no_grad():
            modules[-1].weight.copy_(block.integer_weight() / 64)  # type: ignore[operator, union-attr]
        modules.append(lava_exchange.CubaLIFNode(1.0, 0.0, 1.0, step_mode="m") if cuba else neuron.IFNode(step_mode="m"))
    return nn.Sequential(*modules).eval()


def spikingjelly_neuron() -> nn.Module:
    """SpikingJelly's CubaLIFNode with the parameters of the single layer; it takes sums divided by 64."""
    node: nn.Module = lava_exchange.CubaLIFNode(
        NEURON.i_decay / 4096, NEURON.v_decay / 4096, NEURON.v_threshold / 64, scale=64, step_mode="m"
    )
    return node.eval()


def neuron_seconds(module: nn.Module, x: Array, runs: int) -> tuple[float, Array]:
    """Time of one run of a SpikingJelly module from reset states, and its spikes."""
    torch.set_num_threads(THREADS)
    tensor = torch.from_numpy(x)

    @torch.no_grad()
    def run() -> torch.Tensor:
        functional.reset_net(module)
        spikes: torch.Tensor = module(tensor)
        return spikes

    return median_seconds(run, runs, warm_up=1), run().numpy()


def growth(sizes: Sequence[tuple[int, int, int]], runs: int) -> list[tuple[float, float]]:
    """Time of native ``CubaLIF`` for each ``(steps, samples, neurons)``, and of a copy of the same bytes."""
    model = cuba_model()
    found = []
    for size in sizes:
        x = neuron_input(*size)
        copied = copy_seconds(x, runs)
        found.append((session_seconds(model, x, True, runs), copied))
    return found


def peak_bytes_per_neuron_step() -> float:
    """What each further neuron-step costs in peak memory, in a process of its own: 8 bytes are its input and its output."""
    model = cuba_model()
    model.graph.node[0].input[0] = model.graph.input[0].name = "x"
    peaks = []
    for steps in (50, 450):
        command = [sys.executable, str(_ROOT / "tests/peers/peak_memory.py"), custom_ops.get_library_path(), str(steps)]
        peaks.append(int(subprocess.run(command, input=model.SerializeToString(), check=True, capture_output=True).stdout))
    return (peaks[1] - peaks[0]) / (400 * 20_000)


def export_seconds(layers: int) -> float:
    """Exporting a network of ``layers`` blocks, once, with everything imported: people export once."""
    torch.manual_seed(0)
    convolutions = [
        sj2onnx.BlockContainer(nn.Conv2d(2 if index == 0 else 16, 16, 3, padding=1, bias=False), neuron.IFNode())
        for index in range(layers)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        return median_seconds(
            lambda: sj2onnx.export(nn.Sequential(*convolutions), torch.zeros(2, 2, 2, 32, 32), path), 1, warm_up=0
        )


def processor() -> str:
    """The name of this machine's processor."""
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else "unknown processor"
