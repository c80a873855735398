"""What an operator of the domain ``snn`` is: one definition from which schema, function body and reference page are made."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import onnx
import onnx.defs

__all__ = ["DOMAIN", "OPSET", "VERSION", "Attribute", "Form", "Operator", "Value", "with_defaults"]

DOMAIN = "snn"
"""The operator domain of this project."""
VERSION = 1
"""Its operator-set version."""
OPSET = 21
"""The version of the standard operators that function bodies are written in: the newest that onnxruntime 1.20 runs."""


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
class Operator:
    """An operator of the domain ``snn``: the one source of its schema, its function body and its reference page.

    Args:
        one_of: attributes of which a node must carry exactly one.
    """

    name: str
    summary: str
    equations: str
    source: str
    attributes: tuple[Attribute, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    body: Callable[[Form], onnx.FunctionProto]
    one_of: tuple[str, ...] = ()

    def function(self, form: Form | None = None) -> onnx.FunctionProto:
        """The model-local function that gives this operator its meaning on a runtime that does not know it.

        Args:
            form: which optional inputs and outputs the file uses; by default none of them, with float32 input.
        """
        function = self.body(form or Form())
        function.doc_string = self.summary
        return function

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
