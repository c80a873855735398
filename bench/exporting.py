"""What exporting a network of 37 million weights costs, stage by stage, beyond the imports: CPU time and memory.

Run ``python -m bench.exporting``. The network is SpikingJelly's own for CIFAR-10 with 256 channels; the file is checked.
CPU time is printed beside wall time, since it means something on a busy machine as well.
"""

import resource
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import parametric_lif_net
from torch import nn

import sj2onnx

_SHAPE = (2, 2, 3, 32, 32)


@dataclass(frozen=True)
class _Mark:
    """Where the process stands as a stage begins: seconds, CPU seconds, and its largest memory so far in MB."""

    stage: str
    wall: float
    cpu: float
    peak: float

    @staticmethod
    def now(stage: str) -> "_Mark":
        return _Mark(stage, time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Export it once and print a row for each stage."""
    # Whatever an export imports is imported by now.
    sj2onnx.export(nn.Sequential(nn.Linear(3, 3), neuron.IFNode(step_mode="m")), torch.rand(3, 2, 3))
    imported = _Mark.now("")
    net = parametric_lif_net.CIFAR10Net(256, neuron.IFNode, surrogate_function=surrogate.ATan()).eval()
    functional.set_step_mode(net, "m")
    weights = sum(value.numel() * value.element_size() for value in net.state_dict().values()) / 2**20
    x = torch.rand(_SHAPE)
    marks: list[_Mark] = []
    with tempfile.TemporaryDirectory() as folder:
        sj2onnx.export(net, x, Path(folder) / "net.onnx", progress=lambda stage: marks.append(_Mark.now(stage)))
        marks.append(_Mark.now("all"))
    with torch.no_grad():
        functional.reset_net(net)
        before = _Mark.now("")
        net(x)
    forward = _Mark.now("").cpu - before.cpu
    table = Table("stage", title=f"Exporting {weights:.0f} MB of weights, checked", title_justify="left")
    for column in ("wall, s", "CPU, s", "largest memory beyond imports, MB"):
        table.add_column(column, justify="right")
    for one, following in pairwise(marks):
        peak = following.peak - imported.peak
        table.add_row(one.stage, f"{following.wall - one.wall:.2f}", f"{following.cpu - one.cpu:.2f}", f"{peak:.0f}")
    total = marks[-1].peak - imported.peak
    table.add_row("all", f"{marks[-1].wall - marks[0].wall:.2f}", f"{marks[-1].cpu - marks[0].cpu:.2f}", f"{total:.0f}")
    console = Console()
    console.print(table)
    console.print(
        f"A forward pass of the example takes {forward:.2f} s of CPU time; the memory is {total / weights:.1f} x the weights."
    )


if __name__ == "__main__":
    main()
