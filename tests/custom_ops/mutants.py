"""Faults planted in the GPU's kernels: do the cases of the emulated tests notice them? ``python -m tests.custom_ops.mutants``.

All faults are built into one library, in which the environment chooses one; without a choice it is as it was. Each then meets
the same cases in a process of its own, those of its own kernel first: a wrong result, an abort of the emulated GPU and a hang all
count as noticed.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import custom_ops

from .corners import block_corners, corners
from .emulated import EMULATION, KERNELS, ROOT, block_cases, build, check_unaligned, opened
from .one_node import Case, cuba_lif_cases, float_cases, recurrent_cases
from .test_native import simple_case

SECONDS = 100
"""What takes longer hangs, on a busy machine, too."""
DRAWN = {"neurons": 60, "blocks": 200, "recurrent layers": 60}
"""How many cases there are of each property test."""


@dataclass(frozen=True)
class Mutant:
    """One fault: in ``file``, the expression ``right``, which stands there once, becomes ``wrong``."""

    kind: str
    file: str
    right: str
    wrong: str


_WHOLE = "fabsf(x) < 2147483648.0f ? __float2int_rn(x) : INT32_MIN"
_RESET = "fired ? 0 : max(charged, 1 - (1 << 23))"
_FOUR = "neurons % 4 || !aligned(x) || !aligned(s)"
_BYTE = "value >= 0.0f && value <= 127.0f ? __float2int_rz(value) : 128"
_BLOCKS = "neurons / width + (neurons % width != 0) + threads_in_block - 1"

MUTANTS = [
    Mutant("rounding down", "neuron.cuh", "state < 0 ? 0u - bits : bits", "bits"),
    Mutant("rounding away from zero", "neuron.cuh", "state < 0 ? 0u - kept : kept", "state < 0 ? ~kept : kept"),
    Mutant("a decay of nothing", "neuron.cuh", "magnitude * (keeps >> 12)", "magnitude * (keeps >> 13)"),
    Mutant("rounding of ties", "neuron.cuh", _WHOLE, _WHOLE.replace("rn(x)", "rz(x + 0.5f)")),
    Mutant("not a number, or too large", "neuron.cuh", _WHOLE, "__float2int_rn(x)"),
    Mutant("rounding of a bias", "neuron.cuh", "fabsf(x) < 2147483648.0f ? __float2int_rz(x) : INT32_MIN", "__float2int_rn(x)"),
    Mutant("wrap at the upper edge", "neuron.cuh", "u > 1 << 23", "u >= 1 << 23"),
    Mutant("wrap at the lower edge", "neuron.cuh", "u <= -(1 << 23)", "u < -(1 << 23)"),
    Mutant("clip", "neuron.cuh", _RESET, "fired ? 0 : max(charged, -(1 << 23))"),
    Mutant("hard reset of integers", "neuron.cuh", _RESET, "max(charged, 1 - (1 << 23))"),
    Mutant("threshold", "neuron.cuh", "charged > parameters.threshold", "charged >= parameters.threshold"),
    Mutant("index along the bias's inner axis", "bias.cuh", "neuron % inner * inner_step", "neuron % inner"),
    Mutant("index along the bias's outer axes", "bias.cuh", "outer % sizes[axis] * steps[axis]", "outer % sizes[axis]"),
    Mutant("alignment of the input", "neurons.cu", _FOUR, "neurons % 4 || !aligned(s)"),
    Mutant("alignment of the spikes", "neurons.cu", _FOUR, "neurons % 4 || !aligned(x)"),
    Mutant("alignment of rows", "neurons.cu", _FOUR, "neurons % 2 || !aligned(x) || !aligned(s)"),
    Mutant("tail of neurons", "neurons.cu", _BLOCKS, "neurons / width + (neurons % width != 0)"),
    Mutant("tail of steps, many", "neurons.cu", "left >= 2 * ahead", "left > 2 * ahead"),
    Mutant("tail of steps, few", "neurons.cu", "left >= ahead", "left > ahead"),
    Mutant("index of a state", "neurons.cu", "initial_v ? initial_v[first + lane] : 0", "initial_v ? initial_v[first] : 0"),
    Mutant(
        "first voltage",
        "neurons.cu",
        "initial_v ? initial_v[first + lane] : p.v_reset",
        "initial_v ? initial_v[first] : p.v_reset",
    ),
    Mutant("index of a final state", "neurons.cu", "final_v[first + lane] = cuba[lane].v", "final_v[first + lane] = cuba[0].v"),
    Mutant("soft reset", "neurons.cu", "h - spike * p.v_threshold", "h - spike * h"),
    Mutant("hard reset of floats", "neurons.cu", "spike * p.v_reset + (1.0f - spike) * h", "(1.0f - spike) * h"),
    Mutant("firing", "neurons.cu", "h >= p.v_threshold", "h > p.v_threshold"),
    Mutant(
        "order of sums",
        "neurons.cu",
        "v[lane] - leaked(v[lane] - p.v_reset) + value",
        "v[lane] - (leaked(v[lane] - p.v_reset) - value)",
    ),
    Mutant("firing without a number", "neurons.cu", "h >= p.v_threshold", "!(h < p.v_threshold)"),
    Mutant("division", "neurons.cu", "y / p.leak", "y * (1.0f / p.leak)"),
    Mutant("block: padding beside", "block.cu", "x - layer.padding[1] >= layer.width", "x - layer.padding[1] > layer.width"),
    Mutant("block: padding of floats", "block.cu", "row < layer.height && column < layer.width", "row < layer.height"),
    Mutant(
        "block: stride",
        "block.cu",
        "place.column * layer.stride[1] + run * layer.dilation[1]",
        "place.column + run * layer.dilation[1]",
    ),
    Mutant(
        "block: weights behind the last",
        "block.cu",
        "group + k < layer.run_groups ? __ldg(weights + (group + k) * block_lanes) : 0",
        "__ldg(weights + (group + k) * block_lanes)",
    ),
    Mutant("block: alignment of bytes", "block.cu", "static_cast<unsigned>(offset % 4) * 8", "0u"),
    Mutant("block: tail of steps", "block.cu", "count >= together", "count + 1 >= together"),
    Mutant("block: an input below zero", "block.cu", _BYTE, "value <= 127.0f ? __float2int_rz(value) : 128"),
    Mutant("block: an input between", "block.cu", "static_cast<float>(whole_value) != value", "value < 0.0f"),
    Mutant("block: halves of weights", "block.cu", "shifted<7>(sums[k])", "shifted<6>(sums[k])"),
    Mutant("block: rounding of sums", "block.cu", "whole(static_cast<float>(sum))", "static_cast<std::int32_t>(sum)"),
    Mutant("block: outputs behind the last", "block.cu", "k < outputs", "k <= outputs"),
    Mutant("dense block: channels", "block.cu", "(at * blocks + block) * layer.steps + t", "(at + block) * layer.steps + t"),
    Mutant(
        "recurrent: who fired before", "recurrent.cu", "layer.initial_s[sample + f] != 0.0f", "layer.initial_s[sample + f] > 0.0f"
    ),
    Mutant(
        "recurrent: whose row",
        "recurrent.cu",
        "static_cast<std::size_t>(fired[k]) * features + f",
        "static_cast<std::size_t>(f) * features + fired[k]",
    ),
    Mutant("recurrent: the list of another step", "recurrent.cu", "lists + t % 2 * features", "lists + (t + 1) % 2 * features"),
    Mutant("recurrent: a count that stays", "recurrent.cu", "first == 0", "first == layer.samples + 9999"),
]


def planted(folder: Path) -> list[Path]:
    """The kernels' sources with all faults in them, each behind a question whether it is wanted."""
    numbered = sorted(enumerate(MUTANTS, 1), key=lambda each: (each[1].file, each[1].right))
    for path in [*KERNELS, *KERNELS[0].parent.glob("*.cuh")]:
        text = path.read_text()
        mine = [each for each in numbered if each[1].file == path.name]
        expressions = []
        for right, group in groupby(mine, key=lambda each: each[1].right):
            assert text.count(right) == 1, f"{path.name} has {text.count(right)} of {right!r}"
            text = text.replace(right, f"@{len(expressions)}@")
            wrong = "".join(f"emulated::mutant == {number} ? ({each.wrong}) : " for number, each in group)
            expressions.append(f"({wrong}({right}))")
        text = re.sub(r"@(\d+)@", lambda found, expressions=expressions: expressions[int(found[1])], text)
        (folder / path.name).write_text(text)
    return [folder / path.name for path in KERNELS]


def mutated_library(folder: Path) -> Path:
    """The emulated library with all faults in its kernels."""
    host = build("snn_ops_emulated_host") / "libsnn_ops_emulated_host.a"
    (folder / "cuda").mkdir()
    native = ROOT / "custom_ops" / "native"
    sources = []
    for kernel in planted(folder / "cuda"):
        sources.append(kernel.with_suffix(".cpp"))
        rewrite = ["-m", "cmake", f"-DFROM={kernel}", f"-DTO={sources[-1]}", "-P", EMULATION / "rewrite_launches.cmake"]
        subprocess.run([sys.executable, *map(str, rewrite)], check=True)
    flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-fvisibility=hidden",
        "-shared",
        "-ffp-contract=off",
        "-w",
        '-DSNN_CUDA_ARCHITECTURES=""',
    ]
    folders = [f"-I{each}" for each in (EMULATION, folder, native)]  # faulty headers before the right ones
    link = ["-Wl,--whole-archive", host, "-Wl,--no-whole-archive", "-o", folder / "libmutants.so"]
    subprocess.run(list(map(str, [os.environ.get("CXX", "c++"), *flags, *folders, *sources, *link])), check=True)
    return folder / "libmutants.so"


Check = Callable[[Path], None]
"""Runs one case with a library; raises where a result is wrong."""


def cases() -> dict[str, list[Check]]:
    """What every fault has to meet, by the file of the kernels that run it."""
    large = [simple_case("CubaLIF", (steps, *neurons)) for steps in (3, 4, 8, 16) for neurons in ((1, 600), (3, 257))]
    blocks = [*block_corners().values(), *drawn(block_cases(), DRAWN["blocks"])]
    return {
        "neurons.cu": [
            check_unaligned,
            *(partial(_check, case) for case in [*corners().values(), *large]),
            *(partial(_check, case) for kind in (float_cases(), cuba_lif_cases()) for case in drawn(kind, DRAWN["neurons"])),
        ],
        "block.cu": [
            partial(_check_block, *block, opened(block[0], custom_ops.get_library_path()).run(None, block[1])) for block in blocks
        ],
        "recurrent.cu": [partial(_check, case) for case in drawn(recurrent_cases(), DRAWN["recurrent layers"])],
    }


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """The same cases every time."""
    found: list[Any] = []
    once = settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    seed(7)(once(given(strategy)(lambda case: found.append(case))))()
    return found


def _check(case: Case, library: Path) -> None:
    session = opened(case.model(function=False), library, copies=True)
    for processors in ("0", "1000000"):  # four-wide kernels, then one-wide ones
        os.environ["EMULATED_PROCESSORS"] = processors
        case.check(session)


def _check_block(model: Any, inputs: dict[str, np.ndarray], expected: list[Any], library: Path) -> None:
    for value, right in zip(opened(model, library, copies=True).run(None, inputs), expected, strict=True):
        np.testing.assert_array_equal(value, right)


def notices(library: Path, mutant: int, checks: dict[str, list[Check]]) -> bool:
    """Whether the cases notice this fault; 0 is none. The library is loaded in a process that ends with this."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            import signal

            signal.alarm(SECONDS)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1), os.dup2(null, 2)
            os.environ["EMULATED_MUTANT"] = str(mutant)
            file = MUTANTS[mutant - 1].file if mutant else ""
            for kernel in sorted(checks, key=lambda kernel: kernel != file):
                for check in checks[kernel]:
                    # Of the copying kernels each access is known to be right or wrong; the others work in anybody's memory.
                    os.environ["EMULATED_BOUNDS"] = str(int(check is not check_unaligned))
                    check(library)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] != 0


def survivors(library: Path) -> list[Mutant]:
    """The faults that nothing noticed."""
    checks = cases()
    assert not notices(library, 0, checks), "the cases fail without a fault"
    return [mutant for number, mutant in enumerate(MUTANTS, 1) if not notices(library, number, checks)]


def main() -> int:
    """Exit code 1 where more than one fault in ten was not noticed."""
    with tempfile.TemporaryDirectory() as folder:
        left = survivors(mutated_library(Path(folder)))
    for mutant in left:
        print(f"not noticed: {mutant.kind} ({mutant.file}: {mutant.wrong})")
    print(f"{len(MUTANTS) - len(left)} of {len(MUTANTS)} faults noticed")
    return 10 * len(left) > len(MUTANTS)


if __name__ == "__main__":
    sys.exit(main())
