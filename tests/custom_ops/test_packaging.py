"""What `pip install .` makes: a wheel for the platform with the library in it; without a compiler, one that says it has none."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_sources(tmp_path_factory.mktemp("source"))


def copy_sources(copy: Path) -> Path:
    """A copy of the sources: builds leave nothing in the checkout, and take nothing that was built there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


def build_wheel(source: Path, folder: Path, **environment: str) -> tuple[Path, str]:
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel, " ".join((ran.stdout + ran.stderr).split())


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_the_library_and_serves_every_python(source: Path, tmp_path: Path) -> None:
    # No CUDA here: that library takes a minute to compile, and its build is tested by itself.
    wheel, output = build_wheel(source, tmp_path, CMAKE_ARGS="-DSNN_CUDA=OFF")
    name, _, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("sj2lava", "py3", "none")
    assert platform != "any"
    assert "custom_ops/libsnn_ops.so" in contents(wheel)
    assert not [file for file in contents(wheel) if file.startswith("custom_ops/native/")]
    assert "installed with its native operator library" in output


def test_without_a_compiler_the_install_succeeds_and_says_so(source: Path, tmp_path: Path) -> None:
    wheel, output = build_wheel(source, tmp_path, CXX="/nonexistent/c++", CUDACXX="/nonexistent/nvcc")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "custom_ops/runtime.py" in contents(wheel)
    assert not [file for file in contents(wheel) if file.endswith(".so")]
    assert "no C++17 compiler was found" in output
    assert "install a compiler" in output
