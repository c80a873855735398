"""Random SpikingJelly networks: layers in any order, and graphs of them, with each pair of neighbours as often as any other.

Weights and norms are multiples of powers of two, so that all sums are exact and spikes can be compared one by one, but for those
of averages over other sizes; ``exact.py`` says which of their spikes depend on rounding.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import onnx
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from .emitting import Writer

__all__ = ["JOINS", "KINDS", "Bundle", "Graph", "Join", "Scaled", "chains", "graphs", "pairs"]

STEPS, SAMPLES = 5, 2
SHAPE = (2, 4, 2)
_MOST_NEURONS = 160


class Function(nn.Module):
    """What a network's ``forward`` does to a value, as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Scaled(nn.Module):
    """What ann2snn puts behind its neurons."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5


class _Swapped(nn.Module):
    """Both halves of the channels, the other way round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=2)
        return torch.cat([second, first], dim=2)


class Join(nn.Module):
    """One of :data:`JOINS` as a layer."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.function(x, y)


JOINS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "concatenate": lambda x, y: torch.cat([x, y], dim=2),
    "and": lambda x, y: x * y,
    "iand": lambda x, y: x * (1 - y),
    "or": lambda x, y: x + y - x * y,
    "or by clamp": lambda x, y: (x + y).clamp(max=1),
    "greater": lambda x, y: (x > y).to(x),
    "xor": lambda x, y: torch.logical_xor(x, y).to(x),
    "masked": lambda x, y: torch.where(y > 0, torch.zeros_like(x), x),
    "attend": lambda x, y: x @ y.transpose(-1, -2) @ y,
}
"""What joins two values; from ``and`` on, two of spikes, and but for the last one to spikes."""
OF_SPIKES = list(JOINS)[list(JOINS).index("and") :]


@dataclass(frozen=True)
class _Value:
    """What a step gives: its kind, its features, whether it is of spikes, and the values ``[T, N, *]`` of the example."""

    kind: str
    spikes: bool
    x: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[2:])


@dataclass(frozen=True)
class _Kind:
    """A kind of layer.

    Args:
        make: makes one for the features that it reads; None where it reads no such features.
        fires: whether it gives spikes.
        keeps: whether it gives spikes where it reads them.
    """

    make: Callable[[Random, tuple[int, ...]], nn.Module | None]
    fires: bool = False
    keeps: bool = False


def _of_maps(
    make: Callable[[Random, int, int], nn.Module], least: int = 2
) -> Callable[[Random, tuple[int, ...]], nn.Module | None]:
    """For maps ``(C, H, W)``: of the number of channels and of the smaller side."""
    return lambda random, shape: make(random, shape[0], min(shape[1:])) if len(shape) == 3 else None


def _of_vectors(make: Callable[[Random, int], nn.Module]) -> Callable[[Random, tuple[int, ...]], nn.Module | None]:
    return lambda random, shape: make(random, shape[0]) if len(shape) == 1 else None


def _conv(random: Random, channels: int, size: int) -> nn.Module:
    kernel = random.choice([k for k in (1, 2, 3) if k <= size])
    same = random.random() < 0.3
    groups = random.choice([1, channels])
    return layer.Conv2d(
        channels,
        groups * random.choice([1, 2]) if groups > 1 else random.choice([2, 3, 4]),
        kernel,
        stride=1 if same else random.choice([1, 1, 2]),
        padding="same" if same else random.choice([0, 1]),
        groups=groups,
        bias=random.random() < 0.5,
    )


def _transposed(random: Random, channels: int, size: int) -> nn.Module:
    return layer.ConvTranspose2d(channels, random.choice([1, 2]), random.choice([2, 3]), stride=2, bias=random.random() < 0.5)


def _pool(of: Callable[..., nn.Module], **options: Sequence[object]) -> Callable[[Random, tuple[int, ...]], nn.Module | None]:
    def make(random: Random, channels: int, size: int) -> nn.Module:
        kernel = random.choice([2, 2, 3]) if size > 2 else min(2, size)
        chosen = {name: random.choice(values) for name, values in options.items()}
        return of(kernel, random.choice([1, 2]), random.choice([0, kernel // 2]), ceil_mode=random.random() < 0.3, **chosen)

    return _of_maps(make)


def _neuron(random: Random, shape: tuple[int, ...]) -> nn.Module:
    options = {"v_reset": random.choice([0.0, 0.0, -0.25]), "surrogate_function": surrogate.ATan(), "detach_reset": True}
    leaky = random.choice([None, neuron.LIFNode, neuron.ParametricLIFNode])
    if leaky is None:
        return neuron.IFNode(**options)
    return leaky(2.0, decay_input=random.random() < 0.5, **options)


def _recurrent(random: Random, features: int) -> nn.Module:
    outputs = random.choice([2, 3, 5])
    inside = nn.Sequential(layer.Linear(features, outputs), _neuron(random, (outputs,)))
    return layer.LinearRecurrentContainer(inside, features, outputs)


def _element_wise(random: Random, shape: tuple[int, ...]) -> nn.Module:
    return layer.ElementWiseRecurrentContainer(_neuron(random, shape), random.choice([torch.add, torch.sub]))


KINDS: dict[str, _Kind] = {
    "Conv2d": _Kind(_of_maps(_conv)),
    "ConvTranspose2d": _Kind(_of_maps(_transposed)),
    "Linear": _Kind(lambda random, shape: layer.Linear(shape[-1], random.choice([2, 4, 6]), bias=random.random() < 0.5)),
    "Flatten": _Kind(_of_maps(lambda *_: layer.Flatten()), keeps=True),
    "BatchNorm2d": _Kind(_of_maps(lambda random, channels, _: layer.BatchNorm2d(channels))),
    "BatchNorm1d": _Kind(_of_vectors(lambda random, features: layer.SeqToANNContainer(nn.BatchNorm1d(features)))),
    "AvgPool2d": _Kind(_pool(layer.AvgPool2d, count_include_pad=[True, True, False])),
    "MaxPool2d": _Kind(_pool(layer.MaxPool2d), keeps=True),
    "AdaptiveAvgPool2d": _Kind(_of_maps(lambda *_: layer.AdaptiveAvgPool2d(1))),
    "Upsample": _Kind(_of_maps(lambda *_: layer.Upsample(scale_factor=2)), keeps=True),
    "ZeroPad2d": _Kind(_of_maps(lambda *_: layer.SeqToANNContainer(nn.ZeroPad2d((1, 0, 0, 2)))), keeps=True),
    "Dropout": _Kind(lambda random, shape: layer.Dropout(0.5), keeps=True),
    "Delay": _Kind(lambda random, shape: layer.Delay(random.choice([1, 2])), keeps=True),
    "Scaled": _Kind(lambda random, shape: Scaled()),
    "Swapped": _Kind(lambda random, shape: _Swapped() if shape[0] % 2 == 0 else None, keeps=True),
    "Neuron": _Kind(_neuron, fires=True),
}
"""Layers by their names."""

LOOPS: dict[str, _Kind] = {
    "LinearRecurrentContainer": _Kind(_of_vectors(_recurrent), fires=True),
    "ElementWiseRecurrentContainer": _Kind(_element_wise, fires=True),
}
"""Those whose spikes come back to them; the exporter takes seconds for each."""

FIRING = ("Neuron", *LOOPS)
"""Kinds that give spikes."""


@dataclass(eq=False)
class Graph:
    """A network under construction.

    Args:
        example: its input ``[T, N, *]``.
        values: of the example: the input, and then what each step gives.
        steps: a module for each further value, and which values it reads.
    """

    example: torch.Tensor
    values: list[_Value] = field(default_factory=list)
    steps: list[tuple[nn.Module, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values.append(_Value("input", True, self.example))

    def __repr__(self) -> str:
        return "; ".join(
            f"{value.kind}{reads}{value.shape}" for value, (_, reads) in zip(self.values[1:], self.steps, strict=True)
        )

    def add(self, kind: str, module: nn.Module, reads: tuple[int, ...], spikes: bool) -> None:
        """One more step; its neurons get a threshold that some of their sums reach."""
        functional.set_step_mode(module, "m")
        given = [self.values[index].x for index in reads]
        made = _settled(module.eval().double(), given)
        self.values.append(_Value(kind, spikes, made))
        self.steps.append((module, reads))

    def model(self) -> onnx.ModelProto:
        """Its file, as ``sj2onnx.export`` would write it; not with a recurrent container."""
        writer = Writer()
        made = ["input"]
        for at, (module, reads) in enumerate(self.steps):
            made.append(self._written(writer, at, module, [made[index] for index in reads]))
        return writer.model(made[-1], self.values[0].shape, self.values[-1].shape)

    def _written(self, writer: Writer, at: int, module: nn.Module, given: list[str]) -> str:
        read, made = self.values[self.steps[at][1][0]].shape, self.values[at + 1]
        if isinstance(module, Join):
            return writer.join(made.kind, *given)
        if isinstance(module, Scaled):
            return str(writer.node("Mul", *given, np.float32(0.5)))
        if isinstance(module, _Swapped):
            return writer.swapped(*given, read)
        if isinstance(module, layer.Delay):
            return writer.delay(*given, module.delay_steps, read)
        inside = module[0] if isinstance(module, layer.SeqToANNContainer) else module
        return writer.layer(f"steps.{at}", inside, *given, read, made.shape)

    def spiking(self, path: str = "") -> dict[str, int]:
        """Which values are those of spiking layers, by the name of the population where the network stands at ``path``."""
        return {f"{path}steps.{at - 1}": at for at, value in enumerate(self.values) if value.kind in FIRING}

    def expected(self, path: str = "") -> dict[str, torch.Tensor]:
        """The spikes ``[T, N, *]`` of each spiking layer, by the name of its population where the network stands at ``path``."""
        return {name: self.values[at].x.float() for name, at in self.spiking(path).items()}


class Bundle(nn.Module):
    """Networks that read the same input side by side, each with an output: one export, of which most of the time goes into
    its start, writes them all."""

    def __init__(self, graphs: Iterable[Graph]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(map(_Network, graphs)).float().eval()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(network(x) for network in self.networks)

    def outputs(self) -> list[str]:
        """Their names in the file."""
        return ["output", *(f"output.{index}" for index in range(1, len(self.networks)))]


class _Network(nn.Module):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.steps = nn.ModuleList(module for module, _ in graph.steps)
        self.reads = [reads for _, reads in graph.steps]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for step, reads in zip(self.steps, self.reads, strict=True):
            values.append(step(*(values[index] for index in reads)))
        return values[-1]


def _settled(module: nn.Module, given: list[torch.Tensor]) -> torch.Tensor:
    """What ``module`` makes of the values, with parameters that are multiples of powers of two and a threshold that is met."""
    generator = torch.Generator().manual_seed(sum(map(torch.numel, given)))
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.eps = 0.0
                for values, options in (
                    (each.running_var, (0.25, 1, 4)),
                    (each.running_mean, (0, 0.125)),
                    (each.bias, (0, 0.25, -0.5)),
                ):
                    values.copy_(
                        torch.tensor(options, dtype=torch.float64)[torch.randint(len(options), values.shape, generator=generator)]
                    )
            elif isinstance(each, nn.Linear | nn.modules.conv._ConvNd):
                fan_in = max(1, each.weight[0].numel())
                size = 2.0 ** round(torch.tensor(8 / fan_in**0.5).log2().item())
                each.weight.copy_((torch.randn(each.weight.shape, generator=generator, dtype=torch.float64) * size).round() / 8)
                if each.bias is not None:
                    each.bias.copy_((torch.randn(each.bias.shape, generator=generator, dtype=torch.float64) * 2).round() / 8)
        nodes = [each for each in module.modules() if isinstance(each, neuron.BaseNode)]
        for threshold in (1.0, 0.5, 2.0, 0.25, 4.0, 0.125, 0.0625, 8.0):
            for node in nodes:
                node.v_threshold = threshold
            functional.reset_net(module)
            found = module(*given)
            if not nodes or 0.05 < found.mean() < 0.95:
                break
        functional.reset_net(module)
    result: torch.Tensor = found
    return result


def chains(count: int, seed: int = 0) -> Iterator[Graph]:
    """Layers one after the other, in any order, sensible or not; of some the last ones are behind the last neuron."""
    return _networks(count, seed, KINDS, joins=0.0, readouts=0.5)


def graphs(count: int, seed: int = 0, *, loops: bool = False) -> Iterator[Graph]:
    """Two to eight steps, of which a third read two values: sums, differences, concatenations, products of spikes.

    Args:
        count: how many.
        seed: of all that is random.
        loops: whether some neurons are in recurrent containers, which only the exporter writes.
    """
    return _networks(count, seed, KINDS | (LOOPS if loops else {}), joins=0.35, readouts=0.0)


def pairs(graph: Graph) -> Iterator[tuple[str, str]]:
    """The kinds of all neighbours, in the order of reading."""
    for value, (_, reads) in zip(graph.values[1:], graph.steps, strict=True):
        yield from ((graph.values[index].kind, value.kind) for index in reads)


def _networks(count: int, seed: int, kinds: Mapping[str, _Kind], joins: float, readouts: float) -> Iterator[Graph]:
    random, seen = Random(seed), Counter[tuple[str, str]]()
    torch.manual_seed(seed)
    example = (torch.rand(STEPS, SAMPLES, *SHAPE) < 0.5).double()
    for _ in range(count):
        graph = Graph(example)
        for _ in range(random.choice([2, 3, 4, 5, 6, 7])):
            if not (random.random() < joins and _join(graph, random, seen)):
                _layer(graph, random, seen, kinds)
        fired = [value.kind in FIRING for value in graph.values]
        if not (fired[-1] or (any(fired) and random.random() < readouts)):
            graph.add("Neuron", _neuron(random, ()), (len(graph.steps),), spikes=True)
        yield graph


def _layer(graph: Graph, random: Random, seen: Counter[tuple[str, str]], kinds: Mapping[str, _Kind]) -> None:
    """A layer behind the last value: one of those that came behind such a one least often."""
    at = len(graph.steps)
    last = graph.values[at]
    for name in sorted(kinds, key=lambda name: (seen[last.kind, name], random.random())):
        kind = kinds[name]
        module = kind.make(random, last.shape)
        if module is None:
            continue
        graph.add(name, module, (at,), kind.fires or (kind.keeps and last.spikes))
        if graph.values[-1].x[0, 0].numel() <= _MOST_NEURONS:
            seen[last.kind, name] += 1
            return
        graph.values.pop()
        graph.steps.pop()


def _fits(join: str, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether values of these features can be joined, for most joins one of them perhaps repeated along some axes."""
    if join == "concatenate":
        return one[1:] == other[1:]
    if join == "attend":
        return len(one) == 3 and one == other
    return len(one) == len(other) and all(a == b or 1 in (a, b) for a, b in zip(one, other, strict=True))


def _join(graph: Graph, random: Random, seen: Counter[tuple[str, str]]) -> bool:
    """The last value with an earlier one."""
    at = len(graph.steps)
    last = graph.values[at]
    options = [
        (name, other)
        for name in JOINS
        for other, value in enumerate(graph.values[:-1])
        if _fits(name, value.shape, last.shape) and ((value.spikes and last.spikes) or name not in OF_SPIKES)
    ]
    if not options:
        return False
    name, other = min(options, key=lambda each: (seen["", each[0]], seen[last.kind, each[0]], random.random()))
    seen.update([("", name), (last.kind, name)])
    graph.add(
        name,
        Join(JOINS[name]),
        (other, at),
        name in OF_SPIKES[:-1] or (name == "concatenate" and last.spikes and graph.values[other].spikes),
    )
    return True
