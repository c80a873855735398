"""Wheels of this checkout, as `pip wheel` builds them."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
    """The wheel, and all that the build said, in one line."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel, " ".join((ran.stdout + ran.stderr).split())


def usual_wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The wheel with the native library, compiled once for all processes of a test run; and what the build said.

    Without the CUDA library, which takes a minute to compile, and whose build is tested by itself.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "usual-wheel"
    shared.mkdir(exist_ok=True)
    said = shared / "said"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            source = copy_sources(tmp_path_factory.mktemp("sources"))
            said.write_text(build_wheel(source, shared, CMAKE_ARGS="-DSNN_CUDA=OFF")[1], encoding="utf-8")
    (wheel,) = shared.glob("*.whl")
    return wheel, said.read_text(encoding="utf-8")
