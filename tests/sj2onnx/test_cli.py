"""The command ``sj2onnx``."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch

from tests.warm import Warm

NETWORK = """
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn


def make():
    return nn.Sequential(
        layer.Conv2d(1, 4, 3, bias=False), layer.BatchNorm2d(4), neuron.LIFNode(surrogate_function=surrogate.ATan()),
        layer.Flatten(), layer.Linear(144, 10), neuron.IFNode(),
    )


def nothing():
    return 3
"""


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return _warm().run(["-m", "sj2onnx", *arguments], folder)


@cache
def _warm() -> Warm:
    imports = "sj2onnx.cli", "sj2onnx.torch_export", "torch._dynamo", "torch.onnx._internal.exporter._core"
    return Warm(Path(sys.executable), imports)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_net.py").write_text(NETWORK)
    return tmp_path


def test_a_network_is_exported_with_its_weights_and_checked(folder: Path) -> None:
    namespace: dict[str, object] = {}
    exec(NETWORK, namespace)
    net = namespace["make"]()  # type: ignore[operator]
    torch.save({"state_dict": net.state_dict()}, folder / "weights.pt")
    done = run(
        folder,
        *(
            "export",
            "my_net:make",
            "--weights",
            "weights.pt",
            "--shape",
            "4,2,1,8,8",
            "-o",
            "net.onnx",
            "--outputs",
            "all",
            "--check",
        ),
    )
    assert done.returncode == 0, done.stderr
    assert "wrote net.onnx" in done.stdout
    assert "mismatch rate" in done.stdout
    model = onnx.load(folder / "net.onnx")
    assert [output.name for output in model.graph.output] == ["output", "2", "5"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (stored["0.weight"] == net[0].weight.detach().numpy()).all()


def test_one_step_is_exported_with_its_states_and_checked_over_time(folder: Path) -> None:
    done = run(
        folder, "export", "my_net:make", "--shape", "2,1,8,8", "--step-mode", "s", "-o", "net.onnx", "--check", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    assert "mismatch rate" in done.stderr
    found = json.loads(done.stdout)
    assert found["model"]["sha256"] == hashlib.sha256((folder / "net.onnx").read_bytes()).hexdigest()
    assert list(found["inputs"]) == ["input", "2.v", "5.v"]
    assert [layer["name"] for layer in found["layers"]][:2] == ["2", "5"]
    assert [value.name for value in onnx.load(folder / "net.onnx").graph.input] == ["input", "2.v", "5.v"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path, ("/",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("my_net", "--shape", "4,2,1,8,8"), "write MODULE:FACTORY"),
        (("my_net:absent", "--shape", "4,2,1,8,8"), "my_net:absent gives no network"),
        (("my_net:nothing", "--shape", "4,2,1,8,8"), "gives a int, not a torch.nn.Module"),
        (("my_net:make", "--shape", "4,2,x"), "'4,2,x' is not a list of positive whole numbers"),
        (("my_net:make", "--shape", "4,2,1,9,9"), "does not run in SpikingJelly"),
        (("my_net:make", "--shape", "4,2,1,8,8", "--weights", "absent.pt"), "Cannot read absent.pt"),
        (("my_net:make", "--shape", "4,2,1,8,8", "--weights", "evil.pt"), "without running code from it"),
        (("my_net:make", "--shape", "4,2,1,8,8", "--weights", "other.pt"), "do not fit Sequential"),
        (("my_net:make", "--shape", "4,2,1,8,8", "--json", "net.onnx"), "is the network's as well"),
        (("my_net:make", "--shape", "4,2,1,8,8", "--json", "evil.pt", "--weights", "evil.pt"), "is that of the weights as well"),
        (("my_net:make", "--shape", "4,2,1,8,8", "-o", "my_net.py"), "does not end with .onnx"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    torch.save(Evil(), folder / "evil.pt")
    torch.save({"0.weight": torch.zeros(3)}, folder / "other.pt")
    done = run(folder, "export", "-o", "net.onnx", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "net.onnx").exists()
