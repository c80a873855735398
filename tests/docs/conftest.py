"""Interpreters that the pages share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import Warm

IMPORTS = (
    "torch._dynamo", "torch.export", "torch.onnx", "sklearn.datasets", "onnx", "onnxscript", "networkx", "h5py",
    "jinja2", "matplotlib.pyplot", "spikingjelly.activation_based.neuron", "lava.lib.dl.slayer", "lava.lib.dl.netx.hdf5",
)  # fmt: skip
"""What is slow to import; each environment has some of it."""


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Of the environment that runs the tests."""
    here = Warm(Path(sys.executable), IMPORTS)
    yield here
    here.close()


@pytest.fixture(scope="session")
def warm_lava(lava_python: Path) -> Iterator[Warm]:
    """Of the environment with Lava-DL."""
    there = Warm(lava_python, IMPORTS)
    yield there
    there.close()
