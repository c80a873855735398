"""Instructions of a neuron and time step on a GPU, counted in the library. ``python -m bench.cuda_instructions``.

Needs no GPU: NVIDIA's ``cuobjdump`` and ``nvdisasm``, which come with CUDA or as ``nvidia-cuda-cuobjdump`` and
``nvidia-cuda-nvdisasm`` from the package index, on the ``PATH``. What is counted is the loop that walks through time: each of its
passes loads and stores a group of steps, so that its length over its neuron-steps is what one of them takes.
"""

import re
import shutil
import subprocess
import sys

from rich.console import Console

import custom_ops
from custom_ops.errors import RuntimeUnavailableError

ARCHITECTURE = "sm_90"
KERNELS = {
    "CubaLIF": r"cuba_lif<false, float, 4>",
    "CubaLIF, an IF neuron": r"cuba_lif<true, float, 4>",
    "IF": r"float_neuron<\(snn::Charge\)0, false, 4>",
    "LIF, tau a power of two": r"float_neuron<\(snn::Charge\)1, false, 4>",
    "LIF": r"float_neuron<\(snn::Charge\)1, true, 4>",
}
NEURONS, STEPS = 4, 4
"""Of a thread of the four-wide kernels: neurons, and time steps in one pass of the loop."""


def main() -> int:
    """Print the table; exit code 2 where something is missing."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        library = custom_ops.get_library_path("cuda")
    except RuntimeUnavailableError as error:
        console.print(f"No instructions were counted: {error}")
        return 2
    missing = [tool for tool in ("cuobjdump", "nvdisasm", "c++filt") if shutil.which(tool) is None]
    if missing:
        console.print(f"No instructions were counted: no {' and no '.join(missing)} on the PATH.")
        return 2
    code = machine_code(library)
    for name, pattern in KERNELS.items():
        (body,) = (body for kernel, body in code.items() if re.search(pattern, kernel))
        console.print(f"{name:24} {loop_length(body) / (NEURONS * STEPS):5.1f} instructions for a neuron-step on {ARCHITECTURE}")
    return 0


def machine_code(library: str) -> dict[str, str]:
    """The disassembled code of each kernel, by its name in C++."""
    listing = subprocess.run(
        ["cuobjdump", "-sass", "-arch", ARCHITECTURE, library], check=True, capture_output=True, text=True
    ).stdout
    readable = subprocess.run(["c++filt"], input=listing, check=True, capture_output=True, text=True).stdout
    parts = re.split(r"Function : (.+)", readable)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def loop_length(body: str) -> int:
    """How many instructions the loop has that loads and stores a group of steps in each pass."""
    instructions = [(int(place, 16), text) for place, text in re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(.*?);", body)]
    lengths = []
    for end, text in instructions:
        jump = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if jump and int(jump[1], 16) < end:
            loop = [each for place, each in instructions if int(jump[1], 16) <= place <= end]
            if sum("LDG" in each for each in loop) == sum("STG" in each for each in loop) == STEPS:
                lengths.append(len(loop))
    (length,) = lengths
    return length


if __name__ == "__main__":
    sys.exit(main())
