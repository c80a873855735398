"""A recorded run holds what SpikingJelly did, and reads back the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from custom_ops.files.trace import read_trace, write_trace
from sj2onnx import BlockContainer, ExportError, record


def test_a_recorded_run_is_the_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        BlockContainer(nn.Linear(6, 8, bias=False), neuron.IFNode()), BlockContainer(nn.Linear(8, 3, bias=False), neuron.IFNode())
    )
    x = (torch.rand(9, 7, 6) < 0.7).float()
    trace = record(net, x, labels=[0, 1, 2, 0, 1, 2, 0], batch_size=3)
    write_trace(trace, tmp_path / "run.npz")
    back = read_trace(tmp_path / "run.npz")
    assert back.input.dtype == np.uint8
    assert np.array_equal(back.input, x.numpy())
    assert back.labels is not None
    assert back.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    functional.reset_net(net)
    first = net[0](x)
    assert 0 < first.mean() < 1
    assert np.array_equal(back.spikes["0"], first.detach().numpy())
    assert np.array_equal(back.spikes["1"], net[1](first).detach().numpy())
    assert net.training


def test_nothing_to_record() -> None:
    with pytest.raises(ExportError, match="no spikes to record"):
        record(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 1, 3))
