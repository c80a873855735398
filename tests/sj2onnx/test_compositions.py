"""Random networks put together from what people write: exported equal to SpikingJelly, or refused in a sentence of ours; never
wrong."""

import itertools
import os
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import encoding, functional, neuron
from torch import nn
from torch.nn import functional as F

import custom_ops
import sj2onnx
from sj2onnx.outputs import flattened
from sj2onnx.preparing import unwrapped

from .compositions import STEPS, Composition, compose
from .people import Dense, sizes

torch.set_num_threads(1)

CASES = int(os.environ.get("CASES", "6"))
"""Random compositions; `make people CASES=1000` tries many."""
FORBIDDEN = re.compile(r"\x1b|guard|\bs\d+\b|TORCH_|dynamo|symint|dynamic_shapes|draft_export|aten|https?:", re.IGNORECASE)


def differing(case: Composition, model: onnx.ModelProto) -> list[tuple[int, int, str]]:
    """Where the file gives something else than SpikingJelly: number of samples, number of steps, output."""
    session = custom_ops.session(model, native=False)
    names = [output.name for output in session.get_outputs()]
    free = sizes(model)
    net = unwrapped(case.net)  # torch.compile itself does not take all of these neurons
    tries = [(case.samples, STEPS), (case.samples + 2 * ("N" in free), STEPS + 3 * ("T" in free))]
    wrong = []
    for seed, (samples, steps) in enumerate(tries, 1):
        x = case.inputs(samples, steps, seed)
        functional.reset_net(net)
        with torch.no_grad():
            expected = {key: value.numpy().copy() for key, value in flattened(net(x.clone())).items()}
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


class OddSamples(Dense):
    """A branch that most sizes of two samples would not show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(x) * (2.0 if x.shape[1] % 2 else 0.5))


class OneSample(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lif(self.fc(x))
        return y[:, 0] if x.shape[1] == 1 else y


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


RUNS = itertools.count()


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
        "module '0' (Noise) gives something else in each run",
    ),
    "something else in each run, too little for any spike": (
        lambda: noisy(lambda: next(RUNS) * 1e-6),
        "module '0' (Noise) gives something else in each run",
    ),
    "a state that nothing resets": (
        lambda: noisy(itertools.count().__next__),
        "module '0' (Noise) gives something else in each run",
    ),
    "a branch on N": (BySamples, "written for one number of time steps or samples"),
    "a branch on odd N": (OddSamples, "treats that size apart"),
    "a branch on one sample": (OneSample, "on 1 sample, so no file was written: the network treats that size apart"),
    "NaN": (lambda: Dense(neuron.IFNode(float("inf"), v_reset=None)), "gives NaN in SpikingJelly itself"),
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


@pytest.mark.parametrize("make", [BySamples, OddSamples, OneSample])
def test_a_branch_on_sizes_is_refused_without_a_comparison_too(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    with torch.no_grad():
        net.fc.weight *= 6  # type: ignore[union-attr, operator]
    with pytest.raises(sj2onnx.ExportError, match=r"size|number of time steps or samples"):
        sj2onnx.export(net, (torch.rand(6, 3, 20) < 0.5).float(), check=False)
