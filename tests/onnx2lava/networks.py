"""Random networks to test with, chains and graphs, and how to compare two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod, sqrt

import numpy as np
from hypothesis import strategies as st

from onnx2lava.errors import NetworkError
from onnx2lava.network import (
    INPUT,
    Array,
    Conv,
    ConvTranspose,
    CubaNeuron,
    Dense,
    Edge,
    FloatNeuron,
    Input,
    Map,
    Network,
    Neuron,
    Pads,
    Population,
    Shape,
    Sparse,
)

IF = CubaNeuron(4096, 0, 300)
"""Current gone after one step, voltage kept: what SpikingJelly's IFNode becomes."""
LEAKY = CubaNeuron(1024, 256, 500)

_RATE = 0.4  # of the spikes that come in


def weights(rng: np.random.Generator, *shape: int) -> Array:
    """Even numbers, more of them above 0 than below: neurons that are inhibited on the whole stay silent."""
    return 2 * rng.integers(-90, 128, shape, dtype=np.int32)


def biases(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(1, 60, shape, dtype=np.int32) * rng.choice([-1, 1], shape).astype(np.int32)


def build(
    input_shape: Shape,
    layers: Sequence[tuple[Map, CubaNeuron, bool]],
    seed: int = 0,
    delays: Sequence[int] = (),
    feedback: Mapping[int, Array] | None = None,
    bits: int = 0,
) -> Network[CubaNeuron]:
    """A chain of layers; the third entry of each says whether it has a bias.

    Args:
        delays: of the first layers.
        feedback: by the index of a layer, the matrix through which its own spikes come back.
        bits: those of the counts that come in.
    """
    rng = np.random.default_rng(seed)
    populations: list[Population[CubaNeuron]] = []
    shape, source = input_shape, INPUT
    for index, (map_, neuron, biased) in enumerate(layers):
        name = f"conv_fc.{index}"
        shape = map_.output_shape(shape)
        edges = [Edge(source, map_, delays[index] if index < len(delays) else 0)]
        if feedback and index in feedback:
            edges.append(Edge(name, Dense(feedback[index]), 1))
        bias = biases(rng, shape[0]) if biased else None
        populations.append(Population(name, shape, neuron, tuple(edges), bias))
        source = name
    inputs = {INPUT: Input(input_shape, bits)}
    return Network("test", inputs, tuple(populations), (source,), {"sj2lava.step_mode": "m"})


@dataclass(frozen=True, eq=False)
class RunningSum(Map):
    """Each neuron hears all places up to its own: a kind of map that no target has heard of."""

    kind = "running sum"

    def output_shape(self, shape: Shape) -> Shape:
        if shape != self.weight.shape:
            raise NetworkError(f"a running sum of {self.weight.shape} places cannot read spikes of the shape {shape}")
        return shape

    @property
    def fan_in(self) -> int:
        return len(self.weight)

    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        self.output_shape(shape)
        rows, columns = np.tril_indices(len(self.weight))
        return rows, columns, self.weight[columns]


def chains() -> dict[str, Network[CubaNeuron]]:
    """One chain for each form that layers take together."""
    rng = np.random.default_rng(7)
    pool = Conv(np.full((4, 1, 2, 2), 64, np.int32), (2, 2), groups=4)
    return {
        "conv, pool, dense": build(
            (2, 6, 6),
            [
                (Conv(weights(rng, 4, 2, 3, 3), pads=(1, 1, 1, 1)), IF, False),
                (pool, IF, False),
                (Dense(weights(rng, 8, 36)), LEAKY, False),
                (Dense(weights(rng, 3, 8)), IF, False),
            ],
        ),
        "dense": build((5,), [(Dense(weights(rng, 7, 5)), IF, False), (Dense(weights(rng, 4, 7)), LEAKY, True)]),
        "strided, dilated, grouped, odd, biased": build(
            (3, 9, 7),
            [
                (Conv(weights(rng, 6, 1, 3, 2), (2, 1), (1, 0, 1, 0), (1, 2), 3), LEAKY, True),
                (Conv(weights(rng, 4, 3, 2, 3), (1, 2), (0, 1, 0, 1), (2, 1), 2), IF, True),
                (Dense(weights(rng, 5, 36)), LEAKY, True),
            ],
        ),
        "dense on images": build((2, 3, 4), [(Dense(weights(rng, 6, 24)), IF, True)]),
        "one convolution": build((1, 4, 5), [(Conv(weights(rng, 2, 1, 2, 2)), LEAKY, False)]),
        "recurrent": build(
            (1, 4, 5),
            [
                (Conv(weights(rng, 2, 1, 2, 2)), IF, True),
                (Dense(weights(rng, 9, 24)), IF, True),
                (Dense(weights(rng, 6, 9)), LEAKY, False),
            ],
            feedback={1: weights(rng, 9, 9), 2: weights(rng, 6, 6)},
        ),
        "delayed": build((6,), [(Dense(weights(rng, 9, 6)), IF, True), (Dense(weights(rng, 7, 9)), LEAKY, True)], delays=(1, 2)),
    }


def unusual_chains() -> dict[str, Network[CubaNeuron]]:
    """Chains of what NetX and slayer have no layer for; their targets rewrite them."""
    rng = np.random.default_rng(8)
    return {
        "unevenly padded": build(
            (2, 5, 4),
            [
                (Conv(weights(rng, 3, 2, 2, 3), (1, 2), (0, 1, 1, 2)), IF, True),
                (Conv(weights(rng, 2, 3, 3, 2), pads=(2, 0, 0, 1), dilation=(2, 1)), LEAKY, False),
            ],
        ),
        "upsampled": build(
            (2, 3, 4),
            [
                (Conv(weights(rng, 2, 2, 1, 1)), IF, False),
                (ConvTranspose(weights(rng, 2, 2, 3, 2), (2, 3), (1, 0, 0, 1)), LEAKY, True),
                (ConvTranspose(weights(rng, 2, 1, 2, 2), dilation=(2, 1), groups=2), IF, False),
                (Dense(weights(rng, 4, 2 * 8 * 11)), IF, False),
            ],
        ),
        "an image out of a matrix": _network(
            {INPUT: Input((6,))},
            _population("seen", (2, 3, 4), Edge(INPUT, Dense(weights(rng, 24, 6))), bias=biases(rng, 2)),
            _population("conv", (3, 3, 4), Edge("seen", Conv(weights(rng, 3, 2, 3, 3), pads=(1, 1, 1, 1)))),
            _population("last", (4,), Edge("conv", Dense(weights(rng, 4, 36)))),
        ),
        "a vector read as an image": _network(
            {INPUT: Input((12,))},
            _population("conv", (3, 2, 3), Edge(INPUT, Conv(weights(rng, 3, 2, 2, 2), pads=(1, 0, 0, 1)), reads=(2, 2, 3))),
            _population("flat", (5,), Edge("conv", Dense(weights(rng, 5, 18)))),
            _population("image", (2, 1, 5), Edge("flat", Conv(np.array([[[[120]]], [[[-60]]]])), reads=(1, 1, 5))),
        ),
        "a delayed convolution": build(
            (2, 4, 4),
            [(Conv(weights(rng, 3, 2, 2, 2)), IF, True), (Conv(weights(rng, 2, 3, 3, 2)), LEAKY, False)],
            delays=(1, 3),
        ),
        "a bias for each neuron": _network(
            {INPUT: Input((2, 4, 3))},
            _population("conv", (3, 3, 2), Edge(INPUT, Conv(weights(rng, 3, 2, 2, 2))), bias=biases(rng, 3, 3, 2)),
            _population("last", (4,), Edge("conv", Dense(weights(rng, 4, 18)))),
        ),
        "counts": build(
            (4,), [(Dense(weights(rng, 7, 4)), CubaNeuron(4096, 300, 9000), True), (Dense(weights(rng, 5, 7)), IF, False)], bits=6
        ),
        "a current that stays": build((5,), [(Dense(weights(rng, 6, 5)), CubaNeuron(0, 1000, 3000), True)]),
    }


def graphs() -> dict[str, Network[CubaNeuron]]:
    """Networks that are no chains."""
    rng = np.random.default_rng(9)
    shared = Conv(weights(rng, 2, 3, 3, 3), pads=(1, 1, 1, 1))
    same = (3, 5, 4)
    return {
        "spikes added before a synapse": _network(
            {INPUT: Input((2, 5, 4))},
            _population("stem", same, Edge(INPUT, Conv(weights(rng, 3, 2, 3, 3), pads=(1, 1, 1, 1)))),
            _population("conv", same, Edge("stem", Conv(weights(rng, 3, 3, 3, 3), pads=(1, 1, 1, 1))), bias=biases(rng, 3)),
            _population("after", (2, 5, 4), Edge("stem", shared), Edge("conv", shared)),
            _population("last", (4,), Edge("after", Dense(weights(rng, 4, 40))), neuron=CubaNeuron(4096, 0, 2000)),
        ),
        "sums of synapses and concatenation": _network(
            {INPUT: Input((2, 5, 4))},
            _population("stem", same, Edge(INPUT, Conv(weights(rng, 3, 2, 3, 3), pads=(1, 1, 1, 1)))),
            _population(
                "sum",
                same,
                Edge("stem", Conv(weights(rng, 3, 3, 2, 2), pads=(1, 0, 0, 1))),
                Edge(INPUT, Conv(weights(rng, 3, 2, 1, 1))),
                bias=biases(rng, *same),
            ),
            _population("left", (3,), Edge("sum", Dense(weights(rng, 3, 60)))),
            _population("right", (2,), Edge("stem", Dense(weights(rng, 2, 60)), 1)),
            _population("last", (4,), Edge("left", Dense(weights(rng, 4, 3))), Edge("right", Dense(weights(rng, 4, 2)))),
        ),
        "two inputs and two outputs": _network(
            {"eyes": Input((1, 4, 4)), "ears": Input((5,), 4)},
            _population("seen", (2, 3, 3), Edge("eyes", Conv(weights(rng, 2, 1, 2, 2)))),
            _population("heard", (6,), Edge("ears", Dense(weights(rng, 6, 5))), neuron=CubaNeuron(4096, 100, 3000)),
            _population("both", (4,), Edge("seen", Dense(weights(rng, 4, 18))), Edge("heard", Dense(weights(rng, 4, 6)), 2)),
            _population("last", (3,), Edge("both", Dense(weights(rng, 3, 4))), Edge("ears", Dense(weights(rng, 3, 5)))),
            outputs=("last", "heard"),
        ),
        "up and down again": _network(
            {INPUT: Input((1, 4, 6))},
            _population("down", (3, 2, 3), Edge(INPUT, Conv(weights(rng, 3, 1, 2, 2), (2, 2)))),
            _population("low", (3, 2, 3), Edge("down", Conv(weights(rng, 3, 3, 3, 3), pads=(1, 1, 1, 1)))),
            _population(
                "up",
                (2, 4, 6),
                Edge("low", ConvTranspose(weights(rng, 3, 2, 2, 2), (2, 2))),
                Edge(INPUT, Conv(weights(rng, 2, 1, 1, 1))),
            ),
            _population("last", (1, 4, 6), Edge("up", Conv(weights(rng, 1, 2, 3, 3), pads=(1, 1, 1, 1)))),
        ),
        "feedback through a convolution": _network(
            {INPUT: Input((2, 3, 4))},
            _population(
                "heard",
                (2, 3, 4),
                Edge(INPUT, Conv(weights(rng, 2, 2, 3, 3), pads=(1, 1, 1, 1))),
                Edge("heard", Conv(weights(rng, 2, 2, 3, 3), pads=(1, 1, 1, 1)), 1),
                bias=biases(rng, 2),
            ),
            _population("last", (4,), Edge("heard", Dense(weights(rng, 4, 24)))),
        ),
        "a map of another kind": _network(
            {INPUT: Input((6,))},
            _population("first", (6,), Edge(INPUT, RunningSum(weights(rng, 6))), Edge(INPUT, Dense(weights(rng, 6, 6)), 2)),
            _population("last", (6,), Edge("first", RunningSum(weights(rng, 6))), bias=biases(rng, 6)),
        ),
    }


def loops() -> dict[str, Network[CubaNeuron]]:
    """Networks whose feedback passes other populations, or takes more than a step."""
    rng = np.random.default_rng(10)
    return {
        "a loop through two": _network(
            {INPUT: Input((4,))},
            _population("first", (5,), Edge(INPUT, Dense(weights(rng, 5, 4))), Edge("second", Dense(weights(rng, 5, 6)), 1)),
            _population("second", (6,), Edge("first", Dense(weights(rng, 6, 5)))),
        ),
        "late feedback": _network(
            {INPUT: Input((4,))},
            _population("heard", (5,), Edge(INPUT, Dense(weights(rng, 5, 4))), Edge("heard", Dense(weights(rng, 5, 5)), 3)),
        ),
    }


def examples() -> dict[str, Network[CubaNeuron]]:
    """All of the above but :func:`loops`, which onnxruntime does not run."""
    return chains() | unusual_chains() | graphs()


def _population(
    name: str, shape: Shape, *edges: Edge, bias: Array | None = None, neuron: CubaNeuron = IF
) -> Population[CubaNeuron]:
    return Population(name, shape, neuron, edges, bias)


def _network(
    inputs: Mapping[str, Input], *populations: Population[CubaNeuron], outputs: tuple[str, ...] = ()
) -> Network[CubaNeuron]:
    return Network("test", inputs, populations, outputs or (populations[-1].name,), {"sj2lava.step_mode": "m"})


@st.composite
def networks(draw: st.DrawFn) -> Network[CubaNeuron]:
    """Graphs of two to eight populations with everything that edges can say, feedback of a step among it, but no other loop."""
    growing = _Growing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    for name in ("input", "second.input")[: draw(st.sampled_from([1, 1, 2]))]:
        shape = draw(st.sampled_from([(4,), (6,), (12,), (1, 5, 4), (2, 4, 4), (3, 6, 5), (4, 1, 7)]))
        growing.inputs[name] = Input(shape, draw(st.sampled_from([0, 0, 0, 0, 3, 8])))
    # As likely large as small: what is drawn from a range tends to its ends, and to the lower one.
    for index in range(draw(st.sampled_from([8, 2, 5, 3, 7, 4, 6]))):
        growing.grow(f"layer.{index}")
    return growing.network()


@st.composite
def looping_networks(draw: st.DrawFn) -> Network[CubaNeuron]:
    """Graphs like those of :func:`networks`, with a loop through several populations or one that takes several steps."""
    network = draw(networks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = len(network.populations)
    first = draw(st.integers(0, count - 1))
    second = draw(st.integers(first, count - 1))
    into, out = network.populations[first], network.populations[second]
    edge = Edge(out.name, Dense(weights(rng, into.neurons, out.neurons)), draw(st.integers(1 + (first == second), 3)))
    into = replace(into, edges=(*into.edges, edge))
    return replace(network, populations=(*network.populations[:first], into, *network.populations[first + 1 :]))


@st.composite
def random_chains(draw: st.DrawFn, unusual: bool = False) -> Network[CubaNeuron]:
    """Chains of one to six layers with any kernel, stride, padding, dilation, groups, neuron, bias, feedback and delay.

    Args:
        unusual: whether forms of :func:`unusual_chains` are among them.
    """
    growing = _Growing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    channels = draw(st.integers(1, 4))
    sides = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    convolutions = draw(st.integers(0, 3))
    growing.inputs[INPUT] = Input((channels, *sides) if convolutions else (channels,), draw(st.sampled_from([0, 0, 0, 8])))
    for index in range(convolutions + draw(st.integers(0 if convolutions else 1, 3))):
        growing.extend(f"layer.{index}", dense=index >= convolutions, unusual=unusual)
    return growing.network()


@dataclass
class _Growing:
    """A network that becomes larger with what hypothesis draws."""

    draw: st.DrawFn
    rng: np.random.Generator
    inputs: dict[str, Input] = field(default_factory=dict)
    populations: list[Population[CubaNeuron]] = field(default_factory=list)

    def network(self) -> Network[CubaNeuron]:
        last = self.populations[-1].name
        # A file is read from its first output on: what does not reach that is no part of the network.
        needed = {last}
        for each in reversed(self.populations):
            if each.name in needed:
                needed |= {edge.source for edge in each.edges}
        others = [
            name for name in sorted(needed - {last} - set(self.inputs)) if len(self.inputs) > 1 and self.draw(st.booleans())
        ]
        outputs = (last, *others[:1])
        inputs = {name: given for name, given in self.inputs.items() if name in needed}
        populations = [each for each in self.populations if each.name in needed]
        if list(inputs) == ["second.input"]:  # the only one has one name
            inputs = {INPUT: inputs["second.input"]}
            populations = [
                replace(
                    each,
                    edges=tuple(replace(edge, source=INPUT) if edge.source == "second.input" else edge for edge in each.edges),
                )
                for each in populations
            ]
        return Network("test", inputs, tuple(populations), outputs, {"sj2lava.step_mode": "m"})

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of all that can be read."""
        return {name: given.shape for name, given in self.inputs.items()} | {each.name: each.shape for each in self.populations}

    def extend(self, name: str, dense: bool, unusual: bool) -> None:
        """A layer behind the last one."""
        source, shape = list(self.shapes.items())[-1]
        reads = None
        if dense and not unusual:
            map_: Map = self._dense(prod(shape), self.draw(st.integers(1, 5)))
            out = map_.output_shape(shape)
        else:
            map_, reads, out = self._map(shape) if unusual else (self._conv(shape, even=True), None, ())
            out = out or map_.output_shape(shape)
        delays = [0, 0, 0, 1, 3] if dense or unusual else [0]
        edges = [Edge(source, map_, self.draw(st.sampled_from(delays)), reads)]
        if len(out) == 1 and self.draw(st.booleans()) and not edges[0].delay:
            edges.append(Edge(name, Dense(weights(self.rng, *out, *out)), 1))
        self._add(name, out, edges, whole_bias=unusual)

    def grow(self, name: str) -> None:
        """A population of one to three sources, and maybe itself."""
        shapes = self.shapes
        names = list(shapes)
        source = names[-1] if self.draw(st.integers(0, 3)) else self.draw(st.sampled_from(names))
        map_, reads, shape = self._map(shapes[source])
        edges = [Edge(source, map_, self._delay(), reads)]
        for _ in range(self.draw(st.sampled_from([0, 0, 1, 1, 2]))):
            other, delay = self.draw(st.sampled_from(names)), self._delay()
            if (other, delay) not in {(edge.source, edge.delay) for edge in edges}:
                edges.append(self._beside(edges[0], shapes, other, delay, shape))
        if not self.draw(st.integers(0, 3)):
            edges.append(Edge(name, self._feedback(shape), 1))
        self._add(name, shape, edges, whole_bias=True)

    def _delay(self) -> int:
        return self.draw(st.sampled_from([0, 0, 0, 0, 1, 3]))

    def _beside(self, first: Edge, shapes: Mapping[str, Shape], other: str, delay: int, shape: Shape) -> Edge:
        """One more edge into a population: through the map of the first, through one like it, or through a matrix."""
        read, own = first.reads or shapes[first.source], shapes[other]
        if prod(own) == prod(read) and self.draw(st.booleans()):
            return Edge(other, first.map, delay, None if own == read or isinstance(first.map, Dense) else read)
        if isinstance(first.map, Conv) and first.map.groups == 1 and len(own) == 3 and own[1:] == read[1:]:
            outputs, _, *kernel = first.map.weight.shape
            return Edge(other, replace(first.map, weight=weights(self.rng, outputs, own[0], *kernel)), delay)
        return Edge(other, self._dense(prod(own), prod(shape)), delay)

    def _feedback(self, shape: Shape) -> Map:
        if len(shape) == 3 and self.draw(st.booleans()):
            return Conv(weights(self.rng, shape[0], shape[0], 3, 3), pads=(1, 1, 1, 1))
        return self._dense(prod(shape), prod(shape))

    def _map(self, shape: Shape) -> tuple[Map, Shape | None, Shape]:
        """A map, the shape in which it reads a source of the shape ``shape``, and that of the population."""
        reads = None
        if len(shape) == 1 and self.draw(st.booleans()):
            rows = self.draw(st.sampled_from([size for size in (1, 2, 3) if shape[0] % size == 0]))
            shape = reads = (1, rows, shape[0] // rows)
        matrices = ["dense", "dense", "sparse"]
        kind = self.draw(st.sampled_from([*["conv"] * 6, *["transposed"] * 2, *matrices] if len(shape) == 3 else matrices))
        if kind in matrices:
            out = self.draw(st.sampled_from([(1,), (3,), (4,), (6,), (12,), (2, 3, 2), (1, 4, 4)]))
            return (self._dense if kind == "dense" else self._sparse)(prod(shape), prod(out)), reads, out
        map_ = self._conv(shape) if kind == "conv" else self._transposed(shape)
        return map_, reads, map_.output_shape(shape)

    def _dense(self, inputs: int, outputs: int) -> Dense:
        return Dense(weights(self.rng, outputs, inputs))

    def _sparse(self, inputs: int, outputs: int) -> Sparse:
        """Up to three entries a row."""
        width = min(self.draw(st.integers(1, 3)), inputs)
        columns = self.rng.random((outputs, inputs)).argsort(axis=1)[:, :width]
        columns[1:][self.rng.random(columns[1:].shape) < 0.2] = -1
        weight = np.where(columns < 0, 0, weights(self.rng, *columns.shape)).astype(np.int32)
        weight[0, 0] = weight[0, 0] or 2  # what reads nothing at all is refused
        return Sparse(weight, columns, inputs)

    def _conv(self, shape: Shape, even: bool = False) -> Conv:
        draw = self.draw
        groups = draw(st.sampled_from([d for d in range(1, shape[0] + 1) if shape[0] % d == 0]))
        kernel, before, after, dilation = [], [], [], []
        for size in shape[1:]:
            before.append(draw(st.integers(0, 2)))
            after.append(before[-1] if even else draw(st.sampled_from([before[-1], before[-1], 0, 1, 2])))
            padded = size + before[-1] + after[-1]
            kernel.append(draw(st.integers(1, min(5, padded))))
            dilation.append(draw(st.integers(1, min(3, max(1, (padded - 1) // (kernel[-1] - 1))))) if kernel[-1] > 1 else 1)
        stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        weight = weights(self.rng, groups * draw(st.integers(1, 3)), shape[0] // groups, *kernel)
        pads: Pads = (before[0], before[1], after[0], after[1])
        return Conv(weight, stride, pads, (dilation[0], dilation[1]), groups)

    def _transposed(self, shape: Shape) -> ConvTranspose:
        draw = self.draw
        groups = draw(st.sampled_from([d for d in range(1, shape[0] + 1) if shape[0] % d == 0]))
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        kernel, pads = [], []
        for size, step in zip(shape[1:], stride, strict=True):
            kernel.append(draw(st.integers(1, 3)))
            room = (size - 1) * step + kernel[-1] - 1
            pads.append((draw(st.integers(0, min(1, room))), draw(st.integers(0, min(1, max(0, room - 1))))))
        weight = weights(self.rng, shape[0], draw(st.integers(1, 2)), *kernel)
        return ConvTranspose(weight, stride, (pads[0][0], pads[1][0], pads[0][1], pads[1][1]), groups=groups)

    def _add(self, name: str, shape: Shape, edges: Sequence[Edge], whole_bias: bool) -> None:
        draw = self.draw
        bias = None
        if draw(st.booleans()):
            bias = biases(self.rng, *(shape if whole_bias and draw(st.booleans()) else shape[:1]))
        i_decay = draw(st.one_of(st.sampled_from([1, 4095, 4096]), st.integers(1, 4096)))
        v_decay = draw(st.one_of(st.sampled_from([0, 4096]), st.integers(0, 4096)))
        # A threshold of the size that sums have, or most populations would be silent.
        spread = sqrt(sum(self._power(edge) * _fan_in(edge.map) for edge in edges))
        threshold = round(spread * draw(st.sampled_from([0.0, 0.3, 0.6, 1.0, 2.0])))
        self.populations.append(Population(name, shape, CubaNeuron(i_decay, v_decay, min(threshold, 131071)), tuple(edges), bias))

    def _power(self, edge: Edge) -> float:
        """The mean of a squared spike or count."""
        given = self.inputs.get(edge.source)
        return _RATE * (given.largest**2 / 2 if given else 1)


def _fan_in(map_: Map) -> float:
    """The squared weights that a sum has on average."""
    outputs = map_.weight.shape[1] * map_.groups if isinstance(map_, ConvTranspose) else map_.weight.shape[0]
    return float(np.square(map_.weight.astype(np.float64)).sum()) / outputs


def changed(network: Network[Neuron], change: Callable[[Array], Array]) -> Network[Neuron]:
    """``network`` with all its weights changed; edges that share a map still do."""
    maps: dict[Map, Map] = {}

    def edge(each: Edge) -> Edge:
        if each.map not in maps:
            maps[each.map] = replace(each.map, weight=change(each.map.weight))
        return replace(each, map=maps[each.map])

    return replace(
        network,
        populations=tuple(replace(each, edges=tuple(map(edge, each.edges))) for each in network.populations),
    )


def on_grid(network: Network[CubaNeuron], scale: float = 64) -> Network[Neuron]:
    """The float network that ``quantize`` with this scale turns into ``network``, but that its current decays at once."""

    def real(each: Population[CubaNeuron]) -> Population[Neuron]:
        neuron = FloatNeuron(each.neuron.v_decay / 4096, (each.neuron.v_threshold + 1) / scale)
        bias = None if each.bias is None else (each.bias / scale).astype(np.float32)
        return replace(each, neuron=neuron, bias=bias)

    floats: Network[Neuron] = replace(network, populations=tuple(map(real, network.populations)))
    return changed(floats, lambda weight: (weight / scale).astype(np.float32))


@st.composite
def float_networks(draw: st.DrawFn, of: st.SearchStrategy[Network[CubaNeuron]] | None = None) -> Network[Neuron]:
    """Networks like those of ``of`` (:func:`random_chains`) in real numbers of all sizes, beside populations that are integers
    already."""
    network = draw(random_chains() if of is None else of)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    populations: list[Population[Neuron]] = []
    for each in network.populations:
        if not draw(st.integers(0, 3)):
            populations.append(each)
            continue
        size = draw(st.sampled_from([1e-3, 0.1, 1, 30]))
        neuron = FloatNeuron(
            draw(st.sampled_from([0.0, 0.5, 1 / 3, 1.0])),
            size * draw(st.sampled_from([0.3, 1.0, 7.0])),
            draw(st.sampled_from([1.0, 1.0, 0.25, 1 / 3])),
        )
        bias = None if each.bias is None else (size * 0.1 * rng.normal(size=each.bias.shape)).astype(np.float32)
        heavy = partial(_heavy_tailed, rng, size)
        maps = {edge.map: _with_weights(edge.map, heavy) for edge in each.edges}
        edges = tuple(replace(edge, map=maps[edge.map]) for edge in each.edges)
        populations.append(Population(each.name, each.shape, neuron, edges, bias))
    return Network(network.name, network.inputs, tuple(populations), network.outputs, network.metadata)


def _with_weights(map_: Map, make: Callable[[Array], Array]) -> Map:
    weight = make(map_.weight)
    return replace(map_, weight=np.where(map_.columns < 0, 0, weight) if isinstance(map_, Sparse) else weight)


def _heavy_tailed(rng: np.random.Generator, size: float, weight: Array) -> Array:
    values: Array = (size * rng.standard_t(3, weight.shape)).astype(np.float32)
    values.flat[0] = size  # NetX refuses dense weights without a positive one among them that are like no trained ones
    return values


def like_trained(seed: int = 0, decay: float = 0.0, bias: float = 0.0) -> Network[Neuron]:
    """A float network with weights as training leaves them: normal, smaller where there are more of them."""
    rng = np.random.default_rng(seed)
    populations: list[Population[Neuron]] = []
    shape, source = (2, 8, 8), INPUT
    for index, size in enumerate([(8, 2, 3, 3), (8, 8, 2, 2), (32, 128), (10, 32)]):
        # Whole multiples of 2**-12: all sums are exact in float32 and float64 alike.
        weight = (np.rint(rng.normal(0.2, 1.2, size) / np.sqrt(np.prod(size[1:])) * 4096) / 4096).astype(np.float32)
        pad = 1 - index
        map_ = Dense(weight) if len(size) == 2 else Conv(weight, (2, 2) if index == 1 else (1, 1), (pad, pad, pad, pad))
        shape = map_.output_shape(shape)
        values = (np.rint(bias * rng.normal(size=size[0]) * 4096) / 4096).astype(np.float32) if bias else None
        populations.append(Population(f"layer{index}", shape, FloatNeuron(decay, 1.0), (Edge(source, map_),), values))
        source = populations[-1].name
    return Network("trained", {INPUT: Input((2, 8, 8))}, tuple(populations), (source,))


def spikes(network: Network[Neuron], steps: int, samples: int, seed: int = 1) -> dict[str, Array]:
    """Random spikes, or counts, for each input."""
    rng = np.random.default_rng(seed)
    return {name: _given(rng, each, (steps, samples, *each.shape)) for name, each in network.inputs.items()}


def _given(rng: np.random.Generator, given: Input, shape: Shape) -> Array:
    fires = rng.random(shape) < _RATE
    counts = rng.integers(1, given.largest + 1, shape)
    return (fires * counts).astype(np.float32)


def assert_same(a: Network[Neuron], b: Network[Neuron]) -> None:
    assert dict(a.metadata) == dict(b.metadata)
    assert a.inputs == b.inputs
    assert a.outputs == b.outputs
    assert [each.name for each in a.populations] == [each.name for each in b.populations]
    assert_same_numbers(a, b)


def assert_same_numbers(a: Network[Neuron], b: Network[Neuron]) -> None:
    """The same but for names and metadata, and for the order in which the edges of a population come."""
    assert list(a.inputs.values()) == list(b.inputs.values())
    assert len(a.populations) == len(b.populations)
    places = [{name: place for place, name in enumerate(network.shapes)} for network in (a, b)]
    for one, other in zip(a.populations, b.populations, strict=True):
        assert (one.neuron, one.shape) == (other.neuron, other.shape)
        assert (one.bias is None) == (other.bias is None)
        assert one.bias is None or (one.bias_column() == other.bias_column()).all()
        edges, others = (
            sorted(each.edges, key=lambda edge: (place[edge.source], edge.delay))
            for each, place in zip((one, other), places, strict=True)
        )
        for edge, counterpart in zip(edges, others, strict=True):
            assert (places[0][edge.source], edge.delay) == (places[1][counterpart.source], counterpart.delay)
            assert_same_map(edge.map, counterpart.map)
            if not isinstance(edge.map, Dense):
                assert a.reads(edge) == b.reads(counterpart)


def assert_same_map(one: Map, other: Map) -> None:
    assert type(one) is type(other)
    assert one.weight.shape == other.weight.shape
    assert (one.weight == other.weight).all()
    for name in ("stride", "pads", "dilation", "groups"):
        assert getattr(one, name, None) == getattr(other, name, None)
