"""SpikingJelly's CUBALIFNode all the way: its spikes in real numbers, and one set of spikes in integers wherever those run."""

import json
import subprocess
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from onnx2lava.targets.numpy import simulate

from ..conftest import ROOT


def _shifted(channels: int) -> nn.Module:
    norm = layer.BatchNorm2d(channels)
    norm.bias.data.normal_(std=0.1)
    return norm


def _residual() -> nn.Module:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(layer.Linear(12, 20, bias=False), neuron.CUBALIFNode(0.5, 0.5))
            self.second = nn.Sequential(layer.Linear(20, 20, bias=False), neuron.CUBALIFNode(0.75, 0.875))
            self.last = nn.Sequential(layer.Linear(20, 8, bias=False), neuron.LIFNode(decay_input=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            spikes: torch.Tensor = self.last(self.second(h) + h)
            return spikes

    return Skip()


_QUICK = ["ort", "ort-native", "numpy", "slayer"]
_CHAIN, _GRAPH = [*_QUICK, "netx"], [*_QUICK, "lava"]  # seconds each
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "a chain": (
        lambda: nn.Sequential(
            *(layer.Linear(12, 20, bias=False), neuron.CUBALIFNode()),
            *(layer.Linear(20, 8, bias=False), neuron.CUBALIFNode(0.25, 0.5, 0.75)),
        ),
        (12,),
        _CHAIN,
    ),
    "other resets, beside IF": (
        lambda: nn.Sequential(
            *(layer.Linear(12, 20, bias=False), neuron.CUBALIFNode(v_reset=-0.25)),
            *(layer.Linear(20, 8, bias=False), neuron.IFNode(v_threshold=0.5)),
        ),
        (12,),
        _QUICK,
    ),
    "a current that decays at once": (
        lambda: nn.Sequential(layer.Linear(12, 20), neuron.CUBALIFNode(c_decay=0.0)),
        (12,),
        _QUICK,
    ),
    "biases": (
        lambda: nn.Sequential(
            *(layer.Linear(12, 20), neuron.CUBALIFNode(v_threshold=0.75)),
            *(layer.Linear(20, 8), neuron.CUBALIFNode(0.25, 0.5)),
        ),
        (12,),
        _GRAPH,
    ),
    "convolution, norm, pool": (
        lambda: nn.Sequential(
            *(layer.Conv2d(2, 4, 3, padding=1, bias=False), _shifted(4), neuron.CUBALIFNode(), layer.AvgPool2d(2)),
            *(layer.Flatten(), layer.Linear(16, 8, bias=False), neuron.CUBALIFNode()),
        ),
        (2, 4, 4),
        _QUICK,
    ),
    "recurrent": (
        lambda: nn.Sequential(
            layer.Linear(12, 20, bias=False), layer.LinearRecurrentContainer(neuron.CUBALIFNode(), 20, 20, bias=False)
        ),
        (12,),
        _CHAIN,
    ),
    "residual": (_residual, (12,), _GRAPH),
}


def _made(name: str) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """The exported network, an input, and the spikes of SpikingJelly."""
    make, shape, _ = NETWORKS[name]
    torch.manual_seed(2)
    net = make().eval()
    functional.set_step_mode(net, "m")
    x = (torch.rand(10, 2, *shape) < 0.5).float()
    model = sj2onnx.export(net, x, outputs="all")
    functional.reset_net(net)
    with torch.no_grad():
        spikes = net(x).numpy()
    assert 0.01 < spikes.mean() < 0.9
    return model, x.numpy(), spikes


@pytest.mark.parametrize("name", NETWORKS)
def test_real_numbers_give_the_spikes_of_spikingjelly(name: str) -> None:
    model, x, spikes = _made(name)
    network = onnx2lava.load(model)
    (last,) = network.outputs
    assert isinstance(network[last].neuron, onnx2lava.FloatNeuron)
    assert (simulate(network, {"input": x})[last] == spikes).all()
    written = onnx2lava.to_onnx(network)
    for native in (False, True):
        assert (custom_ops.session(written, native=native).run(["output"], {"input": x})[0] == spikes).all()
    again = onnx2lava.load(written)
    assert [(each.name, each.neuron) for each in again.populations] == [(each.name, each.neuron) for each in network.populations]
    report = onnx2lava.quantization_report(network, onnx2lava.quantize(network, calibration=x))
    assert [each.name for each in report.layers] == [each.name for each in network.populations]


def test_integers_give_one_set_of_spikes_in_every_runtime(tmp_path, lava_python) -> None:
    cases = []
    for index, (name, (_, _, against)) in enumerate(NETWORKS.items()):
        model, x, _ = _made(name)
        files = {"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy")}
        onnx.save(model, files["model"])
        np.save(files["input"], x)
        cases.append({**files, "kind": "spikes", "against": against})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    for name, found in zip(NETWORKS, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, name
        assert found["left_out"] == {}, name
        for each in found["layers"]:
            assert 0 < each["rate"] < 1 or each["name"].endswith("/always"), f"{name}: {each}"


def test_a_soft_reset_is_refused() -> None:
    net = nn.Sequential(layer.Linear(12, 20), neuron.CUBALIFNode(v_reset=None))
    functional.set_step_mode(net, "m")
    model = sj2onnx.export(net, torch.ones(2, 1, 12))
    with pytest.raises(onnx2lava.ConversionError, match="its reset is soft"):
        onnx2lava.load(model)
