"""Make a Loihi-integer network faster for the native library: synapse and neurons become one operator, ``snn.CubaBlock``.

In an exported file the sums of a convolution go through memory as float32, four bytes for each neuron and time step, and so do
the spikes. ``CubaBlock`` adds up 8-bit weights where spikes are and passes the sums on to the neurons in registers; between
blocks, spikes are bytes with the channels last. The spikes are the same: whole numbers have one sum.

``CubaBlock`` exists in the native library alone, so an optimised model is for a session and not for a file.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from ..files.model_file import numbers, read_graph
from ..operators import CUBA_LIF, DOMAIN, RECURRENT_CUBA_LIF

__all__ = ["optimize", "unfused"]

Array: TypeAlias = npt.NDArray[Any]
_Features: TypeAlias = tuple[int, ...]

_LANES = 16  # outputs that the kernel computes together (block_lanes in native/kernels/tile.h)
_MOST_INPUTS = 1 << 17  # of one neuron: their sum of products up to 127 * 128 stays inside 32 bits
_STEPS_AT_ONCE, _MOST_SCRATCH = (
    32,
    1 << 24,
)  # time steps of which a task holds its input, and the bytes for that (native/contract.h)
_MOST_DILATION = 16  # a band of rows is read again for each row of neurons: gaps in it are work for nothing
_DEPTH = 4  # operators between a stored weight and the synapse; more than a file has that is not made to keep us busy
_WINDOW = ("kernel", "stride", "padding", "dilation")


@dataclass(frozen=True)
class _Synapse:
    """What stands before a neuron.

    Args:
        source: the spikes that it reads, before any Reshape.
        flat: the same as ``[T, N, F]``, for a dense synapse; else None.
        weight: ``[O, C, h, w]``, or ``[O, F]`` for a dense synapse.
        window: kernel, stride, padding and dilation, along height and width.
        features: ``(O, H, W)`` or ``(O,)`` of the sums.
    """

    source: ir.Value
    flat: ir.Value | None
    weight: Array
    window: tuple[tuple[int, int], ...]
    features: _Features


def optimize(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a ``CubaBlock`` in place of every convolution or dense synapse that feeds a ``CubaLIF``.

    What does not fit is left as it is: recurrent layers, grouped convolutions, weights that are not even whole numbers in
    -256 … 254, neurons with states that go in or out, shapes that the file leaves open, windows that are mostly padding or
    gaps or would need much memory for a row of neurons. Names of inputs and outputs stay.

    Args:
        model: a Loihi-integer network; it is not changed.

    Returns:
        A model for sessions with the native library; ``model`` itself where there is nothing to do.
    """
    if not any(node.domain == DOMAIN and node.op_type == CUBA_LIF.name for node in model.graph.node):
        return model
    graph_model = read_graph(model)
    fuser = _Fuser(graph_model.graph)
    try:
        if not fuser.run():
            return model
        common.RemoveUnusedNodesPass()(graph_model)
        fuser.drop_unread_floats()
        return ir.to_proto(graph_model)
    except (IndexError, TypeError, ValueError, ir.serde.SerdeError):
        # Fewer inputs, attributes of other types than the operators have: onnxruntime says what is wrong with it.
        return model


def unfused(model: onnx.ModelProto) -> dict[str, str]:
    """Which ``CubaLIF`` of ``model`` :func:`optimize` leaves as they are.

    Returns:
        By the name of the value that holds their spikes, why.
    """
    fuser = _Fuser(read_graph(model).graph)
    fuser.run()
    return fuser.reasons


class _Fuser:
    """One walk over the graph, in order."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._features: dict[ir.Value, _Features] = {}
        self._packed: dict[ir.Value, ir.Value] = {}  # spikes as floats -> as bytes
        self.reasons: dict[str, str] = {}  # by the spikes of neurons that stay as they are
        for value in graph.inputs:
            if (features := _static(value)) is not None:
                self._features[value] = features

    def run(self) -> bool:
        """Whether anything was fused."""
        for node in list(self._graph):
            if node.domain != DOMAIN or node.op_type != CUBA_LIF.name:
                self._follow(node)
                continue
            self._note_features(node)
            synapse = self._synapse(node)
            bias = None if synapse is None else _bias(node, synapse.features)
            if synapse is not None and bias is not None and self._stateless(node):
                self._fuse(node, synapse, bias)
            if node.graph is self._graph:
                self.reasons[node.outputs[0].name or ""] = self._reason(node)
        return bool(self._packed)

    def drop_unread_floats(self) -> None:
        """Where only other blocks read a block's spikes, bytes are enough."""
        for spikes, packed in self._packed.items():
            block = packed.producer()
            if block is not None and not spikes.uses() and not spikes.is_graph_output():
                block.resize_outputs(1)

    def _note_features(self, node: ir.Node) -> None:
        """A neuron has as many outputs as inputs, whether it is fused or not."""
        sums = node.inputs[0]
        if sums is not None and sums in self._features:
            self._features[node.outputs[0]] = self._features[sums]

    def _follow(self, node: ir.Node) -> None:
        """What spikes and sums pass between two neurons that may become blocks."""
        features = self._followed(node, [value for value in node.inputs if value is not None])
        if features is not None:
            self._features[node.outputs[0]] = features

    def _followed(self, node: ir.Node, inputs: list[ir.Value]) -> _Features | None:
        """The features of what ``node`` gives: recurrent neurons, sums, spikes added to spikes, delays (steps of zeros and a cut
        in time), and new shapes."""
        known = [self._features[value] for value in inputs if value in self._features]
        if node.domain == DOMAIN and node.op_type == RECURRENT_CUBA_LIF.name and len(inputs) > 1:
            weight = _constant(inputs[1])
            return None if weight is None or weight.ndim != 2 else weight.shape[:1]
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "MatMul" and known and len(known[0]) == 1:
            weight = _constant(inputs[1])
            return None if weight is None or weight.ndim != 2 else weight.shape[1:]
        if node.op_type == "Add" and len(known) == 2 and known[0] == known[1]:
            return known[0]
        if node.op_type == "Concat" and known and node.attributes.get_int("axis", -1) == 0:
            return known[0]
        if node.op_type == "Slice" and len(node.inputs) == 4 and inputs[0] in self._features:
            axes = _constant(inputs[3])
            return known[0] if axes is not None and axes.tolist() == [0] else None
        if node.op_type == "Reshape" and len(inputs) == 2:
            target = _constant(inputs[1])
            if target is None:
                return self._unfolded(node)
            kept = known and target.ndim == 1 and len(target) > 2 and not target[:2].any() and target[2:].min() > 0
            return tuple(target[2:].tolist()) if kept and np.prod(target[2:]) == np.prod(known[0]) else None
        return None

    def _stateless(self, node: ir.Node) -> bool:
        given = any(value is not None for value in node.inputs[2:])
        wanted = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
        return not given and not wanted

    def _reason(self, node: ir.Node) -> str:
        """Why the neurons of ``node`` stay as they are."""
        if not self._stateless(node):
            return "states go into them or out"
        producer = _only_for(node, node.inputs[0])
        if producer is None:
            return "their sums are read elsewhere as well, or are no synapse's"
        reshaped = producer.op_type == "Reshape"
        synapse = _only_for(producer, producer.inputs[0]) if reshaped else producer
        kind = "nothing" if synapse is None else synapse.op_type
        if kind not in ("Conv", "MatMul") or (kind == "MatMul") == reshaped:
            return (
                "they add up several synapses" if kind == "Add" else f"{kind} before {producer.op_type} is no synapse of a block"
            )
        if kind == "Conv" and synapse is not None and synapse.attributes.get_int("group", 1) != 1:
            return "the convolution has groups"
        found = self._synapse(node)
        if found is None:
            return (
                "the synapse reads spikes of an unknown shape, pads its sides differently or with most of a window, or has wide "
                "gaps, too much input for a row, or weights that are no constant"
            )
        if _bias(node, found.features) is None:
            return "their bias is not one whole number for each channel"
        return "the weights are not even whole numbers in -256 ... 254, or too many"

    def _synapse(self, node: ir.Node) -> _Synapse | None:
        sums = node.inputs[0]
        producer = _only_for(node, sums)
        if producer is None:
            return None
        if producer.op_type == "MatMul":
            return self._dense(producer)
        if producer.op_type == "Reshape":
            conv = _only_for(producer, producer.inputs[0])
            return None if conv is None or conv.op_type != "Conv" else self._convolution(conv, producer)
        return None

    def _convolution(self, conv: ir.Node, unfold: ir.Node) -> _Synapse | None:
        fold = _producer(conv.inputs[0])
        weight = _constant(conv.inputs[1])
        attributes = conv.attributes
        if fold is None or fold.op_type != "Reshape" or weight is None or weight.ndim != 4:
            return None
        if any(value is not None for value in conv.inputs[2:]) or attributes.get_int("group", 1) != 1:
            return None
        strides, dilations = attributes.get_ints("strides", [1, 1]), attributes.get_ints("dilations", [1, 1])
        pads = attributes.get_ints("pads", [0, 0, 0, 0])
        if attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or len(pads) != 4 or pads[:2] != pads[2:]:
            return None
        source, folded = fold.inputs[0], _constant(fold.inputs[1])
        features = self._features.get(source) if source is not None else None
        if source is None or folded is None or features is None or len(features) != 3 or folded.tolist() != [-1, *features]:
            return None
        kernel = weight.shape[2:]
        sides = zip(features[1:], kernel, strides, pads[:2], dilations, strict=True)
        size = [(length + 2 * pad - dilate * (k - 1) - 1) // step + 1 for length, k, step, pad, dilate in sides]
        if weight.shape[1] != features[0] or min(size) < 1 or self._unfolded(unfold) != (weight.shape[0], *size):
            return None
        window = tuple((int(pair[0]), int(pair[1])) for pair in (kernel, strides, pads, dilations))
        if not _is_compact(window, features):
            return None
        return _Synapse(source, None, weight, window, (weight.shape[0], *size))

    def _unfolded(self, reshape: ir.Node) -> _Features | None:
        """The features F where ``reshape`` gives ``[T, N, *F]``, with T and N read off the network's input."""
        target = _producer(reshape.inputs[1])
        if target is None or target.op_type != "Concat" or len(target.inputs) != 2:
            return None
        leading, rest = _producer(target.inputs[0]), _constant(target.inputs[1])
        if leading is None or leading.op_type != "Shape" or leading.inputs[0] not in self._graph.inputs or rest is None:
            return None
        whole = leading.attributes.get_int("start", 0) == 0 and leading.attributes.get_int("end", -1) == 2
        return tuple(rest.tolist()) if whole else None

    def _dense(self, matmul: ir.Node) -> _Synapse | None:
        flat, weight = matmul.inputs[0], _constant(matmul.inputs[1])
        if flat is None or weight is None or weight.ndim != 2:
            return None
        source = flat
        reshape = _producer(flat)
        if reshape is not None and reshape.op_type == "Reshape":
            target = _constant(reshape.inputs[1])
            if target is None or target.tolist() != [0, 0, weight.shape[0]] or reshape.inputs[0] is None:
                return None
            source = reshape.inputs[0]
        elif len(self._features.get(flat, ())) != 1:
            return None
        return _Synapse(source, flat, weight.T, ((1, 1), (1, 1), (0, 0), (1, 1)), (weight.shape[1],))

    def _fuse(self, node: ir.Node, synapse: _Synapse, bias: Array) -> None:
        weight, x = synapse.weight, self._packed.get(synapse.source)
        kernel, *window = synapse.window
        if weight.ndim == 2:  # over bytes, a kernel as large as the image, of one place
            outputs, channels = weight.shape
            if x is not None:
                channels, *image = self._features[synapse.source]
                kernel = (image[0], image[1]) if image else kernel
            weight = weight.reshape(outputs, channels, -1).transpose(0, 2, 1)
        else:
            outputs, channels = weight.shape[:2]
            weight = weight.transpose(0, 2, 3, 1)  # [O, h, w, C]
            joined = x is None and synapse.window[3][1] == 1  # the inputs of a row of the kernel lie side by side
            weight = weight.reshape(outputs, kernel[0] if joined else kernel[0] * kernel[1], -1)
        if not _fits(weight):
            return
        stem = node.name or node.outputs[0].name  # nodes need no name
        constants = [self._initializer(f"{stem}/packed_weight", _packed_weight(weight))]
        if bias.any():
            constants.append(self._initializer(f"{stem}/packed_bias", bias))
        attributes: dict[str, int] = {
            f"{name}_{side}": pair[axis]
            for name, pair in zip(_WINDOW, (kernel, *window), strict=True)
            for axis, side in enumerate(("height", "width"))
        }
        attributes |= {"dense": int(synapse.weight.ndim == 2), "channels": channels, "outputs": outputs}
        largest = np.abs(weight).sum(axis=(1, 2), dtype=np.float64).max() * (127 if x is None else 1)
        attributes["small_sums"] = int(largest < 2**17)
        attributes |= {attribute.name: node.attributes[attribute.name].as_int() for attribute in CUBA_LIF.attributes}
        read = x if x is not None else synapse.flat if synapse.flat is not None else synapse.source
        spikes = node.outputs[0]
        block = ir.node("CubaBlock", [read, *constants], attributes, domain=DOMAIN, num_outputs=2, name=f"{stem}/CubaBlock")
        packed, real = block.outputs
        packed.name = f"{stem}/packed"
        real.shape, real.type = spikes.shape, spikes.type
        ir.convenience.replace_nodes_and_values(self._graph, node, [node], [block], [spikes], [real])
        self._features[real] = synapse.features
        self._packed[real] = packed

    def _initializer(self, name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _static(value: ir.Value) -> _Features | None:
    """The dimensions behind time and batch, where the file fixes them."""
    if value.shape is None or len(value.shape) < 3:
        return None
    dims = list(value.shape)[2:]
    known = [dim for dim in dims if isinstance(dim, int)]
    return tuple(known) if len(known) == len(dims) and min(known) > 0 else None


def _producer(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.domain in ("", "ai.onnx") else None


def _only_for(node: ir.Node, value: ir.Value | None) -> ir.Node | None:
    """The standard operator that makes ``value``, if nobody but ``node`` wants it."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return _producer(value)


def _constant(value: ir.Value | None, depth: int = _DEPTH) -> Array | None:
    """What ``value`` is in every run: an initializer, or one behind Cast and Mul, as weights are stored."""
    if value is None or value.is_graph_input() or depth == 0:
        return None
    if value.const_value is not None:
        return _numbers(value.const_value)
    node = _producer(value)
    if node is None:
        return None
    if node.op_type == "Constant" and "value" in node.attributes and node.attributes["value"].type == ir.AttributeType.TENSOR:
        return _numbers(node.attributes["value"].as_tensor())
    operands = [_constant(operand, depth - 1) for operand in node.inputs] if node.op_type in ("Cast", "Mul") else []
    if not operands or operands[0] is None:
        return None
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == ir.DataType.FLOAT:
        return operands[0].astype(np.float32)
    if node.op_type == "Mul" and len(operands) == 2 and operands[1] is not None:
        with np.errstate(all="ignore"):  # what ends up not finite is no weight of 8 bits
            return np.asarray(operands[0] * operands[1]) if min(operands[0].size, operands[1].size) == 1 else None
    return None


def _numbers(tensor: ir.TensorProtocol) -> Array | None:
    """What is stored, unless it is broken, of which onnxruntime will know more."""
    try:
        values = numbers(tensor)
    except ValueError:
        return None
    return values if values.dtype.kind in "iuf" and np.isfinite(values).all() else None


def _bias(node: ir.Node, features: _Features) -> Array | None:
    """The neuron's bias, one whole number a channel; zeros where it has none, None where it cannot be said like that."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return np.zeros(features[0], np.int32)
    given = _constant(node.inputs[1])
    if given is None or given.ndim > len(features) or np.abs(given.astype(np.float64)).max(initial=0) >= 2**24:
        return None
    whole = given.astype(np.int32).reshape((1,) * (len(features) - given.ndim) + given.shape)
    if whole.shape[0] not in (1, features[0]) or whole[0].size != 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(whole.reshape(-1), features[:1]))


def _is_compact(window: tuple[tuple[int, int], ...], features: _Features) -> bool:
    """Whether a row of neurons reads a bounded part of its input ``[C, H, W]``, and little besides it."""
    reach = [(kernel - 1) * dilation + 1 for kernel, dilation in zip(window[0], window[3], strict=True)]
    padding = window[2]
    if any(pad >= length for pad, length in zip(padding, reach, strict=True)) or max(window[3]) > _MOST_DILATION:
        return False
    return (features[2] + 2 * padding[1]) * features[0] * reach[0] * _STEPS_AT_ONCE <= _MOST_SCRATCH


def _fits(runs: Array) -> bool:
    """Whether these are halves of 8 bits and few enough for 32-bit sums: weights ``[O, runs, inputs side by side]``."""
    in_range = runs.min() >= -256 and runs.max() <= 254
    return bool(in_range and (runs % 2 == 0).all() and runs[0].size <= _MOST_INPUTS)


def _packed_weight(runs: Array) -> Array:
    """``[O, runs, n]`` → int8 halves ``[O / 16, groups of four, 16, 4]``, filled up with zeros."""
    outputs, count, inputs = runs.shape
    padded = np.zeros((-(-outputs // _LANES) * _LANES, count, -(-inputs // 4) * 4), np.int8)
    padded[:outputs, :, :inputs] = runs // 2
    return padded.reshape(-1, _LANES, count * padded.shape[2] // 4, 4).transpose(0, 2, 1, 3)
