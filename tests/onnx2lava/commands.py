"""Run the command ``onnx2lava`` as people do."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.warm import Warm

__all__ = ["ROOT", "run", "start"]

ROOT = Path(__file__).parents[2]


def start(*arguments, folder, environment=None, **options):
    command = [sys.executable, "-m", "onnx2lava", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, errors="replace", **options)


def run(*arguments, folder, code, environment=None):
    """What the command prints, on standard error where ``code`` is 2: then that is one sentence. It is forked where it can be."""
    if environment or "--jobs" in arguments or "lava" in str(arguments):
        process = start(*arguments, folder=folder, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        (out, err), came = process.communicate(), process.returncode
    else:
        ended = _warm().run(["-m", "onnx2lava", *map(str, arguments)], folder)
        out, err, came = ended.stdout, ended.stderr, ended.returncode
    assert came == code, err + out
    assert "Traceback" not in err
    assert "fault of sj2lava" not in err
    if code == 2:
        assert len(err.strip().splitlines()) == 1, err
        assert err.startswith("Error: ")
    return err if code == 2 else out


@cache
def _warm() -> Warm:
    imports = "onnx2lava.cli", "onnx2lava.outputs", "onnx2lava.quantization", "onnx2lava.targets"
    return Warm(Path(sys.executable), imports)
