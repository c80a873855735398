"""Read an ONNX model into a :class:`~onnx2lava.network.Network`.

The graph is walked once, in order. Every value on the way is one of three things:

* a constant: an initializer, or what follows from constants alone (weights behind Cast, Mul, Transpose, …; shapes);
* a signal: spikes of the input or of a block, or the sums that a synapse made of them, in some arrangement of time, batch
  and features;
* something that could not be understood, which is an error only if a signal meets it.

Shapes with unknown time and batch are followed as numbers: T and N are replaced by two large primes, so that a Reshape, however
its target was computed, shows by its numbers what it does. Node names are never asked for a meaning, only for the blocks' names.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from custom_ops.errors import ModelFileError
from custom_ops.model_file import read_model
from custom_ops.operators import DOMAIN, OPERATORS, VERSION

from .constants import FOLDABLE, fold
from .errors import ConversionError, NetworkError
from .limits import UNITY_DECAY
from .network import INPUT, Array, Block, Conv, CubaNeuron, Dense, Network, Shape, Synapse

__all__ = ["load"]

_STEPS, _SAMPLES = 65537, 65539  # stand in for T and N where the file leaves them open: primes beyond any layer's size
_STANDARD_DOMAINS = ("", "ai.onnx")
_ROOM_FACTOR, _ROOM = 32, 2**26  # bytes of computed weights for each byte of the file, and for any file
_NUMBERS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64)


@dataclass(frozen=True)
class _Signal:
    """Spikes, or the sums that a synapse made of them.

    Args:
        source: the block whose spikes these are, or :data:`INPUT`.
        dims: the shape as it is at this place, with the stand-ins for T and N. A Reshape may say anything that keeps the
            order of the elements; whether time, batch and features are where they belong is checked by whoever reads them.
        features: the shape of one sample at one time step, ``(C, H, W)`` or ``(F,)``.
        synapse: what was applied to the spikes; None while they are spikes.
        bias: what was added to the sums, one per channel.
        source_shape: the features of the spikes before the synapse.
    """

    source: str
    dims: tuple[int, ...]
    features: Shape
    synapse: Synapse | None = None
    bias: Array | None = None
    source_shape: Shape = ()


_Value: TypeAlias = Array | _Signal | str  # a string says why a value is neither constant nor signal
_Inputs: TypeAlias = Sequence[_Value | None]


def load(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Network:
    """Read a Loihi-integer ONNX model, as ``sj2onnx.export`` and ``to_onnx`` write it, or an equivalent one.

    Synapses may be Conv, Gemm or MatMul; weights may come through Cast, Mul, DequantizeLinear, Transpose, Reshape and the like;
    time and batch may be folded in any way that Reshape, Flatten, Squeeze and Unsqueeze can say.

    Args:
        model: a path, the serialised bytes, or the model itself.

    Returns:
        The network; its weights and biases are int32.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: a node has no counterpart on the way to Loihi; the message names it.
        NetworkError: the layers contradict each other.
    """
    proto = read_model(model)
    log = logging.getLogger("onnx_ir")
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)  # what it warns of is either harmless or becomes an error below
        graph_model = ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx-ir raises whatever it stumbles over in a broken file
        cause: BaseException = error
        while cause.__cause__ is not None:  # it wraps each error once per level of nesting
            cause = cause.__cause__
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ModelFileError(f"The model's graph is broken ({reason}): export it again.") from error
    finally:
        log.setLevel(level)
    version = graph_model.graph.opset_imports.get(DOMAIN, VERSION)
    if version != VERSION:
        raise ConversionError(
            f"The model uses version {version} of the operators {DOMAIN!r}, this program knows version {VERSION}: update it."
        )
    return _Reader(graph_model.graph, _ROOM_FACTOR * proto.ByteSize() + _ROOM).network(
        {entry.key: entry.value for entry in proto.metadata_props}
    )


class _Reader:
    """One walk through a graph."""

    def __init__(self, graph: ir.Graph, room: int) -> None:
        self._graph = graph
        self._room = room
        self._values: dict[ir.Value, _Value] = {}
        self._blocks: list[Block] = []
        self._input_shape = self._read_input()

    def network(self, metadata: dict[str, str]) -> Network:
        for node in self._graph:
            self._read_node(node)
        if not self._blocks:
            raise ConversionError(
                f"The model {self._graph.name!r} has no {DOMAIN} neuron: export a spiking network with sj2onnx.export."
            )
        self._check_output()
        return Network(self._graph.name or "", self._input_shape, tuple(self._blocks), metadata)

    def _read_input(self) -> Shape:
        inputs = [value for value in self._graph.inputs if value.name not in self._graph.initializers]
        if len(inputs) != 1:
            names = ", ".join(repr(value.name) for value in inputs)
            raise ConversionError(
                f"The model has {len(inputs)} inputs ({names}), but a network for Loihi has one, the spikes [T, N, *]: "
                "export it without states."
            )
        (value,) = inputs
        dims = [dim if isinstance(dim, int) else None for dim in value.shape or ()]
        if len(dims) not in (3, 5) or any(dim is None for dim in dims[2:]):
            raise ConversionError(
                f"The input {value.name!r} has the shape {value.shape}, but must be [T, N, C, H, W] or [T, N, F] with fixed "
                "features: export it with an example of such a shape."
            )
        features = tuple(dim for dim in dims[2:] if dim is not None)
        self._steps_and_samples = (dims[0] or _STEPS, dims[1] or _SAMPLES)
        self._values[value] = _Signal(INPUT, (*self._steps_and_samples, *features), features)
        return features

    def _read_node(self, node: ir.Node) -> None:
        if not isinstance(node.name or "", str):  # what older protobuf libraries make of it
            raise ModelFileError(f"The name {node.name!r} of a node is not UTF-8 text: export the model again.")
        inputs = [None if value is None else self._value(value) for value in node.inputs]
        if any(isinstance(value, _Signal) for value in inputs):
            result: _Value = self._apply(node, inputs)
        elif node.domain in _STANDARD_DOMAINS and node.op_type in FOLDABLE:
            result = fold(node, inputs)
            if isinstance(result, np.ndarray):
                self._take_room(node, result)
        else:
            result = f"{_described(node)} is not a constant that can be computed"
        for output in node.outputs[1:]:
            self._values[output] = f"it is a further output of {_described(node)}"
        if node.outputs:
            self._values[node.outputs[0]] = result

    def _value(self, value: ir.Value) -> _Value:
        if value not in self._values:
            # onnx-ir keeps an initializer's numbers with its value.
            tensor = value.const_value
            try:
                self._values[value] = "it has no origin in the graph" if tensor is None else tensor.numpy()
            except (ValueError, TypeError) as error:
                self._values[value] = f"the numbers of {value.name!r} are broken ({' '.join(str(error).split())})"
        return self._values[value]

    def _apply(self, node: ir.Node, inputs: _Inputs) -> _Value:
        """A node that reads a signal."""
        table = _NEURONS if node.domain == DOMAIN else _SIGNAL_OPS if node.domain in _STANDARD_DOMAINS else {}
        if node.op_type not in table:
            raise _refusal(node, "it has no counterpart on Loihi", "remove it, or put it outside of the exported network")
        if node.op_type == "Shape" and isinstance(inputs[0], _Signal):
            if max(inputs[0].dims) >= 2**63:
                raise _refusal(node, "its dimensions do not fit 64 bits", "export it again")
            dims = np.array(inputs[0].dims, np.int64)
            return dims[slice(_int(node, "start", 0), _int(node, "end", len(dims)))]
        if node.domain == DOMAIN:
            return self._neuron(node, inputs)
        return _SIGNAL_OPS[node.op_type](node, inputs)

    def _neuron(self, node: ir.Node, inputs: _Inputs) -> _Signal:
        signal = _signal(node, inputs, 0)
        if signal.synapse is None:
            raise _refusal(node, "its input is not the output of a synapse", "put a Conv, Gemm or MatMul before it")
        if signal.dims != (*self._steps_and_samples, *signal.features):
            raise _refusal(
                node, f"its input is [{_listed(signal.dims)}], not [T, N, {_listed(signal.features)}]", "export it time first"
            )
        if any(value is not None for value in inputs[2:]):
            raise _refusal(node, "it starts from given states", "export the network without states")
        neuron = _NEURONS[node.op_type](node)
        bias = _sum_of_biases(node, neuron, signal, inputs[1] if len(inputs) > 1 else None)
        synapse = replace(signal.synapse, weight=_integers(node, "weights", signal.synapse.weight))
        self._take_room(node, synapse.weight)
        name = (node.name or "").rpartition("/")[0] or f"layer{len(self._blocks)}"
        self._blocks.append(Block(name, synapse, neuron, signal.source_shape, bias, (signal.source,)))
        return _Signal(name, signal.dims, signal.features)

    def _take_room(self, node: ir.Node, array: Array) -> None:
        """A small file must not make us compute huge arrays, whatever it writes about."""
        self._room -= array.nbytes
        if self._room < 0:
            raise _refusal(node, "the weights computed up to here outgrow the file by far", "store weights as they are used")

    def _check_output(self) -> None:
        last = self._blocks[-1].name
        outputs = [self._value(value) for value in self._graph.outputs]
        if not outputs or not isinstance(outputs[0], _Signal) or outputs[0].synapse or outputs[0].source != last:
            raise ConversionError(
                f"The model's first output is not the spikes of its last spiking layer {last!r}: export the network up to there."
            )


# What follows reads one node that a signal passes.


def _identity(node: ir.Node, inputs: _Inputs) -> _Signal:
    return _signal(node, inputs, 0)


def _cast(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal = _signal(node, inputs, 0)
    if _int(node, "to", 0) not in _NUMBERS:
        raise _refusal(node, "it casts to a type that does not hold all sums", "cast to float32")
    return signal


def _reshape(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal = _signal(node, inputs, 0)
    dims = [int(dim) for dim in _constant(node, inputs, 1).reshape(-1)]
    if not _int(node, "allowzero", 0):
        dims = [signal.dims[axis] if dim == 0 and axis < len(signal.dims) else dim for axis, dim in enumerate(dims)]
    known = prod(dim for dim in dims if dim != -1)
    if dims.count(-1) == 1 and known > 0:
        dims[dims.index(-1)] = prod(signal.dims) // known
    return _rearranged(node, signal, tuple(dims))


def _flatten(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal = _signal(node, inputs, 0)
    axis = _int(node, "axis", 1)
    return _rearranged(node, signal, (prod(signal.dims[:axis]), prod(signal.dims[axis:])))


def _squeeze(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal = _signal(node, inputs, 0)
    if len(inputs) > 1:
        axes = {int(axis) % len(signal.dims) for axis in _constant(node, inputs, 1).reshape(-1)}
    else:
        axes = {axis for axis, dim in enumerate(signal.dims) if dim == 1}
    return _rearranged(node, signal, tuple(dim for axis, dim in enumerate(signal.dims) if axis not in axes))


def _unsqueeze(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal = _signal(node, inputs, 0)
    new = _constant(node, inputs, 1).reshape(-1)
    rank = len(signal.dims) + len(new)
    axes = {int(axis) % rank for axis in new}
    rest = iter(signal.dims)
    return _rearranged(node, signal, tuple(1 if axis in axes else next(rest, -1) for axis in range(rank)))


def _rearranged(node: ir.Node, signal: _Signal, dims: tuple[int, ...]) -> _Signal:
    if prod(dims) != prod(signal.dims) or min(dims, default=-1) < 0:
        raise _refusal(node, f"its target shape {_listed(dims)} does not hold its input", "export it with T and N left open")
    return replace(signal, dims=dims)


def _conv(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal, weight, bias = _synapse_inputs(node, inputs)
    if len(signal.dims) != 4 or weight.ndim != 4:
        raise _refusal(node, "it is not a two-dimensional convolution with time folded into the batch", "use Conv2d")
    strides, dilations = _pair(node, "strides", 1), _pair(node, "dilations", 1)
    padding = _padding(node, signal.dims[2:], weight.shape[2:], strides, dilations)
    synapse = Conv(weight, strides, padding, dilations, _int(node, "group", 1))
    return _sums(node, signal, synapse, signal.dims[1:], bias)


def _padding(
    node: ir.Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, int]:
    mode = _attribute(node, node.attributes.get_string, "auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-length // max(step, 1)) - 1) * step + dilate * (k - 1) + 1 - length, 0)
            for length, k, step, dilate in zip(size, kernel, strides, dilations, strict=True)
        ]
        upper, lower = [-(-total // 2) for total in totals], [total // 2 for total in totals]
        pads = [*lower, *upper] if mode == "SAME_UPPER" else [*upper, *lower]
    else:
        pads = list(_attribute(node, node.attributes.get_ints, "pads", [0, 0, 0, 0]))
    if len(pads) != 4 or pads[:2] != pads[2:]:
        raise _refusal(node, f"its padding {pads} differs between the sides, which NetX cannot say", "pad both sides alike")
    return pads[0], pads[1]


def _gemm(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal, weight, bias = _synapse_inputs(node, inputs)
    if len(signal.dims) != 2 or weight.ndim != 2 or _int(node, "transA", 0):
        raise _refusal(node, "it does not multiply folded spikes [T * N, F] by a matrix", "use Linear")
    weight = np.asarray(weight if _int(node, "transB", 0) else weight.T) * _float(node, "alpha", 1.0)
    return _sums(node, signal, Dense(weight), signal.dims[1:], None if bias is None else bias * _float(node, "beta", 1.0))


def _matmul(node: ir.Node, inputs: _Inputs) -> _Signal:
    signal, weight, _ = _synapse_inputs(node, inputs)
    if weight.ndim != 2:
        raise _refusal(node, "its second input is not a matrix", "use Linear")
    return _sums(node, signal, Dense(weight.T), signal.dims[-1:], None)


def _add(node: ir.Node, inputs: _Inputs) -> _Signal:
    """A bias that was not given to the synapse itself."""
    at = next(index for index, value in enumerate(inputs) if isinstance(value, _Signal))
    signal = _signal(node, inputs, at)
    if signal.synapse is None or isinstance(inputs[1 - at], _Signal):
        raise _refusal(node, "it adds up spikes or the sums of two synapses", "convert a network without skip connections")
    if signal.dims[-len(signal.features) :] != signal.features:
        raise _refusal(node, "it adds to sums that are not arranged by channel", "give the bias to the synapse")
    bias = _per_channel(node, _constant(node, inputs, 1 - at), signal.features)
    return replace(signal, bias=bias if signal.bias is None else signal.bias + bias)


def _synapse_inputs(node: ir.Node, inputs: _Inputs) -> tuple[_Signal, Array, Array | None]:
    signal = _signal(node, inputs, 0)
    if signal.synapse is not None:
        raise _refusal(node, "it follows another synapse without a neuron between", "put a neuron between the two")
    bias = _constant(node, inputs, 2).reshape(-1) if len(inputs) > 2 and inputs[2] is not None else None
    return signal, _constant(node, inputs, 1), bias


def _sums(node: ir.Node, signal: _Signal, synapse: Synapse, read: tuple[int, ...], bias: Array | None) -> _Signal:
    """``synapse`` applied to ``signal``, of which it sees the last dimensions ``read`` at a time."""
    fits = read == signal.features if isinstance(synapse, Conv) else prod(read) == prod(signal.features)
    if not fits:
        raise _refusal(
            node,
            f"it reads [{_listed(read)}] where one time step of one sample is [{_listed(signal.features)}]",
            "fold only time and batch",
        )
    try:
        features = synapse.output_shape(signal.features)
    except NetworkError as error:
        raise _refusal(node, str(error), "export it again") from error
    if bias is not None and bias.size != features[0]:
        raise _refusal(node, f"its bias has {bias.size} values for {features[0]} channels", "export it again")
    dims = signal.dims[: len(signal.dims) - len(read)] + features
    return _Signal(signal.source, dims, features, synapse, bias, signal.features)


def _per_channel(node: ir.Node, bias: Array, features: Shape) -> Array:
    """A bias that is broadcast to ``[..., *features]`` as one number per channel."""
    rank = len(features)
    leading, own = bias.shape[: max(bias.ndim - rank, 0)], bias.shape[max(bias.ndim - rank, 0) :]
    own = (1,) * (rank - len(own)) + own
    if prod(leading) != 1 or own[0] not in (1, features[0]) or prod(own[1:]) != 1:
        raise _refusal(node, f"its bias has the shape {bias.shape}, not one number per channel", "use a bias of [C, 1, 1]")
    return np.broadcast_to(bias.reshape(-1), features[:1])


def _sum_of_biases(node: ir.Node, neuron: CubaNeuron, signal: _Signal, given: _Value | None) -> Array | None:
    """The neuron's bias, or None where it is zero.

    A synapse's bias enters the current u, not the voltage v. Where u keeps nothing from step to step, that is the same.
    """
    total = np.zeros(signal.features[:1], np.int64)
    if given is not None:
        total = total + _integers(node, "bias", _per_channel(node, _constant(node, [given], 0), signal.features))
    if signal.bias is not None and signal.bias.any():
        if neuron.i_decay != UNITY_DECAY:
            raise _refusal(
                node, "its synapse has a bias, which its current would integrate", "give the bias to the neuron instead"
            )
        total = total + _integers(node, "bias", signal.bias)
    return _integers(node, "bias", total) if total.any() else None


def _integers(node: ir.Node, what: str, values: Array) -> Array:
    whole = np.rint(values)
    if not (whole == values).all() or np.abs(whole).max() >= 2**31:
        raise _refusal(node, f"its {what} are not whole numbers", "train it with sj2onnx.BlockContainer, which quantises")
    return whole.astype(np.int32)


def _signal(node: ir.Node, inputs: _Inputs, index: int) -> _Signal:
    value = inputs[index] if index < len(inputs) else None
    if not isinstance(value, _Signal):
        raise _refusal(node, "it reads spikes elsewhere than at its first input", "export it again")
    return value


def _constant(node: ir.Node, inputs: _Inputs, index: int) -> Array:
    value = inputs[index] if index < len(inputs) else None
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iuf":
            raise _refusal(node, f"its input {index} is of the type {value.dtype}, not numbers", "store it as float32")
        return value
    reason = value if isinstance(value, str) else "it is made of spikes" if isinstance(value, _Signal) else "it is missing"
    raise _refusal(node, f"its input {index} is not a constant: {reason}", "store weights and shapes in the file")


def _int(node: ir.Node, name: str, default: int) -> int:
    return int(_attribute(node, node.attributes.get_int, name, default))


def _float(node: ir.Node, name: str, default: float) -> float:
    return float(_attribute(node, node.attributes.get_float, name, default))


def _pair(node: ir.Node, name: str, default: int) -> tuple[int, int]:
    values = list(_attribute(node, node.attributes.get_ints, name, [default, default]))
    if len(values) != 2:
        raise _refusal(node, f"its attribute {name} is {values}, not two numbers", "use Conv2d")
    return int(values[0]), int(values[1])


def _attribute(node: ir.Node, read: Callable[..., Any], name: str, default: Any) -> Any:
    try:
        value = read(name, default)
    except TypeError as error:
        raise _refusal(node, f"its attribute {name} is of another type", "export it again") from error
    return default if value is None else value


def _listed(dims: Sequence[int]) -> str:
    return ", ".join({_STEPS: "T", _SAMPLES: "N", _STEPS * _SAMPLES: "T*N"}.get(dim, str(dim)) for dim in dims)


def _described(node: ir.Node) -> str:
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"the node {node.name!r} ({operator})"


def _refusal(node: ir.Node, reason: str, remedy: str) -> ConversionError:
    return ConversionError(f"Cannot convert {_described(node)}: {reason}; {remedy}.")


_SIGNAL_OPS: dict[str, Callable[[ir.Node, _Inputs], _Signal]] = {
    "Add": _add,
    "Cast": _cast,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Shape": _identity,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


def _cuba_neuron(node: ir.Node) -> CubaNeuron:
    values = {}
    for attribute in OPERATORS["CubaLIF"].attributes:
        value = _attribute(node, node.attributes.get_int, attribute.name, None)
        if value is None or not attribute.range[0] <= value <= attribute.range[1]:
            low, high = attribute.range
            raise _refusal(node, f"its attribute {attribute.name} is {value}, not in {low:g} ... {high:g}", "export it again")
        values[attribute.name] = value
    return CubaNeuron(**values)


_NEURONS: dict[str, Callable[[ir.Node], CubaNeuron]] = {"CubaLIF": _cuba_neuron}
"""Neuron operators of the domain ``snn`` and what they become."""
