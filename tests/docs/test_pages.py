"""Every command and every piece of Python in the README and under docs/ is run, in order, as a reader would.

Each page gets an empty folder with the repository's models/ in it. A block marked ``python`` runs as one script, the lines of a
block marked ``bash`` run one by one; ``python lava`` and ``bash lava`` run in the environment that has Lava-DL. Of `make` only a
dry run is made: the targets have tests of their own, or are these tests. Blocks of any other kind are not run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("CONTRIBUTING*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(python|bash)( lava)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, bool, str]]:
    return [(kind, bool(lava), text) for kind, lava, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


def run(command: list[str | Path], folder: Path, bin_folder: Path) -> None:
    path = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    finished = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    for kind, lava, text in blocks(page):
        python = request.getfixturevalue("lava_python") if lava else Path(sys.executable)
        if kind == "python":
            run([python, "-c", text], tmp_path, python.parent)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = line.partition("  #")[0].strip()
            if command.startswith("make "):
                run(["make", "--dry-run", *command.split()[1:]], ROOT, python.parent)
            elif command and not command.startswith("#"):
                run(["bash", "-c", command], tmp_path, python.parent)


def test_readme_has_something_to_run() -> None:
    assert len(blocks(ROOT / "README.md")) >= 5
