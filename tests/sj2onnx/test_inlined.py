"""Files without functions run where functions are not known: in OpenVINO, and in onnxruntime as before."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from custom_ops.graphs.inlining import inlined
from onnx2lava.errors import ConversionError
from sj2onnx import BlockContainer, CubaLIFNode
from tests.onnx2lava.commands import ROOT, run
from tests.onnx2lava.networks import assert_same, assert_same_numbers


def plain(make: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1),
        layer.BatchNorm2d(6),
        make(),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(96, 20),
        make(),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "IF": lambda: plain(lambda: neuron.IFNode(v_threshold=0.5)),
    "IF, soft reset": lambda: plain(lambda: neuron.IFNode(v_threshold=0.5, v_reset=None)),
    "LIF": lambda: plain(lambda: neuron.LIFNode(2.0, v_threshold=0.25)),
    "a neuron that is no operator": lambda: plain(lambda: neuron.EIFNode(v_threshold=0.25)),
    "blocks": lambda: nn.Sequential(
        BlockContainer(nn.Conv2d(2, 6, 3, padding=1, bias=False), CubaLIFNode(1.0, 0.1, 0.5)),
        layer.Flatten(),
        BlockContainer(nn.Linear(384, 20, bias=False), CubaLIFNode(0.5, 0.1, 0.5)),
    ),
}


@functools.cache
def exported(name: str) -> tuple[onnx.ModelProto, np.ndarray]:
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    functional.set_step_mode(net, "m")
    x = (torch.rand(8, 4, 2, 8, 8) < 0.4).float()
    return sj2onnx.export(net, x), x.numpy()


def openvino_runs(path: Path, x: np.ndarray) -> np.ndarray:
    import openvino

    return np.asarray(openvino.Core().compile_model(str(path), "CPU")([x])[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_runtime_gives_the_same_spikes(name: str, tmp_path: Path) -> None:
    model, x = exported(name)
    (expected,) = custom_ops.session(model, native=False).run(None, {"input": x})
    assert 0 < expected.mean() < 1
    without = inlined(model)
    onnx.checker.check_model(without, full_check=True)
    assert not without.functions
    assert {node.domain for node in without.graph.node} == {""}
    onnx.save(without, tmp_path / "net.onnx")
    for each in (without, onnx.inliner.inline_local_functions(model)):
        (found,) = onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"input": x})
        assert (found == expected).all()
    found = openvino_runs(tmp_path / "net.onnx", x)
    assert found.shape == expected.shape
    assert (found == expected).all()


def test_bodies_of_loops_read_no_constants_from_outside() -> None:
    without = inlined(exported("LIF")[0])
    constants = {tensor.name for tensor in without.graph.initializer}
    constants |= {node.output[0] for node in without.graph.node if node.op_type == "Constant"}
    (first, second) = (node for node in without.graph.node if node.op_type == "Scan")
    for scan in (first, second):
        assert {"scan_input_axes", "body"} & {attribute.name for attribute in scan.attribute} == {"body"}  # it has no default
        (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
        assert not constants & {name for node in body.node for name in node.input}
        assert not {node.output[0] for node in first.attribute[-1].g.node} & set(scan.output)


@pytest.mark.parametrize("name", ["IF", "LIF", "blocks"])
def test_what_it_was_made_of_is_read_back(name: str) -> None:
    model, _ = exported(name)
    assert_same(onnx2lava.load(inlined(model)), onnx2lava.load(model))


@pytest.mark.parametrize("name", ["IF, soft reset", "a neuron that is no operator"])
def test_what_is_nothing_for_loihi_is_refused_for_the_same_reason(name: str) -> None:
    model, _ = exported(name)
    refusals = []
    for each in (model, inlined(model)):
        with pytest.raises(ConversionError) as refused:
            onnx2lava.load(each)
        refusals.append(str(refused.value))
    assert refusals[0] == refusals[1]


def test_both_commands_write_it(tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(
        "import torch\nfrom spikingjelly.activation_based import layer, neuron\n"
        "def make():\n    torch.manual_seed(0)\n    return torch.nn.Sequential(layer.Linear(6, 5), neuron.IFNode())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for more in ([], ["--inline"]):
        export = [
            sys.executable,
            "-m",
            "sj2onnx",
            "export",
            "mynet:make",
            "--shape",
            "4,2,6",
            "-o",
            f"net{len(more)}.onnx",
            *more,
        ]
        ran = subprocess.run(export, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "1 spiking layers" in ran.stdout
    run("convert", "net0.onnx", "-o", "loihi.onnx", "--inline", folder=tmp_path, code=0)
    x = (np.random.default_rng(0).random((4, 2, 6)) < 0.5).astype(np.float32)
    run("convert", "net1.onnx", "-o", "again.onnx", folder=tmp_path, code=0)
    ordinary = onnx2lava.quantize(onnx2lava.load(tmp_path / "net0.onnx"))
    for name in ("again", "loihi"):
        assert_same_numbers(onnx2lava.load(tmp_path / f"{name}.onnx"), ordinary)
    for name in ("net1", "loihi"):
        model = onnx.load(tmp_path / f"{name}.onnx")
        assert not model.functions
        (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"input": x})
        assert found.shape == (4, 2, 5)
    assert "--loihi-onnx" in run("convert", "net0.onnx", "-o", "loihi.net", "--inline", folder=tmp_path, code=2)
