"""Write a network as an ONNX model, runnable on any onnxruntime: Loihi's integers exactly, or real numbers."""

from typing import Any, Literal

import numpy as np
import onnx
import onnx.checker
from onnx import TensorProto, helper, numpy_helper

from custom_ops.operators import CUBA_LIF, DOMAIN, OPERATORS, OPSET, RECURRENT_CUBA_LIF, VERSION, Form

from ..errors import ConversionError
from ..limits import require_integers
from ..network import INPUT, OUTPUT, Array, Block, Conv, Dense, FloatNeuron, Network, Shape
from .recurrent_lif import RECURRENT_LIF, recurrent_lif

__all__ = ["to_onnx"]

_IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
_STEPS, _SAMPLES, _STEPS_AND_SAMPLES = "shared/steps", "shared/samples", "shared/steps_and_samples"
_FIRST_STEP = "shared/first_step"
_TWO = "shared/two"
_NO_BIAS = "shared/no_bias"


def to_onnx(network: Network, *, outputs: Literal["last", "all"] = "last") -> onnx.ModelProto:
    """The network as an ONNX model with the input ``input`` and the output ``output``, float32, ``[T, N, *]``.

    Weights of integer blocks are stored once, as int8, half their value (they are even), and doubled by a ``Mul`` that runtimes
    fold away; those of float blocks as float32. Time is folded into the batch around each convolution.

    Args:
        network: a chain of blocks: Loihi integers, float neurons, or both.
        outputs: ``"all"`` adds one output per block, named by the block.

    Raises:
        ConversionError: the network is not a chain.
        LimitError: its integers do not fit Loihi's ranges.
    """
    require_integers(network, floats=True)
    graph = _GraphBuilder(network)
    spikes = INPUT
    for block in network.chain():
        spikes = graph.add_block(block, spikes)
    if spikes != OUTPUT:
        graph.node("Identity", [spikes], OUTPUT, OUTPUT)
    names = {OUTPUT: network.output_shape}
    if outputs == "all":
        names |= {block.name: block.shape for block in network.blocks}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            network.name or "network",
            [_signal(INPUT, network.input_shape)],
            [_signal(name, shape) for name, shape in names.items()],
            list(graph.initializers.values()),
        ),
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=graph.functions(),
        producer_name="sj2lava",
    )
    helper.set_model_props(model, dict(network.metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split())
        raise ConversionError(f"The network {network.name!r} cannot be said in ONNX ({reason}): rename its layers.") from error
    return model


class _GraphBuilder:
    """Nodes and initializers of one graph as they come."""

    def __init__(self, network: Network) -> None:
        self.form = Form(bias=any(block.bias is not None for block in network.blocks))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        if not all(isinstance(block.neuron, FloatNeuron) for block in network.blocks):
            self.constant(_TWO, np.float32(2))
        if any(block.delay for block in network.blocks):
            self.node("Shape", [INPUT], _STEPS, _STEPS, start=0, end=1)
            self.node("Shape", [INPUT], _SAMPLES, _SAMPLES, start=1, end=2)
        if any(isinstance(block.synapse, Conv) for block in network.blocks):
            self.node("Shape", [INPUT], _STEPS_AND_SAMPLES, _STEPS_AND_SAMPLES, start=0, end=2)

    def constant(self, name: str, value: "np.generic | np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def node(self, op_type: str, inputs: list[str], output: str, name: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, domain=domain, **attributes))
        return output

    def functions(self) -> list[onnx.FunctionProto]:
        """The function bodies of the neurons in use."""
        used = sorted({node.op_type for node in self.nodes if node.domain == DOMAIN})
        integer = (CUBA_LIF.name, RECURRENT_CUBA_LIF.name)
        return [
            recurrent_lif() if name == RECURRENT_LIF else OPERATORS[name].function(self.form if name in integer else None)
            for name in used
        ]

    def add_block(self, block: Block, spikes: str) -> str:
        """The block's nodes; gives the name of its spikes, which is the block's own."""
        if block.delay:
            spikes = self._delayed(block, spikes)
        weight = self._weight(block)
        sums = self._conv(block, spikes, weight) if isinstance(block.synapse, Conv) else self._dense(block, spikes, weight)
        if isinstance(block.neuron, FloatNeuron):
            return self._float_neuron(block, block.neuron, sums)
        operator, inputs = CUBA_LIF, [sums]
        if (recurrent := self._recurrent_weight(block)) is not None:
            operator = RECURRENT_CUBA_LIF
            inputs.append(recurrent)
        if block.bias is not None:
            inputs.append(self._bias(block, np.int32))
        elif self.form.bias:
            inputs.append(self.constant(_NO_BIAS, np.zeros(1, np.int32)))
        neuron = block.cuba
        return self.node(
            operator.name,
            inputs,
            block.name,
            f"{block.name}/{operator.name}",
            DOMAIN,
            i_decay=neuron.i_decay,
            v_decay=neuron.v_decay,
            v_threshold=neuron.v_threshold,
        )

    def _float_neuron(self, block: Block, neuron: FloatNeuron, sums: str) -> str:
        if block.bias is not None:
            sums = self.node("Add", [sums, self._bias(block, np.float32)], f"{block.name}/biased_sums", f"{block.name}/Add")
        if (recurrent := self._recurrent_weight(block)) is not None:
            keep = self.constant(f"{block.name}.keep", np.float32(1 - neuron.v_decay))
            threshold = self.constant(f"{block.name}.v_threshold", np.float32(neuron.v_threshold))
            name = f"{block.name}/{RECURRENT_LIF}"
            return self.node(RECURRENT_LIF, [sums, recurrent, keep, threshold], block.name, name, DOMAIN)
        leak: dict[str, Any] = {"decay": neuron.v_decay, "decay_input": 0} if neuron.v_decay else {}
        op_type = "LIF" if leak else "IF"
        name = f"{block.name}/{op_type}"
        return self.node(op_type, [sums], block.name, name, DOMAIN, v_threshold=neuron.v_threshold, v_reset=0.0, **leak)

    def _bias(self, block: Block, dtype: type[np.generic]) -> str:
        assert block.bias is not None
        column = (-1, *[1] * (len(block.shape) - 1))
        return self.constant(f"{block.name}.bias", block.bias.astype(dtype).reshape(column))

    def _weight(self, block: Block) -> str:
        weight = block.synapse.weight
        # MatMul wants [I, O]
        return self._stored(block, "weight", weight if isinstance(block.synapse, Conv) else np.ascontiguousarray(weight.T))

    def _recurrent_weight(self, block: Block) -> str | None:
        recurrent = block.synapse.recurrent if isinstance(block.synapse, Dense) else None
        return None if recurrent is None else self._stored(block, "recurrent_weight", np.ascontiguousarray(recurrent.T))

    def _stored(self, block: Block, what: str, weight: Array) -> str:
        name = block.name
        if isinstance(block.neuron, FloatNeuron):
            return self.constant(f"{name}.{what}", weight.astype(np.float32))
        stored = self.constant(f"{name}.{what}", (weight // 2).astype(np.int8))
        real = self.node("Cast", [stored], f"{name}/{what}_halves", f"{name}/{what}/Cast", to=TensorProto.FLOAT)
        return self.node("Mul", [real, _TWO], f"{name}/{what}", f"{name}/{what}/Mul")

    def _delayed(self, block: Block, spikes: str) -> str:
        """Steps of zeros before the spikes, and as many of the last ones cut off."""
        name = block.name
        features = self.constant(f"{name}/late_features", np.array(block.input_shape, np.int64))
        steps = self.constant(f"{name}/late_steps", np.array([block.delay], np.int64))
        before = self.node("Concat", [steps, _SAMPLES, features], f"{name}/late_shape", f"{name}/LateShape", axis=0)
        zeros = self.node("ConstantOfShape", [before], f"{name}/late_zeros", f"{name}/LateZeros")
        longer = self.node("Concat", [zeros, spikes], f"{name}/late_and_more", f"{name}/Delay", axis=0)
        start = self.constant(_FIRST_STEP, np.zeros(1, np.int64))
        return self.node("Slice", [longer, start, _STEPS, start], f"{name}/late", f"{name}/Cut")

    def _conv(self, block: Block, spikes: str, weight: str) -> str:
        synapse = block.synapse
        assert isinstance(synapse, Conv)
        name = block.name
        fold = self.constant(f"{name}/folded_shape", np.array([-1, *block.input_shape], np.int64))
        folded = self.node("Reshape", [spikes, fold], f"{name}/folded", f"{name}/Fold")
        sums = self.node(
            "Conv",
            [folded, weight],
            f"{name}/folded_sums",
            f"{name}/Conv",
            kernel_shape=list(synapse.weight.shape[2:]),
            strides=list(synapse.stride),
            pads=[*synapse.padding, *synapse.padding],
            dilations=list(synapse.dilation),
            group=synapse.groups,
        )
        features = self.constant(f"{name}/features", np.array(block.shape, np.int64))
        unfold = self.node("Concat", [_STEPS_AND_SAMPLES, features], f"{name}/unfolded_shape", f"{name}/UnfoldShape", axis=0)
        return self.node("Reshape", [sums, unfold], f"{name}/sums", f"{name}/Unfold", allowzero=1)  # T or N may be 0

    def _dense(self, block: Block, spikes: str, weight: str) -> str:
        name = block.name
        if block.flattens:
            # 0 keeps a dimension as it is: time and batch stay where they are, also when one of them is empty.
            flat_shape = self.constant(f"{name}/flat_shape", np.array([0, 0, block.synapse.weight.shape[1]], np.int64))
            spikes = self.node("Reshape", [spikes, flat_shape], f"{name}/flat", f"{name}/Flatten")
        return self.node("MatMul", [spikes, weight], f"{name}/sums", f"{name}/MatMul")


def _signal(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", "N", *shape])
