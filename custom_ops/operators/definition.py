"""What an operator of the domain ``snn`` is: one definition of all that the three packages know of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.defs

__all__ = [
    "DOMAIN",
    "OLDEST_OPSET",
    "OPSET",
    "VERSION",
    "Attribute",
    "Form",
    "Operator",
    "SpikingNeuron",
    "TrainedClass",
    "Value",
    "with_defaults",
]

DOMAIN = "snn"
"""The operator domain of this project."""
VERSION = 1
"""Its operator-set version."""
OPSET = 21
"""The version of the standard operators that function bodies are written in: the newest that onnxruntime 1.20 runs."""
OLDEST_OPSET = 18
"""The oldest version in which they mean the same."""


@dataclass(frozen=True)
class Attribute:
    """An attribute of an operator.

    Args:
        name: its name in the file.
        kind: ``"int"`` or ``"float"``.
        doc: what it means, with its unit.
        range: the values it may take, both ends included.
        default: the value that an absent attribute stands for; None where it must be given or where absence has a meaning.
        required: whether a node must carry it.
    """

    name: str
    kind: str
    doc: str
    range: tuple[float, float]
    default: float | None = None
    required: bool = True


@dataclass(frozen=True)
class Value:
    """An input or output of an operator.

    Args:
        name: its name in the operator's documentation.
        types: the element types it may have, in ONNX's spelling (``"tensor(float)"``).
        shape: its shape in words.
        doc: what it holds.
        optional: whether a node may leave it out.
    """

    name: str
    types: tuple[str, ...]
    shape: str
    doc: str
    optional: bool = False


@dataclass(frozen=True)
class Form:
    """The shape of call that a function body is written for.

    A model-local function cannot ask whether an optional input was given, so a file carries the body that fits the calls it
    makes. A file with calls of several forms carries the union of them; calls that lack a bias then pass zeros. Every body
    wants at least one time step, because onnxruntime's Scan does; the native kernels take none as well.

    Args:
        x_type: element type of ``x``, ``onnx.TensorProto.FLOAT`` or ``INT32``.
        bias: whether the body takes a bias.
        states: whether the body takes initial states and gives final ones.
    """

    x_type: onnx.TensorProto.DataType = onnx.TensorProto.FLOAT
    bias: bool = False
    states: bool = False

    def union(self, other: "Form") -> "Form":
        """The form that serves calls of both; the two must agree on the type of ``x``."""
        if self.x_type != other.x_type:
            raise ValueError("one file cannot call the same operator with float32 and int32 input")
        return Form(self.x_type, self.bias or other.bias, self.states or other.states)


@dataclass(frozen=True)
class TrainedClass:
    """A class of neurons that an operator stands for in an exported network.

    Args:
        name: from where it is imported, as in ``"spikingjelly.activation_based.neuron.IFNode"``; nothing here imports torch.
        attributes: the node's attributes, from an instance; raises ValueError where it has numbers that they cannot say.
        states: the names of an instance's states, in the order of the operator's inputs and outputs.
        initial: what each state starts with, from an instance.
    """

    name: str
    attributes: Callable[[Any], Mapping[str, int | float]]
    states: tuple[str, ...]
    initial: Callable[[Any], tuple[float, ...]]


@dataclass(frozen=True)
class SpikingNeuron:
    """An integrate-and-fire neuron, with leak or without, as Loihi can have it; equations in ``custom_ops/operators/lif.py``.

    Args:
        v_threshold: the membrane potential from which on the neuron fires.
        v_reset: the potential after a spike, and that to which it leaks; None for a soft reset, which subtracts the threshold.
        decay: 1 / tau, the share that leaks in a time step; 0 for IF.
        decay_input: whether the input leaks as well.
    """

    v_threshold: float
    v_reset: float | None
    decay: float = 0.0
    decay_input: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator of the domain ``snn``: the one source of its schema, its function body, its arithmetic and its reference page.

    Args:
        name: its name in files.
        summary: what it is, in a sentence.
        equations: what it computes in a time step, as text.
        source: where its equations come from.
        attributes: what its nodes carry.
        inputs: what they read, in this order; the first is ``x``.
        outputs: what they give; the first is the spikes ``s``.
        body: its function body for a form of call; raises ValueError for a form that it has not.
        reference: its arithmetic in NumPy. Takes the inputs and attributes by their names and gives a named tuple, whose ``s``
            are the spikes and whose other fields are named as the outputs are, without ``final_``; ``last_s`` are final spikes.
        one_of: attributes of which a node must carry exactly one.
        native: whether the native library has a kernel for it; without one the function body serves everywhere.
        classes: the neurons of SpikingJelly and of users that ``sj2onnx.export`` writes as this operator.
        on_loihi: the integrate-and-fire neuron that fires as this one does, from the attributes (None where one is left out);
            None where Loihi has no such neuron.
    """

    name: str
    summary: str
    equations: str
    source: str
    attributes: tuple[Attribute, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    body: Callable[[Form], onnx.FunctionProto]
    reference: Callable[..., Any]
    one_of: tuple[str, ...] = ()
    native: bool = False
    classes: tuple[TrainedClass, ...] = ()
    on_loihi: Callable[[Mapping[str, Any]], SpikingNeuron] | None = None

    def function(self, form: Form | None = None) -> onnx.FunctionProto:
        """The model-local function that gives this operator its meaning on a runtime that does not know it.

        Args:
            form: which optional inputs and outputs the file uses; by default none of them, with float32 input.
        """
        function = self.body(form or Form())
        function.doc_string = self.summary
        return function

    def computed(self, **given: Any) -> dict[str, Any]:
        """What the NumPy reference gives, by the names of the outputs.

        Args:
            given: inputs and attributes by their names; those that a node may leave out may be left out.
        """
        result = self.reference(**given)
        fields = {"s": "s", "final_s": "last_s"}
        return {value.name: getattr(result, fields.get(value.name, value.name.removeprefix("final_"))) for value in self.outputs}

    def schema(self) -> onnx.defs.OpSchema:
        """The operator as a schema for ONNX's registry."""
        schema = onnx.defs.OpSchema
        option = schema.FormalParameterOption
        constraints: list[tuple[str, list[str], str]] = []

        def parameter(value: Value) -> onnx.defs.OpSchema.FormalParameter:
            variable = f"T_{value.name}"
            constraints.append((variable, list(value.types), value.doc))
            return schema.FormalParameter(
                value.name, variable, value.doc, param_option=option.Optional if value.optional else option.Single
            )

        inputs = [parameter(value) for value in self.inputs]
        outputs = [parameter(value) for value in self.outputs]
        kinds = {"int": schema.AttrType.INT, "float": schema.AttrType.FLOAT}
        attributes = [
            schema.Attribute(a.name, kinds[a.kind], a.doc, required=a.required)
            if a.default is None
            else schema.Attribute(a.name, onnx.helper.make_attribute(a.name, a.default), a.doc)
            for a in self.attributes
        ]
        return schema(
            self.name,
            DOMAIN,
            VERSION,
            self.summary,
            inputs=inputs,
            outputs=outputs,
            type_constraints=constraints,
            attributes=attributes,
        )

    def reference_page(self) -> str:
        """The operator's page of the reference, in Markdown."""

        def rows(values: Iterable[Value]) -> list[str]:
            return [
                f"| `{v.name}`{' (optional)' if v.optional else ''} | {', '.join(v.types)} | {v.shape} | {v.doc} |"
                for v in values
            ]

        columns = ["| name | type | shape | meaning |", "| --- | --- | --- | --- |"]
        attributes = [
            f"| `{a.name}`{'' if a.required else ' (optional)'} | {a.kind} | {a.range[0]:g} to {a.range[1]:g} | {a.doc} |"
            for a in self.attributes
        ]
        lines = [
            f"# {DOMAIN}.{self.name}, version {VERSION}",
            self.summary,
            "```text\n" + self.equations + "\n```",
            f"Source: {self.source}",
            "The native library has a kernel for it."
            if self.native
            else "The native library has no kernel for it: the function body in the file serves everywhere.",
            "## Attributes",
            "\n".join(["| name | type | range | meaning |", "| --- | --- | --- | --- |", *attributes]),
            "## Inputs",
            "\n".join([*columns, *rows(self.inputs)]),
            "## Outputs",
            "\n".join([*columns, *rows(self.outputs)]),
        ]
        return "\n\n".join(lines) + "\n"


def with_defaults(function: onnx.FunctionProto, given: Collection[str]) -> onnx.FunctionProto:
    """``function`` with the defaults of its attributes in their places, for tools that do not fill them in; changed in place.

    Args:
        function: a function body whose attributes have defaults.
        given: the attributes that a node gives, which stay attributes.
    """
    defaults = {a.name: a for a in function.attribute_proto if a.name not in given}

    def fill(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.ref_attr_name in defaults:
                    name = attribute.name
                    attribute.CopyFrom(defaults[attribute.ref_attr_name])
                    attribute.name = name
                fill(attribute.g.node)

    fill(function.node)
    kept = [a for a in function.attribute_proto if a.name in given]
    del function.attribute_proto[:]
    function.attribute_proto.extend(kept)
    return function
