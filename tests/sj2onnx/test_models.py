"""SpikingJelly's own model files, exported and compared with SpikingJelly layer by layer."""

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import sj2onnx
from models.spikingjelly_models import MODELS, lively, random_spikes
from sj2onnx.check import check

RUN_ONNX = Path(__file__).parents[1] / "peers" / "run_onnx.py"
torch.set_num_threads(1)


QUICK = [name for name, entry in MODELS.items() if entry.quick]


@pytest.fixture(params=QUICK)
def model(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    entry = MODELS[request.param]
    net = entry.make()
    x = random_spikes(4, 2, *entry.shape)
    return lively(net, x), x


def test_every_layer_spikes_as_in_spikingjelly(model: tuple[nn.Module, torch.Tensor]) -> None:
    net, x = model
    exported = sj2onnx.export(net, x[:1, :1], outputs="all")
    layers = [name for name, module in net.named_modules() if isinstance(module, neuron.BaseNode)]
    for steps, batch in [(1, 1), (6, 3)]:
        found = check(net, exported, random_spikes(steps, batch, *x.shape[2:], seed=steps))
        assert [layer.name for layer in found] == [*layers, "output"]
        for layer in found:
            # Convolutions add in another order than torch's, so that a sum may fall on the other side of the threshold.
            assert layer.mismatches * 10_000 <= layer.values, layer
            assert steps < 6 or layer.name == "output" or 0 < layer.rate < 1, (
                f"{layer} is silent or saturated: the comparison would prove nothing"
            )


@pytest.mark.parametrize("runtime", ["oldest", "newest"])
def test_runs_on_a_bare_onnxruntime(runtime: str, bare_onnxruntime: Callable[[str], Path], tmp_path: Path) -> None:
    net, shape = MODELS["MNISTNet"].make(), MODELS["MNISTNet"].shape
    x = random_spikes(6, 2, *shape)
    sj2onnx.export(lively(net, x), x, tmp_path / "net.onnx")
    np.save(tmp_path / "input.npy", x.numpy())
    command = [bare_onnxruntime(runtime), "-I", RUN_ONNX, tmp_path / "net.onnx", tmp_path / "input.npy", tmp_path / "output.npz"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with torch.no_grad(), np.load(tmp_path / "output.npz") as actual:
        assert np.allclose(actual["output"], net(x).numpy(), atol=1e-6)


def test_the_graph_reads_like_the_network() -> None:
    net, shape = MODELS["MNISTNet"].make(), MODELS["MNISTNet"].shape
    exported = sj2onnx.export(net, torch.zeros(2, 2, *shape))
    standard = [node.name for node in exported.graph.node if node.op_type not in ("Shape", "Concat", "Reshape")]
    assert standard == [
        "conv_fc.0/Conv",
        "conv_fc.1/BatchNormalization",
        "conv_fc.2/LIF",
        "conv_fc.3/MaxPool",
        "conv_fc.4/Conv",
        "conv_fc.5/BatchNormalization",
        "conv_fc.6/LIF",
        "conv_fc.7/MaxPool",
        "conv_fc.10/MatMul",
        "conv_fc.10/Add",
        "conv_fc.11/LIF",
        "conv_fc.13/MatMul",
        "conv_fc.13/Add",
        "conv_fc.14/LIF",
        "conv_fc.15/Unsqueeze",
        "conv_fc.15/AveragePool",
        "conv_fc.15/Squeeze",
    ]
    # Two convolutions and two pools fold time into the batch and out again, once for each that nothing else comes between.
    assert Counter(node.op_type for node in exported.graph.node)["Reshape"] == 8
    size = sum(p.numel() * p.element_size() for p in [*net.parameters(), *net.buffers()])
    assert exported.ByteSize() < 1.02 * size


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (nn.Sequential(nn.Identity(), neuron.IFNode(step_mode="s")), "'1' \\(IFNode\\) works in step mode 's'"),
    ],
)
def test_what_cannot_be_exported_says_why(net: nn.Module, said: str) -> None:
    with pytest.raises(sj2onnx.ExportError, match=said):
        sj2onnx.export(net, torch.zeros(2, 2, 3))
