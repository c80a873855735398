"""The pages' blocks, and how they run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm import Warm

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|bash)( lava| \w+\.py)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    return [(kind, where.strip(), text) for kind, where, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


def run(command: list[str | Path], folder: Path, bin_folder: Path) -> None:
    path = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    finished = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"


def run_in(python: Warm, arguments: list[str], folder: Path) -> None:
    finished = python.run(arguments, folder)
    assert finished.returncode == 0, f"python {' '.join(arguments)}\n{finished.stdout}\n{finished.stderr}"


def as_python(line: str) -> list[str] | None:
    """The arguments of Python that do the same as a command of ours, or of Python itself; None for any other."""
    if re.search(r"[|<>&;$*]", re.sub(r'"[^"]*"', "", line)):
        return None
    program, *rest = shlex.split(line)
    return {"python": rest, "onnx2lava": ["-m", "onnx2lava", *rest], "sj2onnx": ["-m", "sj2onnx", *rest]}.get(program)


def run_blocks(found: list[tuple[str, str, str]], folder: Path, request: pytest.FixtureRequest) -> None:
    """Run blocks of a page in a folder."""
    for kind, where, text in found:
        if where.endswith(".py"):
            (folder / where).write_text(text, encoding="utf-8")
            continue
        python: Warm = request.getfixturevalue("warm_lava" if where == "lava" else "warm")
        if kind == "python":
            run_in(python, ["-c", text], folder)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = line.partition("  #")[0].strip()
            if command.startswith("make "):
                run(["make", "--dry-run", *command.split()[1:]], ROOT, Path(sys.executable).parent)
            elif command and not command.startswith(("#", "pip install")):
                if arguments := as_python(command):
                    run_in(python, arguments, folder)
                else:
                    run(["bash", "-c", command], folder, python.bin_folder)
