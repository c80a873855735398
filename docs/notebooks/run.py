"""Run notebooks and keep what their cells print, give and draw: ``python docs/notebooks/run.py NOTEBOOK.ipynb ...``.

The cells run in the Python that runs this, because one of the notebooks needs Lava-DL's Python 3.10, beside which Jupyter's own
packages are not installed. What a notebook writes goes into a temporary folder, with the repository's ``models/`` in it.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the notebooks that the command line names; a cell that raises ends it with its traceback."""
    os.environ["MPLBACKEND"] = "agg"
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        path = Path(name).resolve()
        notebook = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder, inside(folder):
            Path("models").symlink_to(ROOT / "models")
            run(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def run(notebook: dict[str, Any]) -> None:
    """Run the code cells one after the other in one namespace, and put what comes out into the notebook."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = outputs("".join(cell["source"]), namespace, count)


def outputs(source: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """What one cell gives, in the notebook format's words: printed text, the last expression's value, figures."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        found.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data})
    return found + figures()


def figures() -> list[dict[str, Any]]:
    """The open figures of matplotlib, as pictures; they are closed."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    pyplot = sys.modules["matplotlib.pyplot"]
    found = []
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png", dpi=80, bbox_inches="tight")
        data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
        found.append({"output_type": "display_data", "metadata": {}, "data": data})
        pyplot.close(number)
    return found


@contextlib.contextmanager
def inside(folder: str) -> Iterator[None]:
    """Work in a folder; ``contextlib.chdir`` does so from Python 3.11 on."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    sys.exit(main())
