"""Random networks in a loop over time that was unrolled, as a file has it: a copy of the loop's body for each time step."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from custom_ops.operators import DOMAIN, OPERATORS, OPSET, VERSION, Form

__all__ = ["SIZE", "Loop", "loops", "recurrent"]

SIZE = 4
"""Of every layer."""


@dataclass(frozen=True)
class Layer:
    """One layer of the loop.

    Args:
        reads: which values its synapses read, 0 for the input and from 1 on the layers, and how many time steps before: none of a
            layer before it, at least one of itself and later ones.
        weights: of each synapse.
        bias: of all of them.
        neuron: IF or LIF, with its attributes.
        pooled: whether an OR over pairs of neurons follows, as MaxPool is one, which then stands for its spikes.
    """

    reads: tuple[tuple[int, int], ...]
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray
    neuron: tuple[str, dict[str, float]]
    pooled: bool


@dataclass(repr=False)
class Loop:
    """A network under construction.

    Args:
        steps: of the loop.
        time: the input's axis of time steps, 0 or 1.
        joined: whether the spikes of the last layer are stacked, and not summed up.
        layers: of each step.
    """

    steps: int
    time: int
    joined: bool
    layers: tuple[Layer, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        each = [(layer.reads, layer.neuron, layer.pooled) for layer in self.layers]
        return f"Loop(steps={self.steps}, time={self.time}, joined={self.joined}, {each})"

    def model(self) -> onnx.ModelProto:
        """The file."""
        self.nodes.clear()
        zeros = self._add("ConstantOfShape", self._add("Concat", self._samples(), self._constant("size", [SIZE]), axis=0))
        values = [[self._step_of_input(t) for t in range(self.steps)], *([] for _ in self.layers)]
        states: list[str | None] = [None] * len(self.layers)
        for t in range(self.steps):
            for at, layer in enumerate(self.layers):
                total = ""
                for index, ((source, late), weight) in enumerate(zip(layer.reads, layer.weights, strict=True)):
                    spikes = values[source][t - late] if late <= t else zeros
                    part = self._add("MatMul", spikes, self._constant(f"w{at}_{index}", weight))
                    total = self._add("Add", total, part) if total else part
                current = self._add("Add", total, self._constant(f"b{at}", layer.bias))
                spikes, states[at] = self._neuron(at, layer, current, states[at], zeros)
                values[at + 1].append(self._pooled(spikes) if layer.pooled else spikes)
        last = values[-1]
        if self.joined:
            parts = [self._add("Unsqueeze", each, self._constant("axis", [self.time])) for each in last]
            output = self._add("Concat", *parts, axis=self.time)
        else:
            output = last[0]
            for each in last[1:]:
                output = self._add("Add", output, each)
        shape = [self.steps, "N"] if self.time == 0 else ["N", self.steps]
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [output], ["output"])],
            "unrolled",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [*shape, SIZE])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [*(shape if self.joined else ["N"]), SIZE])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        kinds = sorted({layer.neuron[0] for layer in self.layers})
        return helper.make_model(
            graph,
            functions=[OPERATORS[kind].function(Form(states=True)) for kind in kinds],
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            ir_version=10,
        )

    def _add(self, operator: str, *inputs: str, **attributes: object) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{output}/{operator}", **attributes))
        return output

    def _constant(self, name: str, value: object) -> str:
        array = np.asarray(value)
        self.constants[name] = array if array.dtype == np.int64 else array.astype(np.float32)
        return name

    def _samples(self) -> str:
        return self._add("Shape", "input", start=1 - self.time, end=2 - self.time)

    def _step_of_input(self, t: int) -> str:
        return self._add("Gather", "input", self._constant(f"t{t}", np.int64(t)), axis=self.time)

    def _neuron(self, at: int, layer: Layer, current: str, state: str | None, zeros: str) -> tuple[str, str]:
        kind, attributes = layer.neuron
        x, first = self._add("Unsqueeze", current, self._constant("first", [0])), len(self.nodes)
        outputs = [f"s{first}", f"u{first}"]
        self.nodes.append(
            helper.make_node(kind, [x, state or zeros], outputs, f"layer{at}/{kind}_{first}", domain=DOMAIN, **attributes)
        )
        return self._add("Squeeze", outputs[0], "first"), outputs[1]

    def _pooled(self, spikes: str) -> str:
        """The largest of each pair, twice each, so that there are as many again."""
        folded = self._add("Reshape", spikes, self._constant("pairs", np.array([-1, 1, SIZE])))
        largest = self._add("MaxPool", folded, kernel_shape=[2], strides=[2])
        flat = self._add("Reshape", largest, self._constant("flat", np.array([-1, SIZE // 2])))
        return self._add("Concat", flat, flat, axis=1)


NEURONS: tuple[tuple[str, dict[str, float]], ...] = (
    ("IF", {"v_threshold": 1.0, "v_reset": 0.0}),
    ("LIF", {"tau": 2.0, "decay_input": 0, "v_threshold": 1.0, "v_reset": 0.0}),
    ("LIF", {"tau": 2.0, "decay_input": 1, "v_threshold": 0.5, "v_reset": 0.0}),
)


def recurrent(late: int = 1) -> Loop:
    """One layer that hears itself, and one behind it."""
    rng = np.random.default_rng(3)
    weights = [rng.integers(-4, 7, (SIZE, SIZE)) / 8 for _ in range(3)]
    bias = np.full(SIZE, 0.25)
    layers = (
        Layer(((0, 0), (1, late)), tuple(weights[:2]), bias, NEURONS[1], False),
        Layer(((1, 0),), tuple(weights[2:]), bias, NEURONS[0], False),
    )
    return Loop(6, 0, True, layers)


@st.composite
def loops(draw: st.DrawFn) -> Loop:
    """One to three layers that hear any others, at once or up to three time steps later."""
    count = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    layers = []
    for at in range(1, count + 1):
        forward = (at - 1, draw(st.sampled_from([0, 0, 1])))
        others = st.integers(0, count).flatmap(
            lambda source, at=at: st.tuples(st.just(source), st.integers(int(source >= at), 3))
        )
        more = draw(st.lists(others, max_size=2, unique=True))
        reads = (forward, *(each for each in more if each != forward))
        weights = tuple(rng.integers(-4, 7, (SIZE, SIZE)) / 8 for _ in reads)
        layers.append(Layer(reads, weights, rng.integers(-1, 4, SIZE) / 8, draw(st.sampled_from(NEURONS)), draw(st.booleans())))
    return Loop(draw(st.integers(7, 9)), draw(st.integers(0, 1)), draw(st.booleans()), tuple(layers))
