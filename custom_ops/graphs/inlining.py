"""A model without functions, for runtimes that know none: each operator as the ONNX operators that its body is made of."""

import base64
import zlib
from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .all_nodes import all_nodes

__all__ = ["INLINED", "inlined"]

INLINED = "sj2lava.inlined"
"""Key of the metadata of a model without functions: the model with functions, but for the numbers that both store alike.

``outlining.py`` reads it. It is the deflated protobuf message in base64.
"""

_LOOPS = ("Scan", "Loop", "If")
_FEW = 2**10
"""Elements of a number that is computed from constants; weights stay as they are stored."""
_COMPUTED = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Constant",
        "Div",
        "Equal",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Reshape",
        "Round",
        "Shape",
        "Sigmoid",
        "Sign",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Unsqueeze",
        "Where",
        "Xor",
    ]
)
"""What is computed from constants: nothing that makes many numbers of few, as the file may be a stranger's."""

Array = npt.NDArray[np.generic]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without functions.

    The bodies of loops over time read no constants from outside of them, and every attribute that has a default is written out:
    with that OpenVINO runs the file, whose importer wants both, and any other runtime that knows Scan.

    Args:
        model: any ONNX model; functions may call functions.

    Returns:
        A new model with the same inputs, outputs and metadata, whose nodes are all of ONNX's own operators. One entry of its
        metadata more says which nodes were one operator; :func:`~.outlining.outlined` makes the model with functions
        of it again.
    """
    if any(entry.key == INLINED for entry in model.metadata_props):  # it has none any more
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    result = onnx.inliner.inline_local_functions(_with_all_attributes(model))
    del result.functions[:]
    shapes = {value.name for value in model.graph.value_info}
    kept_shapes = [value for value in result.graph.value_info if value.name in shapes]
    del result.graph.value_info[:]
    result.graph.value_info.extend(kept_shapes)
    versions = {entry.domain: entry.version for entry in result.opset_import}
    used = {node.domain for node in all_nodes(result.graph.node)}
    kept = [entry for entry in result.opset_import if entry.domain in used or entry.domain == ""]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    _give_constants_to_loops(result.graph, versions.get("", 1))
    for node in all_nodes(result.graph.node):
        _write_defaults(node, versions.get(node.domain, 1))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(result, {**metadata, INLINED: _kept_of(model, result)})
    return result


def _with_all_attributes(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, whose calls of functions give every attribute that has a default: onnx's inliner leaves those out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    defaults = {(each.domain, each.name): each.attribute_proto for each in copy.functions if each.attribute_proto}
    for nodes in (copy.graph.node, *(function.node for function in copy.functions)):
        for node in all_nodes(nodes):
            given = {attribute.name for attribute in node.attribute}
            wanted = defaults.get((node.domain, node.op_type), ())
            node.attribute.extend([attribute for attribute in wanted if attribute.name not in given])
    return copy


def _kept_of(model: onnx.ModelProto, result: onnx.ModelProto) -> str:
    """``model``, without the numbers that ``result`` stores under the same name."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.metadata_props[:]
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    missing = [tensor for tensor in model.graph.initializer if stored.get(tensor.name) != tensor]
    del kept.graph.initializer[:]
    kept.graph.initializer.extend(missing)
    return base64.b64encode(zlib.compress(kept.SerializeToString(deterministic=True), 9)).decode()


def _graphs(node: NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _write_defaults(node: NodeProto, version: int) -> None:
    if not onnx.defs.has(node.op_type, domain=node.domain):
        return
    given = {attribute.name for attribute in node.attribute}
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.type != onnx.AttributeProto.UNDEFINED and not attribute.required:
            node.attribute.append(attribute.default_value)


def _give_constants_to_loops(graph: onnx.GraphProto, version: int) -> None:
    """Put into the body of each loop what it reads from outside and is constant, and drop what nobody reads any more."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    known: dict[str, Array | None] = {}
    for node in graph.node:
        for body in _graphs(node) if node.op_type in _LOOPS else ():
            _forget_shapes(body)
            for name in [name for each in body.node for name in each.output if name in makers]:
                _rename(body, name, f"{name}/in")  # what a function calls its output, it may call a value in its loop as well
            constants = []
            for name in _read_outside(body):
                value = _constant(name, stored, makers, known, version)
                if value is not None:
                    inside = f"{name}/in/{node.output[-1]}"  # a name of its own: each is given once in a model
                    constants.append(helper.make_node("Constant", [], [inside], value=numpy_helper.from_array(value)))
                    _rename(body, name, inside)
            nodes = [*constants, *body.node]
            del body.node[:]
            body.node.extend(nodes)
    _drop_unread(graph)


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """Those of a function are of the layer that it was written for, and may be called for others of its rank, which
    onnxruntime before 1.24 wants to know."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        for inner in _graphs(node):
            _rename(inner, old, new)
    for value in graph.output:
        if value.name == old:
            value.name = new


def _read_outside(body: onnx.GraphProto) -> list[str]:
    """Names that a graph reads and does not make, each once, in order."""
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    found: dict[str, None] = {}
    for node in body.node:
        inner = [name for graph in _graphs(node) for name in _read_outside(graph)]
        for name in [*node.input, *inner]:
            if name and name not in own:
                found[name] = None
        own |= set(node.output)
    found |= {value.name: None for value in body.output if value.name not in own}
    return list(found)


def _constant(
    name: str,
    stored: dict[str, onnx.TensorProto],
    makers: dict[str, NodeProto],
    known: dict[str, Array | None],
    version: int,
) -> Array | None:
    """The numbers of a value that is computed from constants alone; None if it is not."""
    if name not in known:
        known[name] = None
        maker = makers.get(name)
        if name in stored:
            known[name] = numpy_helper.to_array(stored[name])
        elif maker is not None and maker.domain == "" and maker.op_type in _COMPUTED:
            values = {given: _constant(given, stored, makers, known, version) for given in maker.input if given}
            few = all(value is not None and value.size <= _FEW for value in values.values())
            if few and prod(value.size or 1 for value in values.values() if value is not None) <= _FEW**2:
                known.update(zip(maker.output, _computed(maker, values, version), strict=True))
    return known[name]


def _computed(node: NodeProto, values: dict[str, Array | None], version: int) -> list[Array]:
    graph = helper.make_graph(
        [node],
        "constant",
        [onnx.ValueInfoProto(name=name) for name in values],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, values)]


def _drop_unread(graph: onnx.GraphProto) -> None:
    wanted = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= _read_by(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _read_by(node: NodeProto) -> set[str]:
    inner: Iterable[str] = (name for graph in _graphs(node) for name in _read_outside(graph))
    return {name for name in (*node.input, *inner) if name}
