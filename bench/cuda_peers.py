"""On a GPU: ``CubaLIF`` against Lava-DL's own CUDA kernel, on the same input in one run. ``python -m bench.cuda_peers``.

Needs Lava-DL with a torch that sees the GPU. Lava-DL compiles its kernel when it first runs.
"""

import ctypes
import statistics
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

import custom_ops

STEPS, NEURONS, RUNS = 64, 1 << 20, 20


def main() -> int:
    """Print the table; exit code 1 where the spikes differ, 2 where something is missing."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        import torch
        from lava.lib.dl.slayer import jitconfig
        from lava.lib.dl.slayer.neuron import cuba
    except ImportError as error:
        console.print(f"Lava-DL's CUDA kernel took no part: {error}.")
        return 2
    if not torch.cuda.is_available():
        console.print("Lava-DL's CUDA kernel took no part: this torch sees no GPU.")
        return 2
    # Lava-DL names sm_80 alone, of which a later GPU can run nothing.
    jitconfig.TORCH_CUDA_ARCH_LIST = "{}.{}".format(*torch.cuda.get_device_capability())
    generator = torch.Generator("cuda").manual_seed(0)
    sums = torch.randint(-40, 60, (STEPS, 1, NEURONS), device="cuda", generator=generator).float()
    slayer = cuba.Neuron(threshold=1.0, current_decay=0.25, voltage_decay=0.03125, scale=64).to("cuda")
    slayer.threshold_eps = 1 / slayer.s_scale  # its kernel cuts the threshold to whole units, and fires at it
    x = (sums / 64).permute(1, 2, 0).contiguous()  # slayer's layout, its real-valued weight units

    def lava_dl() -> Any:
        with torch.no_grad():
            return slayer(x)

    library = ctypes.CDLL(custom_ops.get_library_path("cuda"))
    library.snn_cuda_cuba_lif.restype = ctypes.c_char_p
    spikes = torch.empty_like(sums)

    def ours() -> Any:
        tensors = [ctypes.c_void_p(sums.data_ptr()), None, None, None, ctypes.c_void_p(spikes.data_ptr()), None, None]
        sizes = [ctypes.c_size_t(STEPS), ctypes.c_size_t(NEURONS)]
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        message = library.snn_cuda_cuba_lif(*tensors, *sizes, 1024, 128, 64, stream)
        assert message is None, message
        return spikes

    times = {"Lava-DL's CUDA kernel": _timed(torch, lava_dl), "snn.CubaLIF": _timed(torch, ours)}
    for name, milliseconds in times.items():
        console.print(f"{name:24} {milliseconds:8.3f} ms for {STEPS} steps of {NEURONS:,} neurons")
    slow, fast = times.values()
    console.print(f"ratio {slow / fast:.1f}")
    differ = int((lava_dl().permute(2, 0, 1) != ours()).sum())
    console.print(f"{differ} spikes differ")
    return int(differ > 0)


def _timed(torch: Any, call: Callable[[], Any]) -> float:
    """Median milliseconds of one call, by events."""
    for _ in range(3):
        call()
    times: list[float] = []
    for _ in range(RUNS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
