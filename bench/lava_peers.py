"""The peers of Python 3.10, slayer and Lava's simulation: ``python -m bench.lava_peers NET.onnx INPUT_OUTPUT.npz OUT.json``.

``INPUT_OUTPUT.npz`` holds the input and the spikes that are expected, of the network and of one layer of neurons.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import onnx2lava

from .timing import THREADS, median_seconds
from .workloads import NEURON, TRAINING

_RUNS = 5


def main() -> int:
    """Measure, and write seconds and differing spikes as JSON."""
    import torch
    from lava.lib.dl import slayer

    model, arrays, target = sys.argv[1:]
    torch.set_num_threads(THREADS)
    data = np.load(arrays)
    network = onnx2lava.load(model)
    found: dict[str, float] = {}

    modules = onnx2lava.to_slayer(network)
    x = torch.from_numpy(np.moveaxis(data["input"], 0, -1).copy())
    with torch.no_grad():
        found["slayer network"] = median_seconds(lambda: modules(x), _RUNS)
        found["slayer network differs"] = int((np.moveaxis(modules(x).numpy(), -1, 0) != data["output"]).sum())

    scale = 64
    decays = {"current_decay": NEURON.i_decay / 4096, "voltage_decay": NEURON.v_decay / 4096}
    neuron = slayer.neuron.cuba.Neuron(threshold=NEURON.v_threshold / scale, scale=scale, **decays)
    sums = torch.from_numpy(np.moveaxis(data["sums"], 0, -1).copy()) / scale
    with torch.no_grad():
        found["slayer neuron"] = median_seconds(lambda: neuron(sums), _RUNS)
        found["slayer neuron differs"] = int((np.moveaxis(neuron(sums).numpy(), -1, 0) != data["spikes"]).sum())

    found["slayer training"] = _training_seconds(slayer)
    found["lava step and sample"], found["lava network differs"] = _lava(network, data["input"], data["output"])
    Path(target).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _training_seconds(slayer: Any) -> float:
    """A training step of the reference network in slayer's own blocks, forward and backward, as bench.training measures ours."""
    import torch

    torch.manual_seed(0)
    channels, size, samples = TRAINING["channels"], TRAINING["image_size"], TRAINING["samples"]
    neuron = {"threshold": 1.0, "current_decay": 1.0, "voltage_decay": 0.0}
    net = torch.nn.Sequential(
        slayer.block.cuba.Conv(neuron, 1, channels, 3, padding=1, weight_scale=3),
        slayer.block.cuba.Conv(neuron, channels, channels, 2, stride=2, weight_scale=3),
        slayer.block.cuba.Conv(neuron, channels, channels, 3, padding=1, weight_scale=3),
        slayer.block.cuba.Conv(neuron, channels, channels, 2, stride=2, weight_scale=3),
        slayer.block.cuba.Flatten(),
        slayer.block.cuba.Dense(neuron, channels * (size // 4) ** 2, 128, weight_scale=3),
        slayer.block.cuba.Dense(neuron, 128, 10, weight_scale=3),
    )
    x = (torch.rand(samples, 1, size, size, TRAINING["steps"]) < 0.3).float()
    labels = torch.randint(0, 10, (samples,))

    def step() -> None:
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(x).mean(-1), labels).backward()  # type: ignore[no-untyped-call]

    return median_seconds(step, _RUNS)


def _lava(network: onnx2lava.Network, x: np.ndarray, expected: np.ndarray) -> tuple[float, int]:  # type: ignore[type-arg]
    """Seconds for one step of one sample once Lava runs: what eight samples take longer than two, so that its start-up is out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        onnx2lava.save_netx(network, path)
        taken, differ = {}, 0
        for samples in (1, 2, 8):  # the first run imports half of Lava
            start = time.perf_counter()
            spikes = onnx2lava.run_netx(path, x[:, :samples])
            taken[samples] = time.perf_counter() - start
            differ += int((spikes != expected[:, :samples]).sum())
    return (taken[8] - taken[2]) / 6 / len(x), differ


if __name__ == "__main__":
    sys.exit(main())
