"""Random networks, put together from the ways in which people write them: where time comes from, what is in a layer, how it is
read out, and what is wrapped around it.

Weights and inputs are multiples of powers of two, so that sums are exact and spikes can be compared one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

__all__ = ["Composition", "compose"]

STEPS = 4
FEATURES = 6


@dataclass(frozen=True)
class Composition:
    """One network.

    Args:
        words: what was chosen, in words.
        net: the network, in evaluation mode.
        inputs: makes an input for a number of samples and of steps, from a seed.
        samples: number of samples of the example.
    """

    words: tuple[str, ...]
    net: nn.Module
    inputs: Callable[[int, int, int], torch.Tensor]
    samples: int

    def example(self) -> torch.Tensor:
        """What the network is exported with."""
        return self.inputs(self.samples, STEPS, 0)


def compose(random: Random) -> Composition:
    """A network for the choices of ``random``."""
    torch.manual_seed(random.randrange(1000))
    choose = _Choices(random)
    images = choose("space", {"features": False, "maps": True})
    mode = choose("neurons run", {"all steps at once": "m", "step by step": "s"})
    body = _Body(choose, images, mode)
    kind = choose("input", {name: name for name in ("[T, N, *]", "[N, T, *]", "[N, *, T]", "images")})
    net: nn.Module = _Network(choose, body, mode, kind)
    net = choose(
        "around it",
        {"nothing": lambda n: n, "Sequential": nn.Sequential, "DataParallel": nn.DataParallel, "torch.compile": torch.compile},
        weights=(6, 2, 1, 1),
    )(net)
    functional.set_step_mode(net, mode)
    _make_exact(net, random)
    features = (2, 4, 4) if images else (FEATURES,)
    values = choose("values", {"spikes": 1, "grey": 8})

    def inputs(samples: int, steps: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randint(0, values + 1, (steps, samples, *features), generator=generator).float() / values
        return {"[T, N, *]": x, "[N, T, *]": x.transpose(0, 1), "[N, *, T]": x.movedim(0, -1), "images": x[0]}[kind].contiguous()

    return Composition(tuple(choose.words), net.eval(), inputs, random.choice((1, 2, 3)))


class _Choices:
    """Chooses, and remembers what."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.words: list[str] = []

    def __call__(self, what: str, options: dict[str, Any], weights: tuple[int, ...] | None = None) -> Any:
        (name,) = self.random.choices(list(options), weights)
        self.words.append(f"{what}: {name}")
        return options[name]


def _make_exact(net: nn.Module, random: Random) -> None:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eps = 0.0
                module.running_var.fill_(random.choice((0.25, 1.0, 4.0)))
                module.running_mean.fill_(random.choice((0.0, 0.125)))
                module.bias.fill_(random.choice((0.0, 0.25)))
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                parameter.copy_((parameter * 2.5 * 32).round() / 32)


# Neurons.


class Trivial(neuron.LIFNode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(tau=2.0, v_threshold=0.5)


class Learned(neuron.LIFNode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.tau, self.v_threshold = nn.Parameter(torch.tensor(4.0)), nn.Parameter(torch.tensor(0.5))


class Doubled(neuron.IFNode):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * x)


class Charged(neuron.LIFNode):  # type: ignore[misc]
    def neuronal_charge(self, x: torch.Tensor) -> None:
        self.v = 0.75 * self.v + x


class Leaky(neuron.LIFNode):  # type: ignore[misc]
    """Its potential is what it gives."""

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.v = self.v + (x - self.v) / self.tau
        return self.v


class Own(nn.Module):
    """No neuron of SpikingJelly's, but a loop of one's own."""

    step_mode = "m"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.step_mode == "s":
            return (x > 0.5).float()
        v, out = torch.zeros_like(x[0]), []
        for x_t in x:
            v = 0.5 * v + x_t
            out.append((v > 0.75).float())
            v = v * (1 - out[-1])
        return torch.stack(out)


def _started(node: neuron.BaseNode) -> nn.Module:
    node.set_reset_value("v", 0.25)
    return node


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "IF": lambda: neuron.IFNode(0.75),
    "IF, soft": lambda: neuron.IFNode(0.75, v_reset=None, surrogate_function=surrogate.ATan()),
    "LIF": lambda: neuron.LIFNode(2.0, v_threshold=0.5),
    "LIF, not decaying its input": lambda: neuron.LIFNode(2.0, False, v_threshold=0.75, v_reset=-0.25),
    "LIF, soft": lambda: neuron.LIFNode(4.0, v_threshold=0.25, v_reset=None),
    "PLIF": lambda: neuron.ParametricLIFNode(2.0, v_threshold=0.5),
    "KLIF": lambda: neuron.KLIFNode(tau=2.0),
    "CUBA": lambda: neuron.CUBALIFNode(0.5, 0.5),
    "subclass": Trivial,
    "learned": Learned,
    "doubled": Doubled,
    "charged otherwise": Charged,
    "potential": Leaky,
    "own": Own,
    "reset value": lambda: _started(neuron.LIFNode(2.0, v_threshold=0.5)),
}


# Synapses.


class Rounded(layer.Linear):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, (self.weight * 8).round().clamp(-16, 16) / 8, self.bias)


class Masked(layer.Linear):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", (torch.rand(outputs, inputs) < 0.7).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class Conv(layer.Conv2d):  # type: ignore[misc]
    """Weights with a mean that is removed; written for one step or all of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - (self.weight.mean((1, 2, 3), keepdim=True) * 32).round() / 32
        if x.dim() == 4:
            return F.conv2d(x, weight, self.bias, padding=1)
        return functional.seq_to_ann_forward(x, lambda y: F.conv2d(y, weight, self.bias, padding=1))


DENSE: dict[str, Callable[[str], nn.Module]] = {
    "Linear": lambda mode: layer.Linear(FEATURES, FEATURES),
    "torch's Linear": lambda mode: nn.Linear(FEATURES, FEATURES, bias=False),
    "quantised": lambda mode: Rounded(FEATURES, FEATURES),
    "masked": lambda mode: Masked(FEATURES, FEATURES),
    "two": lambda mode: nn.Sequential(layer.Linear(FEATURES, 4), layer.Linear(4, FEATURES)),
    "with norm": lambda mode: nn.Sequential(layer.Linear(FEATURES, FEATURES), layer.BatchNorm1d(FEATURES))
    if mode == "s"
    else nn.Sequential(layer.Linear(FEATURES, FEATURES), layer.SeqToANNContainer(nn.BatchNorm1d(FEATURES))),
    "in a container": lambda mode: layer.SeqToANNContainer(nn.Linear(FEATURES, FEATURES))
    if mode == "m"
    else nn.Linear(FEATURES, FEATURES),
}
SPATIAL: dict[str, Callable[[str], nn.Module]] = {
    "Conv2d": lambda mode: layer.Conv2d(2, 2, 3, padding=1),
    "Conv2d and norm": lambda mode: nn.Sequential(layer.Conv2d(2, 2, 3, padding=1, bias=False), layer.BatchNorm2d(2)),
    "centred": lambda mode: Conv(2, 2, 3),
    "in a container": lambda mode: (layer.SeqToANNContainer if mode == "m" else nn.Sequential)(
        nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
    ),
    "grouped": lambda mode: layer.Conv2d(2, 2, 3, padding=1, groups=2),
}
ENDS: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.Identity,
    "dropout": lambda: layer.Dropout(0.5),
    "filter": lambda: layer.SynapseFilter(2.0),
}


class _Body(nn.Module):
    """Layers: one after the other, added, joined, or the same one twice."""

    def __init__(self, choose: _Choices, maps: bool, mode: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.ways: list[str] = []
        self.maps = maps
        for _ in range(choose.random.choice((1, 1, 2))):
            synapse = choose("synapse", SPATIAL if maps else DENSE)(mode)
            node = choose("neuron", NEURONS)()
            end = choose("then", ENDS, weights=(6, 2, 1))()
            self.layers.append(nn.Sequential(synapse, node, end))
            self.ways.append(
                choose("joined", {way: way for way in ("in a row", "added", "scaled", "twice")}, weights=(6, 2, 1, 1))
            )
        self.last = self.layers[-1][1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part, way in zip(self.layers, self.ways, strict=True):
            y = part(x)
            if way == "added":
                y = y + x
            elif way == "scaled":
                y = y * 0.5
            elif way == "twice":
                y = part[1](y)
            x = y
        return x


class _Network(nn.Module):
    """A body, run over time in one of many ways."""

    def __init__(self, choose: _Choices, body: _Body, mode: str, kind: str) -> None:
        super().__init__()
        self.body = body
        self.kind = kind
        self.T = STEPS
        self.repeat = choose("repeated by", {w: w for w in ("repeat", "expand", "stack")}) if kind == "images" else ""
        loops = ("stacked", "appended", "filled", "multi_step_forward", "unbound", "range(T)")
        self.run = choose("loop", {way: way for way in loops}) if mode == "s" else ""
        has_v = isinstance(body.last, neuron.BaseNode)
        reads = ["every step", "mean", "sum over T", "last step", "weighted", "tuple", "dictionary", "maximum"]
        if has_v:
            reads += ["v", "rate and v", "v through a layer"]
        if has_v and mode == "m":
            reads += ["v_seq"]
        self.read = choose("read", {way: way for way in reads})
        if self.read == "v_seq":
            body.last.store_v_seq = True
        width = 2 * 16 if body.maps else FEATURES
        self.head = nn.Linear(width, 3)
        extras = ["nothing", "counter", "buffer", "reset first", "assert", "list", "branch on T", "no gradient"]
        if has_v:
            extras += ["starts charged"]
        self.extra = choose("besides", {way: way for way in extras}, weights=(8, *[1] * (len(extras) - 1)))
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> Any:
        if self.extra == "reset first":
            functional.reset_net(self)
        x = self._time_first(x)
        if self.extra == "assert":
            assert x.shape[0] == self.T, "as many steps as ever"
        if self.extra == "branch on T":
            x = x if x.shape[0] > 2 else 0.5 * x
        if self.extra == "starts charged":
            self.body.last.v = 0.25 * torch.ones_like(x[0])  # layers keep the shape
        y = self._over_time(x)
        if self.extra == "counter":
            self.calls += 1
            self.seen = self.seen + y.mean()
        if self.extra == "buffer":
            self.seen += y.sum()
        if self.extra == "list":
            self.kept.append(y.detach().mean())
        if self.extra == "no gradient":
            with torch.no_grad():
                y = y.detach().clone()
        return self._read(y)

    def _time_first(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "[N, T, *]":
            return x.transpose(0, 1)
        if self.kind == "[N, *, T]":
            return x.permute(-1, *range(x.dim() - 1))
        if self.repeat == "repeat":
            return x.unsqueeze(0).repeat(self.T, *[1] * x.dim())
        if self.repeat == "expand":
            return x[None].expand(self.T, *x.shape)
        return torch.stack([x] * self.T) if self.repeat == "stack" else x

    def _over_time(self, x: torch.Tensor) -> torch.Tensor:
        if self.run == "":
            return self.body(x)  # type: ignore[no-any-return]
        if self.run == "multi_step_forward":
            return functional.multi_step_forward(x, self.body)  # type: ignore[no-any-return]
        if self.run == "filled":
            out = torch.zeros_like(x)
            for t in range(x.shape[0]):
                out[t] = self.body(x[t])
            return out
        if self.run == "appended":
            parts = []
            for x_t in x:
                parts.append(self.body(x_t).unsqueeze(0))
            return torch.cat(parts, dim=0)
        if self.run == "unbound":
            return torch.stack([self.body(x_t) for x_t in x.unbind(0)], dim=0)
        count = self.T if self.run == "range(T)" else x.shape[0]
        return torch.stack([self.body(x[t]) for t in range(count)])

    def _read(self, y: torch.Tensor) -> Any:
        if self.read == "mean":
            return y.mean(0)
        if self.read == "sum over T":
            return y.sum(dim=0) / self.T
        if self.read == "last step":
            return self.head(y[-1].flatten(1))
        if self.read == "weighted":
            return (y * torch.arange(1, self.T + 1).float().view(-1, *[1] * (y.dim() - 1))).sum(0)
        if self.read == "tuple":
            return y, [y.mean(0), None], self.head(y.mean(0).flatten(1))
        if self.read == "dictionary":
            return {"rate": y.mean(0), "logits": self.head(y[-1].flatten(1))}
        if self.read == "maximum":
            return y.max(0).values
        if self.read == "v":
            return self.body.last.v
        if self.read == "rate and v":
            return y.mean(0) + self.body.last.v
        if self.read == "v through a layer":
            return self.head(self.body.last.v.flatten(1))
        if self.read == "v_seq":
            return self.body.last.v_seq.mean(0)
        return y
