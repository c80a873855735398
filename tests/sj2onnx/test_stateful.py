"""States as inputs and outputs: a recording in chunks, or step by step, gives the spikes of the whole."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import sj2onnx
from custom_ops.errors import ModelFileError, StreamError
from models.spikingjelly_models import lively
from models.spikingjelly_models import random_spikes as spikes
from sj2onnx import BlockContainer, ExportError

Mode = Literal["s", "m"]


def float_net() -> nn.Module:
    return nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1),
        layer.BatchNorm2d(6),
        neuron.LIFNode(tau=3.0, v_reset=-0.25),
        layer.MaxPool2d(2),
        layer.Conv2d(6, 4, 3, bias=False),
        neuron.IFNode(v_reset=None),
        layer.Flatten(),
        layer.Linear(4 * 2 * 2, 7),
        neuron.ParametricLIFNode(init_tau=2.5, decay_input=False),
    )


def block_net() -> nn.Module:
    return nn.Sequential(
        BlockContainer(nn.Conv2d(2, 5, 3, bias=False), sj2onnx.CubaLIFNode(0.6, 0.2, v_threshold=0.8)),
        BlockContainer(nn.Flatten(), None),
        BlockContainer(nn.Linear(5 * 6 * 6, 8, bias=False), neuron.LIFNode(tau=4.0, decay_input=False)),
    )


NETS = {"float": float_net, "blocks": block_net}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[request.param]()
    functional.set_step_mode(net, "m")
    return lively(net, spikes(6, 2, 2, 8, 8))


def expected(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    functional.reset_net(net)
    with torch.no_grad():
        return np.asarray(net(x).numpy())


@pytest.mark.parametrize("native", [False, "auto"])
def test_chunks_give_the_spikes_of_the_whole(net: nn.Module, native: bool | Literal["auto"]) -> None:
    x = spikes(23, 3, 2, 8, 8)
    whole = expected(net, x)
    assert 0 < whole.mean() < 1
    stream = custom_ops.Stream(sj2onnx.export(net, x, stateful=True), native=native)
    for lengths in ([23], [1] * 23, [7, 1, 10, 5]):
        stream.reset()
        parts = [stream(chunk.numpy()) for chunk in x.split(lengths)]  # type: ignore[no-untyped-call]
        assert np.array_equal(np.concatenate(parts), whole), lengths


def test_states_can_be_kept_and_given_back(net: nn.Module) -> None:
    x = spikes(12, 2, 2, 8, 8)
    whole = expected(net, x)
    model = sj2onnx.export(net, x, stateful=True, outputs="all")
    first, second = custom_ops.Stream(model), custom_ops.Stream(model)
    assert first.states == {}
    assert set(first.run(x[:5].numpy())) == {"output", *(name for name, m in net.named_modules() if _spikes(m))}
    second.states = first.states
    assert np.array_equal(second(x[5:].numpy()), whole[5:])
    assert not np.array_equal(first(x[:7].numpy()), whole[:7]), "the states make no difference: the comparison proves nothing"


def _spikes(module: nn.Module) -> bool:
    if isinstance(module, BlockContainer):
        return module.neuron is not None
    return isinstance(module, neuron.BaseNode) and not isinstance(module, sj2onnx.CubaLIFNode)


@pytest.mark.parametrize("native", [False, "auto"])
def test_a_single_step_network(net: nn.Module, native: bool | Literal["auto"]) -> None:
    x = spikes(9, 3, 2, 8, 8)
    whole = expected(net, x)
    functional.set_step_mode(net, "s")
    step = sj2onnx.export(net, x[0], stateful=True)
    assert [dim.dim_param or dim.dim_value for dim in step.graph.input[0].type.tensor_type.shape.dim] == ["N", 2, 8, 8]
    stream = custom_ops.Stream(step, native=native)
    assert np.array_equal(np.stack([stream(x_t.numpy()) for x_t in x]), whole)
    wrapped = custom_ops.Stream(custom_ops.over_time(step), native=native)
    assert np.array_equal(np.concatenate([wrapped(x[:4].numpy()), wrapped(x[4:].numpy())]), whole)


def test_states_have_names_that_last(net: nn.Module) -> None:
    model = sj2onnx.export(net, spikes(2, 2, 2, 8, 8), stateful=True)
    onnx.checker.check_model(model, full_check=True)
    inputs = [value.name for value in model.graph.input]
    states = ["2.v", "5.v", "8.v"] if len(net) == 9 else ["0.u", "0.v", "2.u", "2.v"]  # type: ignore[arg-type]
    assert inputs == ["input", *states]
    assert [value.name for value in model.graph.output] == ["output", *(f"{name}.next" for name in states)]


def linear_stream() -> custom_ops.Stream:
    net = nn.Sequential(layer.Linear(3, 2, step_mode="m"), neuron.IFNode(step_mode="m"))
    return custom_ops.Stream(sj2onnx.export(net, torch.zeros(2, 2, 3), stateful=True))


def _changed_batch() -> None:
    stream = linear_stream()
    stream(np.zeros((2, 3, 3), np.float32))
    stream(np.zeros((2, 4, 3), np.float32))


def _wrong_states(**states: Any) -> None:
    linear_stream().states = states


class FoldedBatch(nn.Module):
    """A neuron that sees the batch twice."""

    def __init__(self) -> None:
        super().__init__()
        self.spike = neuron.IFNode(step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spike(torch.cat([x, x], 1)).mean(1)


def _mixed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), neuron.IFNode(step_mode="m"), neuron.LIFNode(step_mode="s"))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: sj2onnx.export(nn.Sequential(neuron.IFNode()), torch.zeros(2, 3)), ExportError, "stateful=True"),
        (lambda: sj2onnx.export(_mixed(), torch.zeros(2, 2, 3)), ExportError, "'2' \\(LIFNode\\) works in step mode 's'"),
        (
            lambda: sj2onnx.export(FoldedBatch(), torch.zeros(2, 2, 3), stateful=True),
            ExportError,
            "'spike' .* not one per sample",
        ),
        (lambda: custom_ops.Stream("models/digits_csnn.onnx"), ModelFileError, "stateful=True"),
        (lambda: custom_ops.over_time(onnx.load("models/digits_csnn.onnx")), ModelFileError, "step mode 's'"),
        (_changed_batch, StreamError, "4 samples, but the states are those of 3"),
        (lambda: linear_stream()(np.zeros((2, 1, 4), np.float32)), StreamError, "refuses a chunk"),
        (lambda: linear_stream()(np.zeros(4, np.float32)), StreamError, "without a batch axis"),
        (lambda: _wrong_states(v=np.zeros((1, 2))), StreamError, "the network has 1.v"),
        (lambda: _wrong_states(**{"1.v": np.zeros((1, 3))}), StreamError, "needs \\[N, \\*\\[2\\]\\]"),
    ],
)
def test_what_does_not_fit_says_why(call: Callable[[], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
