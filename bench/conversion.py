"""What conversion costs: a million weights from ``.onnx`` to ``.net``, stage by stage, after imports; and SEW-ResNet-34 at its
full width by the command line, in a process of its own, with its imports.

Run ``python -m bench.conversion``.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from custom_ops.files.model_file import write_model
from onnx2lava import Conv, Dense, Edge, FloatNeuron, Input, Network, Population, load, quantize, save_netx, to_onnx
from onnx2lava.network import INPUT, Neuron

_RUNS = 5


@dataclass(frozen=True)
class Cost:
    """What a process took.

    Args:
        seconds: from its start to its end.
        cpu_seconds: of all its threads, which means something on a busy machine as well.
        peak_bytes: the most memory it held.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def network() -> Network[Neuron]:
    """A float network of a million weights, three quarters of them dense."""
    rng = np.random.default_rng(0)
    neuron = FloatNeuron(v_decay=0.5, v_threshold=1.0)
    maps: tuple[Conv | Dense, ...] = (
        Conv(_weights(rng, 64, 2, 3, 3), pads=(1, 1, 1, 1)),
        Conv(_weights(rng, 128, 64, 3, 3), (2, 2), (1, 1, 1, 1)),
        Conv(_weights(rng, 152, 128, 3, 3), (2, 2), (1, 1, 1, 1)),
        Dense(_weights(rng, 300, 2432)),
        Dense(_weights(rng, 65, 300)),
    )
    populations: list[Population[Neuron]] = []
    shape: tuple[int, ...] = (2, 16, 16)
    source = INPUT
    for index, each in enumerate(maps):
        bias = np.asarray(rng.normal(0, 0.1, each.weight.shape[0]), np.float32)
        shape = each.output_shape(shape)
        populations.append(Population(f"layer{index}", shape, neuron, (Edge(source, each),), bias))
        source = populations[-1].name
    return Network("bench", {INPUT: Input((2, 16, 16))}, tuple(populations), (source,))


def stages() -> dict[str, float]:
    """The median seconds of each stage, and of ``all``."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.net"
        write_model(to_onnx(network()), source)
        for _ in range(_RUNS):
            marks = [time.perf_counter()]
            loaded = load(source)
            marks.append(time.perf_counter())
            quantised = quantize(loaded)
            marks.append(time.perf_counter())
            save_netx(quantised, target)
            marks.append(time.perf_counter())
            for stage, start, end in zip(("load", "quantize", "save_netx"), marks[:-1], marks[1:], strict=True):
                times.setdefault(stage, []).append(end - start)
            times.setdefault("all", []).append(marks[-1] - marks[0])
    return {stage: statistics.median(seconds) for stage, seconds in times.items()}


def residual_network() -> Cost:
    """``onnx2lava convert`` of SpikingJelly's SEW-ResNet-34: 21.8 million weights, images of 224 x 224."""
    import torch

    import sj2onnx
    from models.spikingjelly_models import MODELS, lively, random_spikes

    torch.manual_seed(0)
    x = random_spikes(2, 1, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        sj2onnx.export(lively(MODELS["sew_resnet34, ADD"].make(), x), x, Path(folder) / "in.onnx")
        command = [sys.executable, "-m", "onnx2lava", "convert", "in.onnx", "-o", "loihi.onnx"]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss)


def main() -> None:
    """Print the median time of each stage, and what the residual network costs."""
    console = Console(highlight=False)
    console.print(f"{sum(each.weights().size for each in network().populations):,} weights, median of {_RUNS} runs")
    for stage, seconds in stages().items():
        console.print(f"{stage:10} {1000 * seconds:6.0f} ms")
    cost = residual_network()
    console.print(f"SEW-ResNet-34: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU time, {cost.peak_bytes / 1e9:.2f} GB")


def _weights(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return np.asarray(rng.normal(0, 1.2, shape) / np.sqrt(np.prod(shape[1:])), np.float32)


if __name__ == "__main__":
    main()
