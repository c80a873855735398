"""Interpreters that the pages share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.warm import Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Of the environment that runs the tests."""
    here = Warm(Path(sys.executable))
    yield here
    here.close()


@pytest.fixture(scope="session")
def warm_lava(lava_python: Path) -> Iterator[Warm]:
    """Of the environment with Lava-DL."""
    there = Warm(lava_python)
    yield there
    there.close()
