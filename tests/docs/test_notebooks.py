"""The notebooks of the documentation run from top to bottom, and are kept as they ran."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
IN_LAVA = {"rescue"}
"""The notebooks that need the environment with Lava-DL."""
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    python = request.getfixturevalue("lava_python") if name in IN_LAVA else Path(sys.executable)
    copy = shutil.copy(FOLDER / f"{name}.ipynb", tmp_path)
    ran = subprocess.run([python, FOLDER / "run.py", copy], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert kinds(Path(copy)) == kinds(FOLDER / f"{name}.ipynb"), "run docs/notebooks/run.py on it once more"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_executed(name: str) -> None:
    cells = code_cells(FOLDER / f"{name}.ipynb")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)


def kinds(path: Path) -> list[list[str]]:
    """What comes out of each cell: text, a value, a picture. The numbers are those of the machine that trained."""
    return [[output["output_type"] for output in cell["outputs"]] for cell in code_cells(path)]


def code_cells(path: Path) -> list[dict[str, list[dict[str, str]]]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
