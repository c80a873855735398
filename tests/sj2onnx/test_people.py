"""Networks as people write them: exported equal to SpikingJelly, converted, and run by Lava."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import inliner
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from onnx2lava.host import decode, encode
from onnx2lava.network import Input
from sj2onnx.outputs import flattened

from .people import NETWORKS, Dense, Entry, sizes
from .tutorials import TUTORIALS

torch.set_num_threads(1)

ALL = {**NETWORKS, **TUTORIALS}


@functools.cache
def exported(name: str) -> tuple[nn.Module, onnx.ModelProto]:
    """The network and its file, which several tests look at."""
    net = ALL[name].network()
    return net, sj2onnx.export(net, ALL[name].example())


def other_shapes(entry: Entry) -> list[tuple[int, ...]]:
    """The example's shape, another number of samples, and another number of steps where the file leaves it free."""
    samples, steps = list(entry.shape), list(entry.shape)
    samples[entry.free.index("N")] += 2
    if "T" in entry.free:
        steps[entry.free.index("T")] = 3
    return [entry.shape, tuple(samples), tuple(steps)]


@pytest.mark.parametrize("name", ALL)
def test_a_network_gives_what_it_gives_in_spikingjelly(name: str) -> None:
    entry = ALL[name]
    net, model = exported(name)
    free = "".join(size if isinstance(size, str) else "." for size in sizes(model))
    assert free == entry.free.ljust(len(free), ".")
    session = custom_ops.session(model, native=False)
    assert tuple(output.name for output in session.get_outputs()) == entry.outputs
    lively = set[str]()
    for shape in other_shapes(entry):
        x = entry.example(shape, seed=len(shape) + shape[0])
        functional.reset_net(net)
        with torch.no_grad():
            expected = {key: value.numpy().copy() for key, value in flattened(net(x.clone())).items()}
        actual = dict(zip(entry.outputs, session.run(None, {"input": x.numpy()}), strict=True))
        for key, value in expected.items():
            assert np.allclose(actual[key], value, rtol=1e-4, atol=1e-4), (key, shape)
            lively |= {key} if value.std() > 0 else set()
    assert lively == set(entry.outputs), "what is the same everywhere proves nothing"


STAYS = {
    **dict.fromkeys(
        ("images stacked", "tutorial: LIF on MNIST, a loop over one image", "noisy_san"),
        "no snn neuron behind the one that turns images into spikes",
    ),
    **dict.fromkeys(
        ("tutorial: DQN, potential of a subclass", "spiking_dqn_state", "spiking_a2c", "spiking_ppo", "ilc_san, raw"),
        "the potential is read, so that it stays on the host",
    ),
    "started charged": "it picks time steps or samples",
    **dict.fromkeys(
        ("reset value, IFNode", "reset value, LIFNode", "reset value, ParametricLIFNode", "used twice"),
        "it starts from given states",
    ),
    "reset value, KLIFNode": "(Relu): it has no counterpart on Loihi",
    "steps picked": "its input is [4, N, 10], not [T, N, 10]",
    **dict.fromkeys(
        (
            *("SpikingLSTM", "SpikingGRU", "spiking_lstm_sequential_mnist", "spiking_lstm_text"),
            *("cifar10_r11", "dqn_state"),
        ),
        "has no snn neuron: use SpikingJelly's neurons",
    ),
    "words": "takes whole numbers [T, N], such as words",
    "rsnn_sequential_fmnist, stateful synapse": "(Mul): it multiplies what its neurons give",
    "speech_commands": "its spikes are [11, 4, N, 8], not [T, N, *]",
}
"""What cannot go to Loihi, and why not in the words of ``convert``."""


def converted(name: str) -> tuple[Any, npt.NDArray[Any]]:
    """What the file is fed with, and an input [T, N, *], or [N, *] where the network repeats images itself."""
    _, model = exported(name)
    notes = {item.key: item.value for item in model.metadata_props}
    x = ALL[name].example().numpy()
    if "sj2lava.time_axis" in notes:
        x = np.moveaxis(x, (int(notes["sj2lava.time_axis"]), int(notes["sj2lava.batch_axis"])), (0, 1))
    return notes.get("sj2lava.input_kind", "images" if ALL[name].kind == "images" else "spikes"), x


@pytest.mark.parametrize("name", ALL)
def test_a_network_is_converted_or_convert_says_why_not(name: str) -> None:
    kind, x = converted(name)
    _, model = exported(name)
    if name in STAYS:
        with pytest.raises(onnx2lava.ConversionError) as refusal:
            onnx2lava.load(model, input=kind)
        assert STAYS[name] in str(refusal.value)
        return
    found = onnx2lava.verify(model, x, against=["ort", "numpy"], input=kind)
    assert found.mismatches == 0
    assert found.layers
    assert any(0 < each.rate < 1 for each in found.layers), "what never fires proves nothing"


def test_each_output_of_several_can_be_converted() -> None:
    entry = NETWORKS["dictionary"]
    _, model = exported("dictionary")
    x = entry.example().numpy()
    expected = custom_ops.session(model, native=False).run(["rate", "logits"], {"input": x})
    for name, value in zip(("rate", "logits"), expected, strict=True):
        network = onnx2lava.load(model, output=name)
        spikes = custom_ops.session(onnx2lava.to_onnx(network)).run(None, {"input": x})[0]
        assert np.allclose(decode(network, spikes), value, atol=1e-5)
    with pytest.raises(onnx2lava.ConversionError, match="no output 'v': choose one of rate, logits"):
        onnx2lava.load(model, output="v")


def test_images_that_the_network_repeats_say_so() -> None:
    _, model = exported("tutorial: CSNN repeats images")
    notes = {item.key: item.value for item in model.metadata_props}
    assert notes["sj2lava.input_kind"] == "images"
    assert notes["sj2lava.steps"] == "4"
    assert notes["sj2lava.batch_axis"] == "0"
    assert "sj2lava.time_axis" not in notes
    network = onnx2lava.quantize(onnx2lava.load(model))
    again = onnx2lava.load(onnx2lava.to_onnx(network))  # reads spikes, whatever came in first
    assert again.encoder is None
    assert [each.name for each in again.populations] == [each.name for each in network.populations]


class Shortcut(nn.Module):
    """MS-ResNet: what the stem makes of images goes on beside the first neurons, so that these cannot stay on the host alone."""

    def __init__(self, show: Callable[[nn.Module, torch.Tensor], torch.Tensor], mode: str = "m") -> None:
        super().__init__()
        self.show, self.mode = show, mode
        self.stem, self.fire = layer.Conv2d(3, 4, 3, padding=1, step_mode=mode), neuron.LIFNode(step_mode=mode)
        self.conv, self.last = layer.Conv2d(4, 4, 3, padding=1, step_mode=mode), neuron.IFNode(step_mode=mode)
        self.head = layer.Linear(64, 5, step_mode=mode)

    def block(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(x + self.conv(self.fire(x))).flatten(2 if self.mode == "m" else 1))  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.show(self, x / 255 - 0.4)


def _looped(net: Any, x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(1)
    for _ in range(4):
        total = total + net.block(net.stem(x))
    return total / 4


SHOWN: dict[str, Callable[[], nn.Module]] = {
    "expand": lambda: Shortcut(lambda net, x: net.block(net.stem(x.expand(4, *x.shape))).mean(0)),
    "repeat": lambda: Shortcut(lambda net, x: net.block(net.stem(x[None].repeat(4, 1, 1, 1, 1))).mean(0)),
    "stack": lambda: Shortcut(lambda net, x: net.block(net.stem(torch.stack([x] * 4))).mean(0)),
    "samples first": lambda: Shortcut(lambda net, x: net.block(net.stem(torch.stack([x] * 4, 1).transpose(0, 1))).mean(0)),
    "behind the stem": lambda: Shortcut(lambda net, x: net.block(net.stem(x[None])[0].repeat(4, 1, 1, 1, 1)).mean(0)),
    "in a loop": lambda: Shortcut(_looped, "s"),
}


@pytest.mark.parametrize("how", SHOWN)
def test_images_that_the_network_repeats_go_in_as_counts_where_no_encoder_does(how: str) -> None:
    torch.manual_seed(1)
    net, x = SHOWN[how]().eval(), torch.randint(0, 256, (3, 3, 4, 4)).float()
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.rand(weight.shape) - 0.3)
        expected = net(x).numpy()
    model = sj2onnx.export(net, x)
    with pytest.raises(onnx2lava.ConversionError, match=r"images and spikes together.*input='counts'"):
        onnx2lava.load(model)
    network = onnx2lava.load(model, input="counts")
    given = encode(network, x.numpy())
    assert np.array_equal(given["input"], np.broadcast_to(x, (4, *x.shape)))
    (spikes,) = custom_ops.session(onnx2lava.to_onnx(network)).run(None, given)
    assert np.allclose(decode(network, spikes), expected, atol=1e-5)
    for images in (x.numpy(), given["input"]):
        found = onnx2lava.verify(model, images, against=["ort", "numpy"], input="counts")
        assert found.mismatches == 0
        assert [0 < each.rate < 1 for each in found.layers] == [True, True]
    written = onnx2lava.to_onnx(onnx2lava.quantize(network))
    assert onnx2lava.load(written).inputs["input"] == Input((3, 4, 4), bits=8)
    assert onnx2lava.verify(written, given["input"], against=["ort", "numpy"]).mismatches == 0
    with pytest.raises(onnx2lava.ConversionError, match="repeats one image over time, but the input changes"):
        onnx2lava.verify(model, given["input"] * [[[[[1]]]], [[[[0]]]], [[[[1]]]], [[[[1]]]]], input="counts")


@pytest.mark.parametrize(
    "name", ["loop, stacked", "loop, convolutions, time second", "tutorial: LIF on MNIST, a loop over one image"]
)
def test_a_loop_is_rolled_up_into_one_node_for_each_neuron(name: str) -> None:
    net, model = exported(name)
    neurons = [path for path, module in net.named_modules() if isinstance(module, neuron.BaseNode)]
    nodes = [node.name.rpartition("/")[0] for node in model.graph.node if node.domain == custom_ops.DOMAIN]
    assert sorted(nodes) == sorted(neurons)


def test_weights_computed_from_parameters_are_constants() -> None:
    _, model = exported("quantisation-aware")
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add", "LIF", "MatMul", "Add", "LIF"]


def test_other_tools_of_onnx_can_inline_the_functions() -> None:
    for node in (neuron.LIFNode(), neuron.ParametricLIFNode(v_reset=None), neuron.IFNode(v_reset=None)):
        net, x = Dense(node).eval(), (torch.rand(6, 3, 20) < 0.5).float()
        with torch.no_grad():
            net.fc.weight *= 3
        model = sj2onnx.export(net, x)
        plain = inliner.inline_local_functions(model)
        assert not any(item.domain == custom_ops.DOMAIN for item in plain.graph.node)
        expected, actual = (custom_ops.session(m, native=False).run(None, {"input": x.numpy()})[0] for m in (model, plain))
        assert expected.any()
        assert np.array_equal(expected, actual)


class TwoRests(nn.Module):
    """Two neurons of one operator that rest at different potentials, one of them read behind the run."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.other = layer.Linear(20, 10), layer.Linear(10, 10)
        self.first, self.second = neuron.LIFNode(v_reset=-0.25), neuron.LIFNode(v_reset=0.0)
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.other(self.first(self.fc(x)))).mean(0) + self.second.v


def test_each_neuron_starts_from_its_own_reset_potential() -> None:
    entry = Entry(TwoRests)
    model = sj2onnx.export(entry.network(), entry.example())
    rests = [
        float(onnx.numpy_helper.to_array(attribute.t)[0])
        for node in model.graph.node
        if node.op_type == "ConstantOfShape"
        for attribute in node.attribute
    ]
    assert sorted(rests) == [-0.25, 0.0]


def test_large_weights_are_in_the_file() -> None:
    net, x = Dense().eval(), (torch.rand(4, 2, 300) < 0.5).float()
    net.fc = layer.Linear(300, 200, step_mode="m")
    with torch.no_grad():
        net.fc.weight *= 6
    model = sj2onnx.export(net, x)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
    assert np.array_equal(onnx.numpy_helper.to_array(weight), net.fc.weight.detach().numpy().T)
    spikes = custom_ops.session(model, native=False).run(None, {"input": x.numpy()})[0]
    assert spikes.any()
    assert np.array_equal(spikes, net(x).detach().numpy())
