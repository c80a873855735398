"""Ctrl-C and SIGTERM at any moment of a run end all threads or processes of Lava and leave nothing in shared memory."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ..conftest import ROOT

RUN = """
import sys
from onnx2lava.targets.lava import run_lava
from onnx2lava.targets.netx import run_netx, save_netx
from onnx2lava.network import INPUT
from tests.onnx2lava.networks import chains, spikes

network = chains()["recurrent"]
x = spikes(network, 20, 5000)
if sys.argv[1] == "netx":
    save_netx(network, sys.argv[2])
def processes():
    from lava.magma.core.run_configs import Loihi2SimCfg
    return Loihi2SimCfg(select_tag="fixed_pt")

options = {
    "progress": lambda done, samples: print(done, flush=True),
    "run_config": processes if sys.argv[3] == "processes" else None,  # a configuration of the user's: Lava's own runtime
}
print("ready", flush=True)
run_netx(sys.argv[2], x[INPUT], **options) if sys.argv[1] == "netx" else run_lava(network, x, **options)
"""


def _session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue  # gone since
            if int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def _shared_memory(processes: list[int]) -> set[Path]:
    """The files of shared memory that they have mapped."""
    found = set()
    for process in processes:
        try:
            maps = Path(f"/proc/{process}/maps").read_text()
        except OSError:
            continue
        found |= {Path(name) for name in re.findall(r"/dev/shm/\S+", maps)}
    return found


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@pytest.fixture
def short():
    """An empty folder whose path is short enough for Lava's sockets, as that of pytest is not."""
    with tempfile.TemporaryDirectory(prefix="lava") as folder:
        yield Path(folder)


def test_a_folder_of_temporary_files_that_is_too_deep(tmp_path):
    (deep := tmp_path / ("d" * 60)).mkdir()
    command = [sys.executable, "-c", RUN, "lava", "", "processes"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(deep)}, capture_output=True, text=True)
    assert "set TMPDIR to a shorter one" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("runtime", "means", "number", "group", "starting"),
    [
        ("lava", "threads", signal.SIGINT, True, False),
        ("netx", "threads", signal.SIGTERM, True, False),
        ("lava", "processes", signal.SIGTERM, False, False),
        ("lava", "processes", signal.SIGTERM, True, True),
        ("netx", "processes", signal.SIGINT, True, True),
        ("netx", "processes", signal.SIGTERM, True, False),
    ],
)
def test_nothing_is_left(runtime, means, number, group, starting, tmp_path, short):
    temporary = short
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, runtime, str(tmp_path / "a.net"), means],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        if starting:
            _wait(lambda: len(_session(process.pid)) > 3)
        else:
            assert process.stdout.readline(), process.communicate()[1]
            processes = _session(process.pid)
            shared = _shared_memory(processes)
            assert (len(processes) > 8) == bool(shared) == (means == "processes")
            assert list(temporary.iterdir())
        (os.killpg if group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=60)
        _wait(lambda: not _session(process.pid), 5)
    finally:
        for each in _session(process.pid):
            os.kill(each, signal.SIGKILL)
        process.wait()
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert errors.count("Traceback") == (number == signal.SIGINT)  # Python's own, of the main process
    assert not list(temporary.iterdir())
    if not starting:
        assert not [name for name in shared if name.exists()]
