"""A full disk, a kill, two writers, a read-only folder, Ctrl-C: the old file is whole or the new one is."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from custom_ops.files.atomic_write import replacing
from onnx2lava import load_netx

from .__main__ import MODEL, OUTPUTS, convert

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "onnx2lava", "convert", str(MODEL)]


def test_kills_at_random_moments() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--kills", "40"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "broken outputs: 0\ntemporary files left after one more conversion: 0\n" in ran.stdout


def run(folder: Path, prepare: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "-o", str(folder / OUTPUTS[0]), "--loihi-onnx", str(folder / OUTPUTS[1])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=prepare, check=False)


@pytest.mark.parametrize("room", [0, 1000, 30_000, 102_000])
def test_a_full_disk(tmp_path: Path, room: int) -> None:
    """The system lets the process write files of ``room`` bytes only; the .net file has 103,670, the .onnx file 22,088."""
    for name in OUTPUTS:
        (tmp_path / name).write_bytes(b"old")
    ran = run(tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("Error: Cannot write")
    assert len(ran.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(OUTPUTS, b"old")


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc/self/fdinfo")  # where not even root can create files
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    ran = run(folder)
    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: Cannot write")
    assert len(ran.stderr.splitlines()) == 1


def test_two_conversions_to_the_same_names(tmp_path: Path) -> None:
    for _ in range(10):
        processes = [convert(tmp_path) for _ in range(3)]
        for process in processes:
            assert os.waitpid(process, 0)[1] == 0
        assert {path.name for path in tmp_path.iterdir()} == set(OUTPUTS)
        load_netx(tmp_path / OUTPUTS[0])


def test_interrupt(tmp_path: Path) -> None:
    for name in OUTPUTS:
        (tmp_path / name).write_bytes(b"old")
    code = f"""
import os, signal, sys
from pathlib import Path
from onnx2lava import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes away from what it runs in the background
def interrupt(path, data):
    os.kill(os.getpid(), signal.SIGINT)
    with path.open("wb") as file:
        file.write(bytes(data)[:1000])
    raise AssertionError("not interrupted")
Path.write_bytes = interrupt
sys.argv = ["onnx2lava", "convert", {str(MODEL)!r}, "-o", {str(tmp_path / OUTPUTS[0])!r}]
cli.main()
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 130, ran.stderr
    assert "Traceback" not in ran.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(OUTPUTS, b"old")


def test_what_a_killed_writer_left_goes_with_the_next_write_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    target = tmp_path / "out.net"
    killed = os.fork()
    if killed == 0:
        with replacing(target):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    assert len(list(tmp_path.iterdir())) == 1
    hears, says = os.pipe()
    living = os.fork()
    if living == 0:
        with replacing(target) as temporary:
            os.write(says, os.fsencode(temporary.name))
            time.sleep(60)
    left = {tmp_path / os.fsdecode(os.read(hears, 1000))}
    with replacing(target) as temporary:
        temporary.write_bytes(b"new")
    assert set(tmp_path.iterdir()) == {target, *left}
    os.kill(living, signal.SIGKILL)
    os.waitpid(living, 0)
    with replacing(tmp_path / "other.net") as temporary:
        temporary.write_bytes(b"new")
    assert left < set(tmp_path.iterdir())
