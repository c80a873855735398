"""The library for AArch64, with its NEON kernels, run in QEMU's user mode: the spikes are those of this processor's kernels."""

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import custom_ops

from .corners import block_corners, corners
from .emulated import ROOT, block_cases, opened
from .mutants import drawn
from .one_node import cuba_lif_cases, float_cases, recurrent_cases
from .test_native import ATTRIBUTES, simple_case

AARCH64, WHEELS = (ROOT / name / "bin" for name in (".venv-aarch64", ".venv-wheels"))
NATIVE = ROOT / "custom_ops" / "native"
DRAWN = 25
"""How many cases there are of each property test."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    missing = [folder.parent.name for folder in (AARCH64, WHEELS) if not (folder / "python").exists()]
    if missing:
        message = f"no {' and no '.join(missing)}: `make {' '.join(f'{name}/ready' for name in missing)}` needs Debian's apt-get"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def ran(*command: object, **more: object) -> str:
    """What a program says; fails where it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    said: str = done.stdout
    return said


@pytest.fixture(scope="module")
def installed(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel for AArch64 in it, as it is published."""
    folder = tmp_path_factory.mktemp("wheel")
    ran(WHEELS / "python", ROOT / "env" / "make_wheels.py", "--only", "aarch64", "-o", folder / "dist")
    (wheel,) = (folder / "dist").glob("*_aarch64.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def models() -> list[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """The corners, cases of each property test, and layers that fill no vector or several tiles."""
    sizes = [simple_case(op_type, (9, 2, size)) for op_type in ATTRIBUTES for size in (3, 65, 515)]
    kinds = (cuba_lif_cases(), float_cases(), recurrent_cases())
    cases = [*corners().values(), *sizes, *(case for kind in kinds for case in drawn(kind, DRAWN))]
    blocks = [*block_corners().values(), *drawn(block_cases(), 2 * DRAWN)]
    return [*((case.model(function=False), case.inputs) for case in cases), *blocks]


def test_operators_give_the_same_on_either_processor(installed: Path, tmp_path: Path) -> None:
    cases = models()
    for number, (model, inputs) in enumerate(cases):
        outputs = opened(model, custom_ops.get_library_path()).run(None, inputs)
        onnx.save(model, tmp_path / f"{number}.onnx")
        np.savez(
            tmp_path / f"{number}.npz",
            **{f"in/{name}": value for name, value in inputs.items()},
            **{f"out/{index}": value for index, value in enumerate(outputs)},
        )
    library = installed / "custom_ops" / "libsnn_ops.so"
    said = ran(AARCH64 / "python", Path(__file__).with_name("on_aarch64.py"), library, tmp_path)
    assert said.splitlines() == [f"{isa} {len(cases)} 0" for isa in ("neon", "plain")]


def test_the_check_program_finds_no_difference(environment: None, tmp_path: Path) -> None:
    """Random layers against an oracle in C++: the same program that runs under the sanitizers on this processor."""
    kernels = [NATIVE / "kernels" / f"{name}.cpp" for name in ("isa", "isa_plain", "isa_neon")]
    sources = [
        NATIVE / "check" / "check.cpp",
        *kernels,
        *(NATIVE / f"{name}.cpp" for name in ("layer", "block", "recurrent", "training")),
    ]
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-I", NATIVE]
    zig = os.environ | {"ZIG_PYTHON": str(WHEELS / "python"), "ZIG_TARGET": "aarch64-linux-gnu.2.17"}
    ran(ROOT / "env" / "zig-c++", *flags, *sources, "-o", tmp_path / "check", env=zig)
    said = ran(AARCH64 / "run", tmp_path / "check", "6")
    assert said.endswith(": no difference\n")
    assert "neon" in said
    assert int(said.split()[0]) > 5


def test_the_wheel_verifies_the_shipped_network(installed: Path) -> None:
    models = ROOT / "models"
    verify = ["-m", "onnx2lava", "verify", "digits_csnn.onnx", "--trace", "digits_csnn.npz", "--samples", "0:8"]
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    said = ran(AARCH64 / "python", *verify, "--against", "ort,ort-native", cwd=models, env=environment)
    assert "Every spike is the same" in said
