"""From SpikingJelly to Lava: a network recorded on the training machine, verified on the deployment machine."""

import subprocess
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import sj2onnx
from custom_ops.files.trace import write_trace
from sj2onnx import BlockContainer, SumPool2d
from sj2onnx.record import record

ROOT = Path(__file__).parents[2]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        BlockContainer(nn.Conv2d(1, 6, 3, padding=1, bias=False), neuron.IFNode(v_threshold=0.5)),
        BlockContainer(SumPool2d(2, 2), neuron.IFNode(v_threshold=1.5)),
        BlockContainer(nn.Conv2d(6, 4, (1, 3), stride=(1, 2), groups=2, bias=False), neuron.LIFNode(tau=3.0, decay_input=False)),
        BlockContainer(nn.Flatten(), None),
        BlockContainer(nn.Linear(16, 9, bias=False), neuron.IFNode(v_threshold=0.25)),
        BlockContainer(nn.Linear(9, 5, bias=False), neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.1)),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 2
    return net


@pytest.mark.parametrize("outputs", ["last", "all"])
def test_every_spike_of_spikingjelly_arrives_in_lava(outputs, tmp_path, lava_python):
    net = network()
    x = (torch.rand(10, 3, 1, 8, 8) < 0.5).float()
    trace = record(net, x, labels=torch.tensor([0, 1, 2]))
    for spikes in trace.spikes.values():
        assert 0 < spikes.mean() < 1
    write_trace(trace, tmp_path / "trace.npz")
    sj2onnx.export(net, x, tmp_path / "net.onnx", outputs=outputs)
    command = ["verify", tmp_path / "net.onnx", "--trace", tmp_path / "trace.npz", "--against", "ort,numpy,slayer,netx"]
    result = subprocess.run([lava_python, "-m", "onnx2lava", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Every spike is the same" in result.stdout
    for layer in trace.spikes:
        assert layer in result.stdout
