"""Networks as people write them: exported equal to SpikingJelly, or refused in a sentence of ours; never wrong."""

import os
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import inliner
from spikingjelly.activation_based import encoding, functional, layer, neuron
from torch import nn
from torch.nn import functional as F

import custom_ops
import sj2onnx
from sj2onnx.outputs import flattened

from .compositions import STEPS, Composition, compose
from .people import NETWORKS, Dense, Entry
from .tutorials import TUTORIALS

torch.set_num_threads(1)

CASES = int(os.environ.get("CASES", "6"))
"""Random compositions; `make people CASES=1000` tries many."""
FORBIDDEN = re.compile(r"\x1b|guard|\bs\d+\b|TORCH_|dynamo|symint|dynamic_shapes|draft_export|aten|https?:", re.IGNORECASE)


def sizes(model: onnx.ModelProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]


def other_shapes(entry: Entry) -> list[tuple[int, ...]]:
    """The example's shape, another number of samples, and another number of steps where the file leaves it free."""
    samples, steps = list(entry.shape), list(entry.shape)
    samples[entry.free.index("N")] += 2
    if "T" in entry.free:
        steps[entry.free.index("T")] = 3
    return [entry.shape, tuple(samples), tuple(steps)]


@pytest.mark.parametrize("name", [*NETWORKS, *TUTORIALS])
def test_a_network_gives_what_it_gives_in_spikingjelly(name: str) -> None:
    entry = {**NETWORKS, **TUTORIALS}[name]
    net = entry.network()
    model = sj2onnx.export(net, entry.example())
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


def test_images_that_the_network_repeats_say_so() -> None:
    entry = NETWORKS["tutorial: CSNN repeats images"]
    model = sj2onnx.export(entry.network(), entry.example())
    notes = {item.key: item.value for item in model.metadata_props}
    assert notes["sj2lava.input_kind"] == "images"
    assert notes["sj2lava.steps"] == "4"
    assert notes["sj2lava.batch_axis"] == "0"
    assert "sj2lava.time_axis" not in notes


@pytest.mark.parametrize(
    "name", ["loop, stacked", "loop, convolutions, time second", "tutorial: LIF on MNIST, a loop over one image"]
)
def test_a_loop_is_rolled_up_into_one_node_for_each_neuron(name: str) -> None:
    entry = NETWORKS[name]
    net = entry.network()
    neurons = [path for path, module in net.named_modules() if isinstance(module, neuron.BaseNode)]
    model = sj2onnx.export(net, entry.example())
    nodes = [node.name.rpartition("/")[0] for node in model.graph.node if node.domain == custom_ops.DOMAIN]
    assert sorted(nodes) == sorted(neurons)


def test_weights_computed_from_parameters_are_constants() -> None:
    entry = NETWORKS["quantisation-aware"]
    model = sj2onnx.export(entry.network(), entry.example())
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


def differing(case: Composition, model: onnx.ModelProto) -> list[tuple[int, int, str]]:
    """Where the file gives something else than SpikingJelly: number of samples, number of steps, output."""
    session = custom_ops.session(model, native=False)
    names = [output.name for output in session.get_outputs()]
    free = sizes(model)
    tries = [(case.samples, STEPS), (case.samples + 2 * ("N" in free), STEPS + 3 * ("T" in free))]
    wrong = []
    for seed, (samples, steps) in enumerate(tries, 1):
        x = case.inputs(samples, steps, seed)
        functional.reset_net(case.net)
        with torch.no_grad():
            expected = {key: value.numpy().copy() for key, value in flattened(case.net(x.clone())).items()}
        found = dict(zip(names, session.run(None, {"input": x.numpy()}), strict=True))
        assert found.keys() == expected.keys()
        wrong += [
            (samples, steps, key)
            for key, value in expected.items()
            if found[key].shape != value.shape or not np.allclose(found[key], value, rtol=1e-4, atol=1e-4)
        ]
    return wrong


@pytest.mark.parametrize("seed", range(int(os.environ.get("FIRST", "0")), int(os.environ.get("FIRST", "0")) + CASES))
def test_a_random_composition_is_exported_equal_or_refused_in_words(seed: int) -> None:
    """Compared here and not by ``export``, whose own comparison would hide what it finds."""
    case = compose(random.Random(seed))
    x = case.example()
    for check in (False, True) if seed % 4 == 0 else (False,):
        functional.reset_net(case.net)
        message, model = exported_or_refused(case.net, x, check)
        assert len(message) <= 400, (case.words, message)
        assert not FORBIDDEN.search(message), (case.words, message)
        assert model is None or differing(case, model) == [], case.words


def exported_or_refused(net: nn.Module, x: torch.Tensor, check: bool) -> tuple[str, onnx.ModelProto | None]:
    try:
        return "", sj2onnx.export(net, x, check=check)
    except sj2onnx.ExportError as error:
        return str(error), None


class Random(Dense):
    def __init__(self, draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(self.draw(x)))


class BySamples(Dense):
    """A branch on the number of samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(x) * (2.0 if x.shape[1] == 3 else 0.5))


class ByValues(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.max() > 1:
            x = x / x.max()
        return self.lif(self.fc(x))


class Failing(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(x.flatten(1)))


class Tree(Dense):
    def forward(self, x: torch.Tensor) -> str:
        return f"{self.lif(self.fc(x)).sum()}"


class Noise(nn.Module):
    """Draws with something that torch does not see; not worth a look, were it not for what it does."""

    def __init__(self, draw: Callable[[], Any], generator: Any = None) -> None:
        super().__init__()
        self.draw, self.generator = draw, generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.5 * (self.draw() if self.generator is None else self.generator.random())


def noisy(draw: Callable[[], Any], generator: Any = None) -> nn.Module:
    return nn.Sequential(Noise(draw, generator), Dense())


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "PoissonEncoder": (
        lambda: nn.Sequential(encoding.PoissonEncoder(), Dense()),
        "module '0' (PoissonEncoder) draws random numbers",
    ),
    "bernoulli": (lambda: Random(torch.bernoulli), "draws random numbers"),
    "rand_like": (lambda: Random(lambda x: x * torch.rand_like(x)), "draws random numbers"),
    "dropout in evaluation": (lambda: Random(lambda x: F.dropout(x, 0.5)), "draws random numbers"),
    "NumPy's numbers": (lambda: noisy(np.random.rand), "module '0' (Noise) draws random numbers"),
    "Python's numbers": (lambda: noisy(random.random), "module '0' (Noise) draws random numbers"),
    "a generator of the module": (
        lambda: noisy(random.random, np.random.default_rng()),
        "module '0' (Noise) draws random numbers",
    ),
    "numbers from elsewhere": (
        lambda: noisy(lambda: torch.tensor([byte / 64 for byte in os.urandom(20)])),
        "module '0' (Noise) draws random numbers",
    ),
    "a branch on N": (BySamples, "written for one number of time steps or samples"),
    "a branch on values": (ByValues, "decides by the values"),
    "a shape that does not fit": (Failing, "'fc' (Linear) does not run in SpikingJelly"),
    "no tensor": (Tree, "without any tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_says_why_in_one_sentence(name: str, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    make, said = REFUSED[name]
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 3
    x = (torch.rand(6, 3, 20) < 0.5).float()
    path = tmp_path / "net.onnx"
    with pytest.raises(sj2onnx.ExportError) as refusal:
        sj2onnx.export(net, x, path)
    message = str(refusal.value)
    assert said in message
    assert len(message) <= 400
    assert not FORBIDDEN.search(message), message
    assert not path.exists()
    assert capfd.readouterr() == ("", "")
