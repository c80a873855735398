"""Walk through a graph and find its layers.

The graph is walked once, in order. Every value on the way is one of three things:

* a constant: an initializer, or what follows from constants alone (weights behind Cast, Mul, Transpose, …; shapes);
* a signal: spikes of the input or of a layer, or what was made of them since, in some arrangement of time, batch and features;
* something that could not be understood, which is an error only if a signal meets it.

Shapes with unknown time and batch are followed as numbers: T and N are replaced by two large primes, so that a Reshape, however
its target was computed, shows by its numbers what it does. Node names are never asked for a meaning, only for the layers' names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from custom_ops.model_file import numbers
from custom_ops.operators import DOMAIN

from ..errors import ConversionError
from ..layers import Convolution, Layer, Linear, MaxPool, RealCubaNeuron, SpikingNeuron, Step
from ..network import INPUT, Array, CubaNeuron, FloatNeuron, Shape
from .arrangement import ARRANGEMENTS
from .constants import FOLDABLE, filled, fold
from .delays import DELAYS
from .neurons import NEURONS, PARTS
from .pooling import POOLING
from .recurrence import is_recurrent, read_recurrence
from .signal import (
    SAMPLES,
    STEPS,
    Filled,
    Inputs,
    Signal,
    SignalOperator,
    Value,
    constant,
    described,
    get_int,
    listed,
    refusal,
    signal_at,
)
from .synapses import SYNAPSES

__all__ = ["Found", "Part", "read", "read_part"]

_STANDARD_DOMAINS = ("", "ai.onnx")
_ROOM_FACTOR, _ROOM = 32, 2**26  # bytes of computed weights for each byte of the file, and for any file
_IMAGES = "images"
_BIASED = ("CubaLIF", "RecurrentCubaLIF")
_OPERATORS: Mapping[str, SignalOperator] = {**ARRANGEMENTS, **DELAYS, **SYNAPSES, **POOLING}


@dataclass(frozen=True)
class Found:
    """What a graph holds.

    Args:
        layers: each after its source, the last one the output.
        image: name of the graph's input.
        image_shape: its features.
        input_shape: features of the spikes that the first layer reads.
        spikes: name of the last layer's spikes.
        encoded: name of the spikes that images are turned into; None where spikes come in.
        decoded: name of the graph's output, if it is made of the last spikes; None if it is those spikes.
    """

    layers: tuple[Layer, ...]
    image: str
    image_shape: Shape
    input_shape: Shape
    spikes: str
    encoded: str | None
    decoded: str | None


@dataclass(frozen=True)
class Part:
    """A graph that is less than a layer: one synapse or one neuron.

    Args:
        input_shape: features of what comes in.
        steps: the maps from input to output, in order; empty where the graph is a neuron.
        neuron: None where the graph has none.
    """

    input_shape: Shape
    steps: tuple[Step, ...]
    neuron: CubaNeuron | SpikingNeuron | RealCubaNeuron | None


def read(model: ir.Model, size: int, *, images: bool = False, counts: bool = False) -> Found:
    """The layers of the graph of ``model``.

    Args:
        model: with the functions that the graph calls.
        size: of its file in bytes.
        images: whether what comes in has yet to be turned into spikes, by the first spiking layer.
        counts: whether counts of events come in.

    Raises:
        ConversionError, ModelFileError: see ``load``.
    """
    return _Reader(model, _ROOM_FACTOR * size + _ROOM, images, counts).found()


def read_part(model: ir.Model, size: int) -> Part:
    """The synapse or neuron that ``model`` is. What its numbers mean is up to whoever feeds it: real values, not only spikes.

    Raises:
        ConversionError, ModelFileError: see ``load``.
    """
    return _Reader(model, _ROOM_FACTOR * size + _ROOM, False, False).part()


class _Reader:
    """One walk through a graph."""

    def __init__(self, model: ir.Model, room: int, images: bool, counts: bool) -> None:
        self._graph = model.graph
        self._functions = {(function.domain, function.name): function for function in model.functions.values()}
        self._room = room
        self._counts = counts
        self._values: dict[ir.Value, Value] = {}
        self._layers: list[Layer] = []
        self._last: ir.Value | None = None
        self._encoded: ir.Value | None = None
        self._image = self._read_input(_IMAGES if images else INPUT)

    def found(self) -> Found:
        needed = _ancestors(self._graph.outputs[0]) if self._graph.outputs else set()
        readout = _behind_last_neuron(self._graph, needed)
        for node in self._graph:
            if node in needed and node not in readout:
                self._read_node(node)
        if not self._layers or self._last is None:
            more = " behind the one that turns images into spikes" if self._encoded is not None else ""
            raise ConversionError(
                f"The model {self._graph.name!r} has no {DOMAIN} neuron{more}: export a spiking network with sj2onnx.export."
            )
        output = self._graph.outputs[0]
        if readout:
            if all(node.op_type == "Identity" for node in readout):
                readout = set()
        elif self._value(output) is not self._values[self._last]:
            raise ConversionError(
                f"The model's first output is not made of the spikes of its last spiking layer {self._layers[-1].name!r}: "
                "export the network up to there."
            )
        return Found(
            tuple(self._layers),
            str(self._image.name),
            self._image_shape,
            self._layers[0].input_shape,
            str(self._last.name),
            None if self._encoded is None else str(self._encoded.name),
            str(output.name) if readout else None,
        )

    def part(self) -> Part:
        needed = _ancestors(self._graph.outputs[0]) if self._graph.outputs else set()
        neuron = None
        for node in self._graph:
            if node not in needed:
                continue
            if node.domain != DOMAIN or node.op_type not in PARTS:
                self._read_node(node)
                continue
            inputs = [None if value is None else self._value(value) for value in node.inputs]
            if neuron is not None or signal_at(node, inputs, 0).steps:
                raise refusal(node, "the graph is more than one neuron", "convert a whole network with to_slayer")
            if any(value is not None for value in inputs[1:]):
                raise refusal(node, "it has a bias or starts from given states", "export the neuron alone")
            neuron = PARTS[node.op_type](node)
            self._values[node.outputs[0]] = signal_at(node, inputs, 0)
        result = self._value(self._graph.outputs[0]) if self._graph.outputs else None
        if not isinstance(result, Signal) or self._layers or (neuron is not None and result.steps):
            raise ConversionError(
                f"The model {self._graph.name!r} is neither one synapse nor one neuron: convert a whole network with to_slayer."
            )
        if result.dims != (*self._steps_and_samples, *result.features):
            raise ConversionError(f"The model's output is [{listed(result.dims)}], not [T, N, *]: export it time first.")
        return Part(result.source_shape, result.steps, neuron)

    def _read_input(self, source: str) -> ir.Value:
        inputs = [value for value in self._graph.inputs if value.name not in self._graph.initializers]
        if len(inputs) != 1:
            names = ", ".join(repr(value.name) for value in inputs)
            raise ConversionError(
                f"The model has {len(inputs)} inputs ({names}), but a network for Loihi has one, the spikes [T, N, *]: "
                "export it without states."
            )
        (value,) = inputs
        dims = [dim if isinstance(dim, int) else None for dim in value.shape or ()]
        if len(dims) not in (3, 5) or any(dim is None for dim in dims[2:]) or any(dim is not None and dim < 0 for dim in dims):
            raise ConversionError(
                f"The input {value.name!r} has the shape {value.shape}, but must be [T, N, C, H, W] or [T, N, F] with fixed "
                "features: export it with an example of such a shape."
            )
        self._image_shape = tuple(dim for dim in dims[2:] if dim is not None)
        self._steps_and_samples = (dims[0] or STEPS, dims[1] or SAMPLES)
        shape, (steps, samples) = self._image_shape, self._steps_and_samples
        self._values[value] = Signal(source, (steps, samples, *shape), shape, shape, samples)
        return value

    def _read_node(self, node: ir.Node) -> None:
        inputs = [None if value is None else self._value(value) for value in node.inputs]
        if any(isinstance(value, Signal) for value in inputs):
            result: Value = self._apply(node, inputs)
        elif node.domain in _STANDARD_DOMAINS and node.op_type == "ConstantOfShape":
            result = filled(node, inputs)
        elif any(isinstance(value, Filled) for value in inputs):
            first = inputs[0] if node.op_type in ("Cast", "Identity") else None
            result = first if isinstance(first, Filled) else f"{described(node)} changes what is one number only"
        elif node.domain in _STANDARD_DOMAINS and node.op_type in FOLDABLE:
            result = fold(node, inputs)
            if isinstance(result, np.ndarray):
                self._take_room(node, result)
        else:
            result = f"{described(node)} is not a constant that can be computed"
        for output in node.outputs[1:]:
            self._values[output] = f"it is a further output of {described(node)}"
        if node.outputs:
            self._values[node.outputs[0]] = result

    def _value(self, value: ir.Value) -> Value:
        if value not in self._values:
            # onnx-ir keeps an initializer's numbers with its value.
            tensor = value.const_value
            try:
                self._values[value] = "it has no origin in the graph" if tensor is None else numbers(tensor)
            except ValueError as error:
                self._values[value] = f"the numbers of {value.name!r} are broken ({' '.join(str(error).split())})"
        return self._values[value]

    def _apply(self, node: ir.Node, inputs: Inputs) -> Value:
        """A node that reads a signal."""
        if node.domain == DOMAIN and node.op_type in NEURONS:
            return self._neuron(node, inputs)
        if node.domain == DOMAIN and node.op_type in PARTS:
            raise refusal(
                node, "it reads real numbers, not the whole sums of a synapse", "train both in one sj2onnx.BlockContainer"
            )
        function = self._functions.get((node.domain, node.op_type))
        if function is not None and is_recurrent(function):
            return self._recurrent(node, function, inputs)
        first = inputs[0] if inputs else None
        if node.op_type == "Shape" and node.domain in _STANDARD_DOMAINS and isinstance(first, Signal):
            return _shape(node, first)
        if node.domain not in _STANDARD_DOMAINS or node.op_type not in _OPERATORS:
            raise refusal(node, "it has no counterpart on Loihi", "remove it, or put it outside of the exported network")
        result = _OPERATORS[node.op_type](node, inputs)
        if len(result.steps) == 1 and isinstance(result.steps[0], MaxPool) and result.source != _IMAGES:
            return self._max_pool(node, result)
        return result

    def _neuron(self, node: ir.Node, inputs: Inputs) -> Signal:
        signal = signal_at(node, inputs, 0)
        if not signal.steps:
            raise refusal(node, "its input is not the output of a synapse", "put a Conv, Gemm or MatMul before it")
        if signal.dims != (*self._steps_and_samples, *signal.features):
            raise refusal(
                node, f"its input is [{listed(signal.dims)}], not [T, N, {listed(signal.features)}]", "export it time first"
            )
        neuron = NEURONS[node.op_type](node)
        recurrent = bias = None
        rest = list(inputs[1:])
        if node.op_type == "RecurrentCubaLIF":
            recurrent = _feedback(node, constant(node, rest[:1], 0), signal.features)
            rest = rest[1:]
        if node.op_type in _BIASED and rest and rest[0] is not None:
            bias = _per_channel(node, constant(node, rest, 0), signal.features)
        if any(value is not None for value in rest[int(node.op_type in _BIASED) :]):
            raise refusal(node, "it starts from given states", "export the network without states")
        if signal.source == _IMAGES:
            return self._encode(node, signal)
        for step in signal.steps:
            if isinstance(step, Convolution | Linear):
                self._take_room(node, step.weight)
        return self._add(node, self._layer(node, signal, neuron, bias, recurrent), signal)

    def _recurrent(self, node: ir.Node, function: ir.Function, inputs: Inputs) -> Signal:
        """A function: a layer whose spikes come back, if it is any layer for Loihi."""
        signal = signal_at(node, inputs, 0)
        if signal.dims != (*self._steps_and_samples, *signal.features):
            raise refusal(
                node, f"its input is [{listed(signal.dims)}], not [T, N, {listed(signal.features)}]", "export it time first"
            )
        found = read_recurrence(node, function, signal.features, inputs)
        if signal.source == _IMAGES:
            return replace(self._encode(node, signal), dims=(*self._steps_and_samples, *found.shape), features=found.shape)
        self._take_room(node, found.weight)
        self._take_room(node, found.recurrent)
        steps = (*signal.steps, Linear(found.weight, found.bias))
        layer = self._layer(node, replace(signal, steps=steps), found.neuron, recurrent=found.recurrent)
        return self._add(node, layer, replace(signal, dims=(*self._steps_and_samples, *found.shape), features=found.shape))

    def _layer(
        self,
        node: ir.Node,
        signal: Signal,
        neuron: SpikingNeuron | FloatNeuron | CubaNeuron | None,
        bias: Array | None = None,
        recurrent: Array | None = None,
    ) -> Layer:
        name = self._name(node)
        return Layer(
            name, described(node), signal.source, signal.source_shape, signal.steps, neuron, bias, recurrent, signal.late
        )

    def _max_pool(self, node: ir.Node, signal: Signal) -> Signal:
        if signal.source == INPUT and self._counts:
            raise refusal(node, "it pools counts, of which only spikes have an OR", "put a synapse and a neuron before it")
        return self._add(node, self._layer(node, signal, None), signal)

    def _encode(self, node: ir.Node, signal: Signal) -> Signal:
        if self._encoded is not None:
            raise refusal(node, "it is the second layer that reads images", "let one spiking layer turn them into spikes")
        self._encoded = node.outputs[0]
        return Signal(INPUT, signal.dims, signal.features, signal.features, signal.samples)

    def _add(self, node: ir.Node, layer: Layer, signal: Signal) -> Signal:
        self._layers.append(layer)
        self._last = node.outputs[0]
        return Signal(layer.name, signal.dims, signal.features, signal.features, signal.samples)

    def _name(self, node: ir.Node) -> str:
        return (node.name or "").rpartition("/")[0] or f"layer{len(self._layers)}"

    def _take_room(self, node: ir.Node, array: Array) -> None:
        """A small file must not make us compute huge arrays, whatever it writes about."""
        self._room -= array.nbytes
        if self._room < 0:
            raise refusal(node, "the weights computed up to here outgrow the file by far", "store weights as they are used")


def _shape(node: ir.Node, signal: Signal) -> Array:
    if max(signal.dims) >= 2**63:
        raise refusal(node, "its dimensions do not fit 64 bits", "export it again")
    dims = np.array(signal.dims, np.int64)
    return dims[slice(get_int(node, "start", 0), get_int(node, "end", len(dims)))]


def _feedback(node: ir.Node, weight: Array, features: Shape) -> Array:
    """``[F, F]``, to the first axis from the second."""
    if weight.ndim != 2 or weight.shape != features * 2:
        raise refusal(node, f"its feedback has the shape {weight.shape} for {listed(features)} neurons", "export it again")
    return weight.T


def _per_channel(node: ir.Node, bias: Array, features: Shape) -> Array:
    """A bias that is broadcast to ``[..., *features]`` as one number per channel."""
    rank = len(features)
    leading, own = bias.shape[: max(bias.ndim - rank, 0)], bias.shape[max(bias.ndim - rank, 0) :]
    own = (1,) * (rank - len(own)) + own
    if prod(leading) != 1 or own[0] not in (1, features[0]) or prod(own[1:]) != 1:
        raise refusal(node, f"its bias has the shape {bias.shape}, not one number per channel", "use a bias of [C, 1, 1]")
    return np.broadcast_to(bias.reshape(-1), features[:1])


def _ancestors(value: ir.Value) -> set[ir.Node]:
    """All nodes that ``value`` is made of."""
    found: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            waiting += [each for each in node.inputs if each is not None]
    return found


def _behind_last_neuron(graph: ir.Graph, needed: set[ir.Node]) -> set[ir.Node]:
    """The nodes that are made of the spikes of the last neuron, if one neuron is the last."""
    neurons = [node for node in graph if node in needed and node.domain not in _STANDARD_DOMAINS]
    before: set[ir.Node] = set()
    for node in neurons:
        for value in node.inputs:
            if value is not None:
                before |= _ancestors(value)
    last = [node for node in neurons if node not in before]
    if len(last) != 1:
        return set()
    behind: set[ir.Node] = set()
    waiting = list(last)
    while waiting:
        for output in waiting.pop().outputs:
            new = {use.node for use in output.uses()} & needed - behind
            behind |= new
            waiting += new
    return behind
