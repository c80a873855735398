"""A whole network on a GPU against the CPU, and against slayer on that GPU.

``python -m bench.cuda_network [MODEL.onnx [SAMPLES]]``. Without a model it is the reference network, which SpikingJelly has to be
there to make; 1,024 samples are the default. slayer takes part where Lava-DL and a torch that sees the GPU are.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rich.console import Console

import custom_ops
from custom_ops.errors import RuntimeUnavailableError

from .timing import median_seconds
from .workloads import Array, network_input

STEPS, SAMPLES, RUNS = 32, 1024, 5
BATCH = 64
"""How many samples the CPU takes at a time."""


def main() -> int:
    """Print the table; exit code 1 where spikes differ, 2 where something is missing."""
    console = Console(highlight=False, soft_wrap=True)
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else SAMPLES
    if len(sys.argv) > 1:
        model = onnx.load(sys.argv[1])
        shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][2:]
        x = (np.random.default_rng(0).random((STEPS, samples, *shape)) < 0.3).astype(np.float32)
    else:
        try:
            from .here import reference_network
        except ImportError as error:
            console.print(f"No network: {error}. Give one: python -m bench.cuda_network models/digits_csnn.onnx")
            return 2
        model, x = reference_network()[1], np.tile(network_input(16), (1, -(-samples // 16), 1, 1, 1))[:, :samples]
    try:
        spikes, seconds = on_the_gpu(model, x)
    except RuntimeUnavailableError as error:
        console.print(f"No GPU took part: {error}")
        return 2
    expected = on_the_cpu(model, x)
    differ = int((spikes != expected).sum())
    console.print(f"{x.shape[1]:,} samples, {x.shape[0]} steps, {int(expected.sum()):,} spikes of the last layer")
    console.print(f"GPU    {1e3 * seconds:10.2f} ms, {differ} spikes differ from the CPU's")
    try:
        others, slow = on_slayer(model, x)
    except (ImportError, RuntimeUnavailableError) as error:
        console.print(f"slayer took no part: {error}")
        return int(differ > 0)
    unlike = int((others != expected).sum())
    console.print(
        f"slayer {1e3 * slow:10.2f} ms on the same GPU, ratio {slow / seconds:.1f}, {unlike} spikes differ from the CPU's"
    )
    return int(differ + unlike > 0)


def on_the_cpu(model: onnx.ModelProto, x: Array) -> Array:
    """The spikes of the last layer, ``[T, N, *]``, by the CPU's kernels."""
    session = custom_ops.session(model, native=True)
    batches = [session.run(None, {"input": x[:, first : first + BATCH]})[0] for first in range(0, x.shape[1], BATCH)]
    return np.concatenate(batches, axis=1)


def on_the_gpu(model: onnx.ModelProto, x: Array) -> tuple[Array, float]:
    """The same on the GPU, and the seconds of a run; with onnxruntime's CUDA provider input and output stay there meanwhile.

    Raises:
        RuntimeUnavailableError: there is no GPU, and why.
    """
    session = custom_ops.session(model, device="cuda")
    spikes = session.run(None, {"input": x})[0]
    call: Callable[[], Any] = lambda: session.run(None, {"input": x})  # noqa: E731
    if "CUDAExecutionProvider" in session.get_providers():
        binding = session.io_binding()
        binding.bind_ortvalue_input("input", onnxruntime.OrtValue.ortvalue_from_numpy(x, "cuda", 0))
        binding.bind_output(session.get_outputs()[0].name, "cuda")
        call = lambda: session.run_with_iobinding(binding)  # noqa: E731
    return np.asarray(spikes), median_seconds(call, RUNS)


def on_slayer(model: onnx.ModelProto, x: Array) -> tuple[Array, float]:
    """The same by slayer's blocks on the GPU.

    Raises:
        ImportError: there is no torch, or no Lava-DL.
        RuntimeUnavailableError: this torch sees no GPU.
    """
    import torch
    from lava.lib.dl.slayer import jitconfig

    import onnx2lava

    if not torch.cuda.is_available():
        raise RuntimeUnavailableError("this torch sees no GPU: install one that does.")
    # Lava-DL names sm_80 alone, of which a later GPU can run nothing.
    jitconfig.TORCH_CUDA_ARCH_LIST = "{}.{}".format(*torch.cuda.get_device_capability())
    modules = onnx2lava.to_slayer(onnx2lava.load(model)).to("cuda")
    given = torch.from_numpy(np.moveaxis(x, 0, -1).copy()).to("cuda")

    def run() -> Any:
        with torch.no_grad():
            spikes = modules(given)
        torch.cuda.synchronize()
        return spikes

    return np.moveaxis(run().cpu().numpy(), -1, 0), median_seconds(run, RUNS)


if __name__ == "__main__":
    sys.exit(main())
