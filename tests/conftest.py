"""Interpreters of the other environments that tests compare with; `make test` builds them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def interpreter(environment: str, variable: str, remedy: str) -> Path:
    """The Python of another environment: named by ``variable``, else ``<environment>/bin/python`` beside the tests.

    Where there is none, the test fails in CI and is skipped, saying why, elsewhere.
    """
    path = Path(os.environ.get(variable, ROOT / environment / "bin" / "python"))
    if not path.exists():
        message = f"no Python at {path}: run `{remedy}`, or name one with {variable}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def lava_python() -> Path:
    """Python 3.10 with the real Lava-DL and Lava."""
    return interpreter(".venv-lava", "SJ2LAVA_LAVA_PYTHON", "make env-lava")


@pytest.fixture(scope="session")
def cluster_python() -> Path:
    """The Python that has Dask's ``distributed``."""
    return interpreter(".venv-cluster", "SJ2LAVA_CLUSTER_PYTHON", "make .venv-cluster/ready")


@pytest.fixture(scope="session")
def bare_onnxruntime() -> Callable[[str], Path]:
    """The Python that has nothing but numpy and the ``"oldest"`` or ``"newest"`` supported onnxruntime."""

    def find(which: str) -> Path:
        return interpreter(f".venv-ort-{which}", f"SJ2LAVA_ORT_{which.upper()}_PYTHON", f"make .venv-ort-{which}/ready")

    return find
