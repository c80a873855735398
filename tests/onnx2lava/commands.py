"""Run the command ``onnx2lava`` as people do."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "run", "start"]

ROOT = Path(__file__).parents[2]


def start(*arguments, folder, environment=None, **options):
    command = [sys.executable, "-m", "onnx2lava", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, errors="replace", **options)


def run(*arguments, folder, code, environment=None, stdout=subprocess.PIPE):
    process = start(*arguments, folder=folder, environment=environment, stdout=stdout, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert process.returncode == code, err + (out or "")
    assert "Traceback" not in err
    assert "fault of sj2lava" not in err
    if code == 2:
        assert len(err.strip().splitlines()) == 1, err
        assert err.startswith("Error: ")
    return err if code == 2 else out
