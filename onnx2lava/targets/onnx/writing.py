"""Write a network as an ONNX model, runnable on any onnxruntime: Loihi's integers exactly, or real numbers."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import numpy as np
import onnx
import onnx.checker
from onnx import TensorProto, helper, numpy_helper

from custom_ops.loihi import THRESHOLD_MAX
from custom_ops.operators import (
    CUBA_LIF,
    DOMAIN,
    HETEROGENEOUS_CUBA_LIF,
    OPERATORS,
    OPSET,
    RECURRENT_CUBA_LIF,
    RECURRENT_HETEROGENEOUS_CUBA_LIF,
    VERSION,
    Form,
)
from custom_ops.version import __version__

from ...errors import ConversionError
from ...host import is_still
from ...network import (
    OUTPUT,
    Array,
    Conv,
    ConvTranspose,
    CubaNeuron,
    Dense,
    Edge,
    FloatNeuron,
    Kernel,
    Map,
    Network,
    Neuron,
    Population,
    Shape,
    Sparse,
)
from ...network.unrolling import matrices_but, unrolled
from ...read.onnx_file import BITS, NUMBERS, SEEN
from ..base import require
from ..limits import loihi
from ..loops import loops
from ..order import in_order
from .current_lif import CURRENT_LIF, RECURRENT_CURRENT_LIF, current_lif, recurrent_current_lif
from .recurrent_lif import RECURRENT_LIF, recurrent_lif

__all__ = ["to_onnx"]

_IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
_STEPS, _SAMPLES, _STEPS_AND_SAMPLES = "shared/steps", "shared/samples", "shared/steps_and_samples"
_DIMENSIONS = {_STEPS: (0, 1), _SAMPLES: (1, 2), _STEPS_AND_SAMPLES: (0, 2)}
_FIRST_STEP = "shared/first_step"
_TWO = "shared/two"
_NO_BIAS = "shared/no_bias"
_FUNCTIONS = {
    CURRENT_LIF: current_lif,
    RECURRENT_CURRENT_LIF: recurrent_current_lif,
    RECURRENT_LIF: recurrent_lif,
}
"""Neurons without an operator, by name."""


def to_onnx(network: Network[Neuron], *, outputs: Literal["last", "all"] = "last") -> onnx.ModelProto:
    """The network as an ONNX model, float32 ``[T, N, *]`` throughout.

    Its inputs are named as the network's; its output is ``output``, or, where there are several, each is named by its population.
    Weights of integer populations are stored once, as int8, half their value (they are even), and doubled by a ``Mul`` that
    runtimes fold away; those of real ones as float32. Edges that share a map add their spikes before it. Time is folded into the
    batch around each convolution. Feedback is an operator of its own and a matrix, whatever map it was.

    Args:
        network: Loihi's integers, real numbers, or both.
        outputs: ``"all"`` adds one output per population, named by it.

    Raises:
        LimitError: its integers do not fit Loihi's ranges, or it has a loop that no operator can run.
        ConversionError: its names do not fit ONNX.
    """
    require([*loihi(network), *loops(network, "ort", "onnxruntime")])
    network = matrices_but(network, (Conv, ConvTranspose, Sparse))
    graph = _GraphBuilder(network)
    for population in in_order(network):
        graph.add(population)
    shown = {name: network.shapes[name] for name in network.outputs}
    if len(shown) == 1:
        (name,) = shown
        shown = {OUTPUT: shown[name]}
        if name != OUTPUT:
            graph.node("Identity", [name], OUTPUT, OUTPUT)
    if outputs == "all":
        shown |= {each.name: each.shape for each in network.populations}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            network.name or "network",
            [_signal(name, given.shape) for name, given in network.inputs.items()],
            [_signal(name, shape) for name, shape in shown.items()],
            list(graph.initializers.values()),
        ),
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=graph.functions(),
        producer_name="sj2lava",
        producer_version=__version__,
    )
    helper.set_model_props(model, _noted(network))
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split())
        raise ConversionError(f"The network {network.name!r} cannot be said in ONNX ({reason}): rename its layers.") from error
    return model


def _noted(network: Network[Neuron]) -> dict[str, str]:
    """The network's metadata, as they are true of what the file reads: spikes or counts ``[T, N, *]``, no images."""
    noted = dict(network.metadata)
    bits = max(given.bits for given in network.inputs.values())
    if bits:
        noted |= {SEEN: "counts", BITS: str(bits)}
    elif SEEN in noted:
        noted[SEEN] = "spikes"
    if is_still(noted):
        noted |= {"sj2lava.time_axis": "0", "sj2lava.batch_axis": "1"}
    if any(given.numbers for given in network.inputs.values()):
        noted[NUMBERS] = "1"
    return noted


class _GraphBuilder:
    """Nodes and initializers of one graph as they come."""

    def __init__(self, network: Network[Neuron]) -> None:
        self.network = network
        self.form = Form(bias=any(isinstance(p.neuron, CubaNeuron) and p.bias is not None for p in network.populations))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._weights: dict[tuple[Map, bool], str] = {}
        if any(isinstance(each.neuron, CubaNeuron) for each in network.populations):
            self.constant(_TWO, np.float32(2))

    def constant(self, name: str, value: "np.generic | Array") -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def node(self, op_type: str, inputs: Sequence[str], output: str, name: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, domain=domain, **attributes))
        return output

    def _dimensions(self, name: str) -> str:
        """The first dimensions of an input, which are those of all signals: time steps, samples, or both."""
        if not any(name in node.output for node in self.nodes):
            start, end = _DIMENSIONS[name]
            self.node("Shape", [next(iter(self.network.inputs))], name, name, start=start, end=end)
        return name

    def functions(self) -> list[onnx.FunctionProto]:
        """The function bodies of the neurons in use."""
        used = sorted({node.op_type for node in self.nodes if node.domain == DOMAIN})
        integer = (CUBA_LIF.name, RECURRENT_CUBA_LIF.name)
        return [
            _FUNCTIONS[name]() if name in _FUNCTIONS else OPERATORS[name].function(self.form if name in integer else None)
            for name in used
        ]

    def add(self, population: Population[Neuron]) -> None:
        """The population's nodes; the value that holds its spikes has its name."""
        shared: dict[tuple[Map, Shape], list[Edge]] = {}
        for edge in population.edges:
            if edge.source != population.name:
                reads = self.network.reads(edge) if isinstance(edge.map, Kernel) else (-1,)
                shared.setdefault((edge.map, reads), []).append(edge)
        name = population.name
        sums = [self._sums(population, edges, f"{name}/{k}" if k else name) for k, edges in enumerate(shared.values())]
        total = sums[0] if sums else self._silence(population)
        for k, more in enumerate(sums[1:], 1):
            total = self.node("Add", [total, more], f"{name}/{k}/total", f"{name}/{k}/Add")
        self._neurons(population, total)

    def _silence(self, population: Population[Neuron]) -> str:
        """Sums of a population that hears nothing but itself."""
        zeros = self._unfolded_shape(population, f"{population.name}/silence")
        return self.node("ConstantOfShape", [zeros], f"{population.name}/sums", f"{population.name}/Silence")

    def _unfolded_shape(self, population: Population[Neuron], stem: str) -> str:
        """``[T, N, *shape]`` as a value."""
        features = self.constant(f"{stem}/features", np.array(population.shape, np.int64))
        leading = self._dimensions(_STEPS_AND_SAMPLES)
        return self.node("Concat", [leading, features], f"{stem}/unfolded_shape", f"{stem}/UnfoldShape", axis=0)

    def _sums(self, population: Population[Neuron], edges: Sequence[Edge], stem: str) -> str:
        """The sums ``[T, N, *shape]`` that edges with one map bring to the population."""
        (map_, reads) = edges[0].map, self.network.reads(edges[0])
        spikes, shape = self._added_spikes(edges, stem)
        weight = self._weight(map_, isinstance(population.neuron, CubaNeuron), stem)
        if isinstance(map_, Kernel):
            return self._folded(population, map_, reads, spikes, weight, stem)
        if len(shape) > 1:
            spikes = self._reshaped(spikes, (prod(shape),), stem, "flat")
        last = len(population.shape) == 1
        name = f"{stem}/sums" if last else f"{stem}/flat_sums"
        if isinstance(map_, Sparse):
            sums = self._gathered(map_, spikes, weight, name, stem)
        else:
            sums = self.node("MatMul", [spikes, weight], name, f"{stem}/MatMul")
        return sums if last else self._reshaped(sums, population.shape, stem, "sums")

    def _gathered(self, map_: Sparse, spikes: str, weight: str, name: str, stem: str) -> str:
        """The spikes ``[T, N, O, K]`` that the entries of each row read, times those, and added up."""
        columns = self.constant(f"{stem}.columns", np.maximum(map_.columns, 0))  # the weight is 0 where there is none
        read = self.node("Gather", [spikes, columns], f"{stem}/read", f"{stem}/Gather", axis=2)
        weighted = self.node("Mul", [read, weight], f"{stem}/weighted", f"{stem}/Mul")
        last = self.constant("shared/last_axis", np.array([-1], np.int64))
        return self.node("ReduceSum", [weighted, last], name, f"{stem}/ReduceSum", keepdims=0)

    def _added_spikes(self, edges: Sequence[Edge], stem: str) -> tuple[str, Shape]:
        """The sum of the sources' spikes, each as late as its edge says, and its shape behind time and samples."""
        shapes = [self.network.shapes[edge.source] for edge in edges]
        common = shapes[0]
        if len(set(shapes)) > 1:
            common = self.network.reads(edges[0]) if isinstance(edges[0].map, Kernel) else (prod(common),)
        total = ""
        for k, (edge, shape) in enumerate(zip(edges, shapes, strict=True)):
            part = f"{stem}/spikes_{k}" if k else stem
            spikes = self._delayed(edge, part) if edge.delay else edge.source
            if shape != common:
                spikes = self._reshaped(spikes, common, part, "arranged")
            total = self.node("Add", [total, spikes], f"{part}/added", f"{part}/Add") if total else spikes
        return total, common

    def _reshaped(self, value: str, shape: Shape, stem: str, what: str) -> str:
        # 0 keeps a dimension as it is: time and batch stay where they are, also when one of them is empty.
        target = self.constant(f"{stem}/{what}_shape", np.array([0, 0, *shape], np.int64))
        return self.node("Reshape", [value, target], f"{stem}/{what}", f"{stem}/{what.title()}")

    def _folded(
        self,
        population: Population[Neuron],
        map_: Kernel,
        reads: Shape,
        spikes: str,
        weight: str,
        stem: str,
    ) -> str:
        """A convolution, or its transpose, over all time steps and samples at once."""
        image = self.constant(f"{stem}/image_shape", np.array([-1, *reads], np.int64))
        folded = self.node("Reshape", [spikes, image], f"{stem}/folded", f"{stem}/Fold")
        sums = self._convolved(map_, folded, weight, stem)
        unfold = self._unfolded_shape(population, stem)
        return self.node("Reshape", [sums, unfold], f"{stem}/sums", f"{stem}/Unfold", allowzero=1)  # T or N may be 0

    def _convolved(self, map_: Kernel, folded: str, weight: str, stem: str) -> str:
        attributes: dict[str, Any] = {
            "kernel_shape": list(map_.weight.shape[2:]),
            "strides": list(map_.stride),
            "pads": [max(pad, 0) for pad in map_.pads],
            "dilations": list(map_.dilation),
            "group": map_.groups,
        }
        rest = [min(pad, 0) for pad in map_.pads]
        if isinstance(map_, Conv):
            folded = self._padded(folded, rest, stem) if any(rest) else folded
            return self.node("Conv", [folded, weight], f"{stem}/folded_sums", f"{stem}/Conv", **attributes)
        below = [-pad for pad in rest[2:]]
        if any(below) and all(low < step for low, step in zip(below, map_.stride, strict=True)):
            attributes["output_padding"], rest[2:] = below, [0, 0]
        sums = self.node("ConvTranspose", [folded, weight], f"{stem}/folded_sums", f"{stem}/ConvTranspose", **attributes)
        return self._padded(sums, [-pad for pad in rest], stem) if any(rest) else sums

    def _padded(self, image: str, pads: Sequence[int], stem: str) -> str:
        """With zeros around height and width; negative numbers take away."""
        top, left, bottom, right = pads
        amounts = self.constant(f"{stem}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        return self.node("Pad", [image, amounts], f"{stem}/padded", f"{stem}/Pad")

    def _delayed(self, edge: Edge, stem: str) -> str:
        """Steps of zeros before the spikes, and as many of the last ones cut off."""
        features = self.constant(f"{stem}/late_features", np.array(self.network.shapes[edge.source], np.int64))
        steps = self.constant(f"{stem}/late_steps", np.array([edge.delay], np.int64))
        before = self.node(
            "Concat", [steps, self._dimensions(_SAMPLES), features], f"{stem}/late_shape", f"{stem}/LateShape", axis=0
        )
        zeros = self.node("ConstantOfShape", [before], f"{stem}/late_zeros", f"{stem}/LateZeros")
        longer = self.node("Concat", [zeros, edge.source], f"{stem}/late_and_more", f"{stem}/Delay", axis=0)
        start = self.constant(_FIRST_STEP, np.zeros(1, np.int64))
        return self.node("Slice", [longer, start, self._dimensions(_STEPS), start], f"{stem}/late", f"{stem}/Cut")

    def _weight(self, map_: Map, whole: bool, stem: str) -> str:
        """The weight as a runtime wants it; a map that several edges share is stored once."""
        if (map_, whole) not in self._weights:
            # MatMul wants [I, O]
            weight = np.ascontiguousarray(map_.weight.T) if isinstance(map_, Dense) else map_.weight
            self._weights[map_, whole] = self._stored(weight, whole, stem, "weight")
        return self._weights[map_, whole]

    def _stored(self, weight: Array, whole: bool, stem: str, what: str) -> str:
        if not whole:
            return self.constant(f"{stem}.{what}", weight.astype(np.float32))
        if (weight % 2).any():
            low, high = int(weight.min()), int(weight.max())
            kind = np.int8 if low >= -128 and high <= 127 else np.int32
            stored = self.constant(f"{stem}.{what}", weight.astype(kind))
            return self.node("Cast", [stored], f"{stem}/{what}", f"{stem}/{what}/Cast", to=TensorProto.FLOAT)
        halves = weight // 2
        # Matrices of feedback that were added up may need more than 8 bits.
        small = halves.min() >= -128 and halves.max() <= 127
        stored = self.constant(f"{stem}.{what}", halves.astype(np.int8 if small else np.int32))
        real = self.node("Cast", [stored], f"{stem}/{what}_halves", f"{stem}/{what}/Cast", to=TensorProto.FLOAT)
        return self.node("Mul", [real, _TWO], f"{stem}/{what}", f"{stem}/{what}/Mul")

    def _neurons(self, population: Population[Neuron], sums: str) -> None:
        name = population.name
        if not population.feedback and not _is_current_based(population):
            self._fire(population, [sums], population.bias_column(), name)
        elif len(population.shape) == 1:
            self._fire(population, [sums, *self._feedback(population)], population.bias_column(), name)
        else:  # neurons of functions without a kernel, and those with feedback, are one axis
            sums = self._reshaped(sums, (population.neurons,), f"{name}/feedback", "sums")
            bias = np.broadcast_to(population.bias_column(), population.shape).reshape(-1)
            flat = self._fire(population, [sums, *self._feedback(population)], bias, f"{name}/flat_spikes")
            target = self.constant(f"{name}/spikes_shape", np.array([0, 0, *population.shape], np.int64))
            self.node("Reshape", [flat, target], name, f"{name}/Spikes")

    def _fire(self, population: Population[Neuron], inputs: list[str], bias: Array, spikes: str) -> str:
        """The neurons' node, which reads sums, and the matrix of its feedback if there is one."""
        name, neuron = population.name, population.neuron
        if isinstance(neuron, FloatNeuron) and neuron.i_decay != 1:
            return self._fire_by_current(population, neuron, inputs, bias, spikes)
        if isinstance(neuron, FloatNeuron):
            if population.bias is not None:
                added = self.constant(f"{name}.bias", bias.astype(np.float32))
                inputs[0] = self.node("Add", [inputs[0], added], f"{name}/biased_sums", f"{name}/Add")
            return self._fire_in_real_numbers(name, neuron, inputs, spikes)
        if not neuron.alike or neuron.v_threshold > THRESHOLD_MAX:
            return self._fire_each(population, inputs, bias, spikes)
        if population.bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias.astype(np.int32)))
        elif self.form.bias:
            inputs.append(self.constant(_NO_BIAS, np.zeros(1, np.int32)))
        operator = RECURRENT_CUBA_LIF.name if population.feedback else CUBA_LIF.name
        attributes = {"i_decay": neuron.i_decay, "v_decay": neuron.v_decay, "v_threshold": neuron.v_threshold}
        return self.node(operator, inputs, spikes, f"{name}/{operator}", DOMAIN, **attributes)

    def _fire_each(self, population: Population[Neuron], inputs: list[str], bias: Array, spikes: str) -> str:
        """Neurons that differ, or with a threshold that no attribute may have: all that they are becomes inputs."""
        name = population.name
        numbers = {"bias": bias, **{each: population.parameter(each) for each in ("i_decay", "v_decay", "v_threshold")}}
        for what, values in numbers.items():
            if population.feedback and len(population.shape) > 1:  # neurons with feedback are one axis
                shape = population.shape if values.ndim > 1 else (1,)
                values = np.broadcast_to(values, shape).reshape(-1)
            inputs.append(self.constant(f"{name}.{what}", values.astype(np.int32)))
        operator = RECURRENT_HETEROGENEOUS_CUBA_LIF if population.feedback else HETEROGENEOUS_CUBA_LIF
        return self.node(operator.name, inputs, spikes, f"{name}/{operator.name}", DOMAIN)

    def _feedback(self, population: Population[Neuron]) -> list[str]:
        """The matrix ``[F, F]`` from each neuron (row) to each (column), if there is one."""
        if not population.feedback:
            return []
        matrices = [unrolled(edge.map, self.network.reads(edge)) for edge in population.feedback]
        weight = np.ascontiguousarray(sum(matrices[1:], start=matrices[0]).T)
        return [self._stored(weight, isinstance(population.neuron, CubaNeuron), population.name, "recurrent_weight")]

    def _fire_in_real_numbers(self, name: str, neuron: FloatNeuron, inputs: list[str], spikes: str) -> str:
        attributes: dict[str, Any] = {"v_threshold": _threshold(neuron), "v_reset": 0.0}
        op_type = RECURRENT_LIF if len(inputs) > 1 else "LIF" if neuron.v_decay else "IF"
        if op_type != "IF":
            attributes |= {"decay": neuron.v_decay, "decay_input": 0}
        return self.node(op_type, inputs, spikes, f"{name}/{op_type}", DOMAIN, **attributes)

    def _fire_by_current(
        self, population: Population[Neuron], neuron: FloatNeuron, inputs: list[str], bias: Array, spikes: str
    ) -> str:
        name = population.name
        numbers = {
            "bias": bias if population.bias is not None else np.zeros(1),
            "current_kept": 1 - neuron.i_decay,
            "voltage_kept": 1 - neuron.v_decay,
            "threshold": _threshold(neuron),
        }
        given = [self.constant(f"{name}.{what}", np.asarray(number, np.float32)) for what, number in numbers.items()]
        sums, *feedback = inputs
        op_type = RECURRENT_CURRENT_LIF if feedback else CURRENT_LIF
        return self.node(op_type, [sums, *given, *feedback], spikes, f"{name}/{op_type}", DOMAIN)


def _is_current_based(population: Population[Neuron]) -> bool:
    return isinstance(population.neuron, FloatNeuron) and population.neuron.i_decay != 1


def _threshold(neuron: FloatNeuron) -> float:
    """From which float32 on it fires."""
    threshold = np.float32(neuron.v_threshold)
    return float(np.nextafter(threshold, np.float32(np.inf)) if neuron.strict else threshold)


def _signal(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", "N", *shape])
