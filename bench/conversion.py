"""How long one million weights take from ``.onnx`` to ``.net``, stage by stage, after imports.

Run ``python -m bench.conversion``.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from custom_ops.model_file import write_model
from onnx2lava import Conv, Dense, Edge, FloatNeuron, Input, Network, Population, load, quantize, save_netx, to_onnx
from onnx2lava.network import INPUT, Neuron

WEIGHTS = 1_000_000
_RUNS = 5


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
    given = network()
    model = to_onnx(quantize(given))
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.net"
        write_model(model, source)
        for _ in range(_RUNS):
            marks = [time.perf_counter()]
            load(source)
            marks.append(time.perf_counter())
            quantised = quantize(given)
            marks.append(time.perf_counter())
            save_netx(quantised, target)
            marks.append(time.perf_counter())
            for stage, start, end in zip(("load", "quantize", "save_netx"), marks[:-1], marks[1:], strict=True):
                times.setdefault(stage, []).append(end - start)
            times.setdefault("all", []).append(marks[-1] - marks[0])
    return {stage: statistics.median(seconds) for stage, seconds in times.items()}


def main() -> None:
    """Print the median time of each stage."""
    console = Console(highlight=False)
    console.print(f"{sum(each.weights().size for each in network().populations):,} weights, median of {_RUNS} runs")
    for stage, seconds in stages().items():
        console.print(f"{stage:10} {1000 * seconds:6.0f} ms")


def _weights(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return np.asarray(rng.normal(0, 1.2, shape) / np.sqrt(np.prod(shape[1:])), np.float32)


if __name__ == "__main__":
    main()
