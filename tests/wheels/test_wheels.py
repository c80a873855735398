"""The wheels as a user gets them: proven tags, what is in them, and what they do in bare environments.

`make wheels` runs this on the files in ``dist/`` (``SJ2LAVA_DIST`` names the folder); it has to install packages, so it needs a
package index or its cache.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST = ROOT / os.environ.get("SJ2LAVA_DIST", "dist")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
GLIBC = (2, 17)

USER = """
import numpy as np
import custom_ops
import onnx2lava

network: onnx2lava.Network[onnx2lava.CubaNeuron] = onnx2lava.quantize(onnx2lava.load("net.onnx"))
onnx2lava.save_netx(network, "net.net")
session = custom_ops.session("net.onnx", native="auto")
run = custom_ops.reference.cuba_lif(np.zeros((2, 1, 3), np.float32), i_decay=4096, v_decay=0, v_threshold=64)
version: str = custom_ops.__version__
try:
    onnx2lava.load("other.onnx")
except onnx2lava.ConversionError as error:
    print(str(error), version, run.s.shape, session.get_providers())
"""


def tool(*command: object, cwd: Path | None = None) -> str:
    """Run a tool of this environment and give what it says."""
    ran = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def wheel(processor: str) -> Path:
    (found,) = DIST.glob(f"sj2lava-*_{processor}.whl")
    return found


def everything() -> list[Path]:
    return sorted([*DIST.glob("sj2lava*.whl"), *DIST.glob("sj2lava*.tar.gz")])


def interpreter(version: str) -> Path | None:
    found = subprocess.run([ROOT / "env" / "find_python.sh", version], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_the_tag_is_old_enough_for_clusters_and_serves_every_python(processor: str) -> None:
    _, _, python, abi, platforms = wheel(processor).stem.split("-")
    assert (python, abi) == ("py3", "none")
    for platform in platforms.split("."):
        found = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{processor}|manylinux2014_{processor}", platform)
        assert found, platform
        assert found[1] is None or (int(found[1]), int(found[2])) <= GLIBC


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_the_library_asks_for_no_newer_symbols_and_shows_its_own_alone(processor: str, tmp_path: Path) -> None:
    from elftools.elf.elffile import ELFFile

    with zipfile.ZipFile(wheel(processor)) as archive:
        library = Path(archive.extract("custom_ops/libsnn_ops.so", tmp_path))
    with library.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_machine"] == {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}[processor]
        versions = {
            auxiliary.name for _, entries in elf.get_section_by_name(".gnu.version_r").iter_versions() for auxiliary in entries
        }
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        shown = {
            symbol.name
            for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
        }
    assert versions
    for version in versions:
        name, _, number = version.partition("_")
        assert name == "GLIBC", version
        assert tuple(int(part) for part in number.split("."))[:2] <= GLIBC, version
    assert not [name for name in needed if "stdc++" in name or "c++" in name]
    assert "RegisterCustomOps" in shown
    assert all(name == "RegisterCustomOps" or name.startswith("snn_") for name in shown)


def test_the_package_index_takes_them() -> None:
    tool("twine", "check", "--strict", *everything())
    # W004: the wheel's modules are found by their names, and custom_ops holds data that is no module.
    tool("check_wheel_contents", "--toplevel", "custom_ops,onnx2lava,sj2onnx", *DIST.glob("sj2lava-*.whl"))


def test_what_is_in_the_plain_wheel() -> None:
    with zipfile.ZipFile(wheel("x86_64")) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))))
    assert {f"{package}/py.typed" for package in ("custom_ops", "onnx2lava", "sj2onnx")} <= names
    assert [name for name in names if name.endswith(".so")] == ["custom_ops/libsnn_ops.so"]
    assert wheel("x86_64").stat().st_size < 2_000_000
    description = str(metadata.get_payload())
    relative = [target for target in re.findall(r"\]\(([^)]+)\)", description) if not re.match(r"https://|#", target)]
    assert relative == []
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] or metadata["Author-Email"]
    assert len(metadata.get_all("Project-URL") or []) >= 3


def test_the_gpu_library_comes_alone() -> None:
    wheels = list(DIST.glob("sj2lava_cuda-*.whl"))
    if not wheels:
        pytest.skip("no CUDA compiler (nvcc): install it to build sj2lava-cuda")
    with zipfile.ZipFile(wheels[0]) as archive:
        assert [each.filename for each in archive.infolist() if not each.is_dir() and ".dist-info/" not in each.filename] == [
            "custom_ops/libsnn_ops_cuda.so"
        ]


@pytest.fixture(scope="module", params=PYTHONS)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare environment of each Python, and the wheel with all it names installed into it."""
    python = interpreter(request.param)
    if python is None:
        message = f"no Python {request.param} on this machine"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    inside = folder / "env" / "bin" / "python"
    command = [inside, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel(os.uname().machine)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    yield inside
    shutil.rmtree(folder)


def test_a_bare_python_verifies_the_shipped_network(installed: Path, tmp_path: Path) -> None:
    for name in ("digits_csnn.onnx", "digits_csnn.npz"):
        shutil.copy(ROOT / "models" / name, tmp_path)
    command = [installed.with_name("onnx2lava"), "verify", "digits_csnn.onnx", "--trace", "digits_csnn.npz"]
    ran = subprocess.run(
        [*command, "--against", "ort,ort-native,numpy"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    native = "import custom_ops; custom_ops.session('digits_csnn.onnx', native=True); print(custom_ops.__version__)"
    ran = subprocess.run([installed, "-c", native], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in wheel("x86_64").name


def test_strict_types_for_users(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    # Not from this folder, where mypy would take the sources for the user's own.
    options = ("--strict", "--cache-dir", tmp_path / "cache", "--python-executable", installed)
    tool("mypy", *options, tmp_path / "user.py", cwd=tmp_path)
