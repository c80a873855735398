"""What a training step costs: networks and neurons by turns in one process, so that what slows the machine slows all of them.

``python -m bench.training cuda`` prints it for a GPU, `make bench` with all the rest for the CPU.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from spikingjelly.activation_based import functional, lava_exchange, neuron, surrogate
from torch import nn

import sj2onnx
from models.mnist_csnn import FloatMNISTNet, MNISTNet

from .timing import THREADS
from .workloads import TRAINING

__all__ = ["network_steps", "neuron_steps"]

_BLOCKS, _SPIKINGJELLY = "ours, BlockContainers", "SpikingJelly, IFNode"
_LAST = "memory with the channels last"
_RUNS = 21


def network_steps(device: str = "cpu") -> dict[str, float]:
    """Seconds of a training step, forward and backward, of the reference network on a device; the median."""
    torch.manual_seed(0)
    channels, size, samples = TRAINING["channels"], TRAINING["image_size"], TRAINING["samples"]
    x = (torch.rand(TRAINING["steps"], samples, 1, size, size) < 0.3).float()
    labels = torch.randint(0, 10, (samples,))
    normed = MNISTNet(channels, size)
    for block in normed.conv_fc:
        assert isinstance(block, sj2onnx.BlockContainer)
        if isinstance(block.synapse, nn.Conv2d):
            norm = lava_exchange.BatchNorm2d(block.synapse.out_channels)
            options = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "step_mode": "m"}
            block.neuron = sj2onnx.CubaLIFNode(1.0, 0.0, norm=norm, **options)

    def step(net: nn.Module, x: torch.Tensor) -> Callable[[], None]:
        def run() -> None:
            functional.reset_net(net)
            net.zero_grad()
            F.cross_entropy(net(x).mean(0), labels).backward()  # type: ignore[no-untyped-call]

        return run

    nets = {
        _SPIKINGJELLY: FloatMNISTNet(channels, size),
        f"{_SPIKINGJELLY}, {_LAST}": FloatMNISTNet(channels, size).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        _BLOCKS: MNISTNet(channels, size),
        f"{_BLOCKS}, memory with the channels first": MNISTNet(channels, size).to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        "ours, with the quantised norm": normed,
    }
    x, labels = x.to(device), labels.to(device)
    return _by_turns({name: step(net.to(device), x) for name, net in nets.items()})


def neuron_steps(device: str = "cpu") -> dict[str, float]:
    """Likewise of one layer of neurons, the first of that network."""
    torch.manual_seed(0)
    shape = TRAINING["steps"], TRAINING["samples"], TRAINING["channels"], TRAINING["image_size"], TRAINING["image_size"]
    x, gradient = torch.randn(shape, device=device, requires_grad=True), torch.randn(shape, device=device)

    def step(node: nn.Module) -> Callable[[], None]:
        def run() -> None:
            functional.reset_net(node)
            x.grad = None
            node(x).backward(gradient)

        return run

    def options(detach_reset: bool) -> dict[str, Any]:
        return {"surrogate_function": surrogate.ATan(), "detach_reset": detach_reset, "step_mode": "m"}

    return _by_turns(
        {
            name: step(node.to(device))
            for name, node in {
                _SPIKINGJELLY: neuron.IFNode(**options(True)),
                "ours, CubaLIFNode": sj2onnx.CubaLIFNode(1.0, 0.0, **options(True)),
                "ours, CubaLIFNode, gradient through the reset": sj2onnx.CubaLIFNode(1.0, 0.0, **options(False)),
                "ours, CubaLIFNode that leaks": sj2onnx.CubaLIFNode(0.5, 0.1, **options(True)),
            }.items()
        }
    )


def _by_turns(calls: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_RUNS + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 2:  # the first two only warm up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> int:
    """Print both tables; exit code 2 where torch sees no such device."""
    (device,) = sys.argv[1:] or ("cpu",)
    console = Console(highlight=False, soft_wrap=True)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        console.print(f"Training took no part: {str(error).splitlines()[0]}", markup=False)
        return 2
    for what, times in (("reference network", network_steps(device)), ("one layer of neurons", neuron_steps(device))):
        console.print(f"A training step on {device}, {what}:")
        plain = times[_SPIKINGJELLY]
        for name, seconds in times.items():
            console.print(f"  {name:60} {1e3 * seconds:9.2f} ms {seconds / plain:6.2f}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
