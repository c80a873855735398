"""Small files that ask for very much end in a network or in one sentence, within 1 GiB and 30 seconds."""

import os
import resource
import signal
import tempfile
from pathlib import Path

import pytest

from .attempt import Case, attempt
from .hostile import HOSTILE

_MEBIBYTES, _SECONDS = 1024, 30
_LIMIT = 2**34  # so that what is too much is seen, and not only refused by the system


def _in_a_process_of_its_own(case: Case, folder: Path) -> tuple[str, float, float]:
    """What came of it, processor seconds, and MiB beyond the start."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + _LIMIT, size + _LIMIT))
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            before = resource.getrusage(resource.RUSAGE_SELF)
            came = attempt(case, folder, show=True)
            after = resource.getrusage(resource.RUSAGE_SELF)
            cost = f"{after.ru_utime - before.ru_utime} {(after.ru_maxrss - before.ru_maxrss) / 1024}"
            os.write(writing, f"{cost} {came}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) or not said:
        return (
            f"BUG: killed by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "BUG: died",
            _SECONDS,
            0.0,
        )
    seconds, mebibytes, came = said.split(" ", 2)
    return came, float(seconds), float(mebibytes)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_asks_for_much(name: str) -> None:
    data = HOSTILE[name]()
    suffix = ".net" if data.startswith(b"\x89HDF") else ".onnx"
    with tempfile.TemporaryDirectory() as folder:
        came, seconds, mebibytes = _in_a_process_of_its_own(Case("convert", suffix, data), Path(folder))
    assert not came.startswith("BUG"), came
    assert seconds < _SECONDS
    assert mebibytes < _MEBIBYTES
