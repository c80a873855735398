"""Any neuron of SpikingJelly's, traced from its own single step: the same spikes as in SpikingJelly."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import sj2onnx

from .neurons import ABSTRACT, NEURONS, PAGE, examined, page, public_classes

REFUSED = {
    "LIAFNode": "gives other results in step mode 'm'",
    "OTTTLIFNode": "does not run in SpikingJelly",  # in evaluation, in step mode m
}
RUN_ONNX = Path(__file__).parents[1] / "peers" / "run_onnx.py"


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_spikes_as_in_spikingjelly(name: str) -> None:
    found = examined(name)
    if name in REFUSED:
        assert REFUSED[name] in found.refusal
        return
    assert not found.refusal
    assert found.differ == 0
    assert found.values > 0


def test_no_class_is_left_out() -> None:
    assert public_classes() - ABSTRACT <= NEURONS.keys()


def test_the_page_says_what_was_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


class Mine(neuron.BaseNode):  # type: ignore[misc]
    """A neuron that SpikingJelly does not know: its threshold rises with each spike."""

    def __init__(self) -> None:
        super().__init__()
        self.register_memory("raised", 0.0)
        self.rise = nn.Parameter(torch.tensor([0.3, 0.6]))

    def materialize_states(self, inputs: tuple[object, ...], states: tuple[object, ...], step_mode: str) -> tuple[object, ...]:
        v, raised = super().materialize_states(inputs, states, step_mode)
        return v, raised if isinstance(raised, torch.Tensor) else torch.zeros_like(v)

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[torch.Tensor, ...], **_: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        v, raised = states
        h = v + inputs[0]
        spike = self.surrogate_function(h - self.v_threshold - raised)
        return (spike,), (h * (1.0 - spike), 0.5 * raised + self.rise * spike)


def mixed() -> nn.Module:
    """Operators, traced neurons, a recurrent layer and a synapse filter, two of a kind with different numbers."""
    return nn.Sequential(
        layer.Linear(5, 8),
        neuron.KLIFNode(tau=2.0),
        layer.Linear(8, 8),
        neuron.KLIFNode(tau=3.0),
        layer.Linear(8, 8),
        neuron.KLIFNode(tau=2.0),
        layer.LinearRecurrentContainer(neuron.IFNode(v_threshold=0.3), 8, 8),
        layer.SynapseFilter(tau=1.5),
        layer.Linear(8, 2),
        Mine(),
    )


def make() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = mixed()
    for module in net:
        if hasattr(module, "step_mode"):
            module.step_mode = "m"
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.6, 1.5)
    return net.eval(), torch.randn(20, 3, 5)


@pytest.mark.parametrize("native", [False, "auto"])
def test_a_network_of_many_kinds(native: bool) -> None:
    net, x = make()
    with torch.no_grad():
        expected = net(x).numpy()
    assert 0 < expected.mean() < 1
    model = sj2onnx.export(net, x)
    assert sorted(function.name for function in model.functions) == [
        "KLIFNode",
        "KLIFNode_2",
        "LinearRecurrentContainer",
        "Mine",
        "SynapseFilter",
    ]
    (actual,) = custom_ops.session(model, native=native).run(None, {"input": x.numpy()})
    assert np.array_equal(actual, expected)
    stream = custom_ops.Stream(sj2onnx.export(net, x, stateful=True), native=native)
    assert np.array_equal(np.concatenate([stream(part.numpy()) for part in x.split(7)]), expected)


def test_parameters_keep_their_names() -> None:
    net, x = make()
    model = sj2onnx.export(net, x)
    onnx.checker.check_model(model, full_check=True)
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"1.k", "6.rc.weight", "6.rc.bias", "9.rise"} <= names


@pytest.mark.parametrize("runtime", ["oldest", "newest"])
def test_runs_on_a_bare_onnxruntime(runtime: str, bare_onnxruntime: Callable[[str], Path], tmp_path: Path) -> None:
    net, x = make()
    sj2onnx.export(net, x, tmp_path / "net.onnx")
    np.save(tmp_path / "input.npy", x.numpy())
    command = [bare_onnxruntime(runtime), "-I", RUN_ONNX, tmp_path / "net.onnx", tmp_path / "input.npy", tmp_path / "output.npz"]
    subprocess.run(command, check=True, cwd=tmp_path)
    functional.reset_net(net)
    with torch.no_grad(), np.load(tmp_path / "output.npz") as actual:
        assert np.array_equal(actual["output"], net(x).numpy())
