"""Whether the functions in a file say what the operators of their names do.

The native library goes by names. A file that calls ``snn.IF`` and brings a body for it that does something else would run as
another network with the library than without: such functions get a name that the library does not know, and run as written.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterable

import onnx
from onnx import AttributeProto, numpy_helper

from ..operators import DOMAIN, OLDEST_OPSET, OPERATORS, OPSET, Form
from ..operators.definition import with_defaults
from .all_nodes import all_nodes

__all__ = ["as_written", "foreign_functions", "says_the_same", "signatures"]

AS_WRITTEN = f"{DOMAIN}.as_written"
"""The domain of functions that say something else than the operators of their names."""


def foreign_functions(model: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """The functions of ``model`` that have an operator's name, but not its meaning."""
    ours = (function for function in model.functions if function.domain == DOMAIN and function.name in OPERATORS)
    return [function for function in ours if not says_the_same(function)]


def as_written(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, with every function of :func:`foreign_functions` in a domain that no library has.

    Args:
        model: is not changed.
    """
    names = {function.name for function in foreign_functions(model)}
    if not names:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.opset_import.add(domain=AS_WRITTEN, version=1)
    for function in changed.functions:
        if function.domain == DOMAIN and function.name in names:
            function.domain = AS_WRITTEN
        function.opset_import.add(domain=AS_WRITTEN, version=1)
    for node in all_nodes(itertools.chain(changed.graph.node, *(function.node for function in changed.functions))):
        if node.domain == DOMAIN and node.op_type in names:
            node.domain = AS_WRITTEN
    return changed


def says_the_same(function: onnx.FunctionProto) -> bool:
    """Whether ``function`` is a body of the operator of its name: the same computation, whatever its values are called."""
    return _signature(function) in _known(function.name)


@functools.cache
def _known(name: str) -> frozenset[bytes]:
    """The signatures of all bodies of an operator."""
    types = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32)
    signatures = set()
    for x_type, bias, states in itertools.product(types, (False, True), (False, True)):
        try:
            body = OPERATORS[name].function(Form(x_type, bias, states))
        except ValueError:  # it has no such form
            continue
        defaults = [attribute.name for attribute in body.attribute_proto]
        for count in range(len(defaults) + 1):  # any of which a file may have in their places
            for given in itertools.combinations(defaults, count):
                copy = onnx.FunctionProto()
                copy.CopyFrom(body)
                signatures.add(_signature(with_defaults(copy, given)))
    return frozenset(signatures)


def signatures(graph: onnx.GraphProto) -> dict[str, bytes]:
    """For each value of ``graph``, what it is made of, as a number that does not depend on the names of the values before it."""
    values = {value.name: b"input %d" % index for index, value in enumerate(graph.input)}
    values |= {tensor.name: _tensor_bytes(tensor) for tensor in graph.initializer}
    _follow(graph.node, values)
    return values


def _signature(function: onnx.FunctionProto) -> bytes:
    """What the outputs are made of, as a number that does not depend on names, order, or nodes that make nothing of them."""
    values = {name: b"input %d" % index for index, name in enumerate(function.input)}
    _follow(function.node, values)
    defaults = sorted([*map(str.encode, function.attribute), *map(_attribute_bytes, function.attribute_proto)])
    # Bodies mean the same in all of these versions, one of which a user chooses for the whole file.
    versions = sorted(
        b"any" if OLDEST_OPSET <= opset.version <= OPSET else b"%d" % opset.version
        for opset in function.opset_import
        if not opset.domain
    )
    return _joined(versions, defaults, [values.get(name, b"nothing") for name in function.output])


def _follow(nodes: Iterable[onnx.NodeProto], values: dict[str, bytes]) -> None:
    """Add what ``nodes``, which are in the order of their computation, make of ``values``."""
    for node in nodes:
        attributes = []
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                attributes.append(_joined([attribute.name.encode()], [_graph_signature(attribute.g, values)]))
            else:
                attributes.append(_attribute_bytes(attribute))
        head = [node.domain.encode(), node.op_type.encode(), node.overload.encode()]
        made = _joined(head, sorted(attributes), [values.get(name, b"nothing") for name in node.input])
        for index, name in enumerate(node.output):
            if name:
                values[name] = b"%s %d" % (made, index)


def _graph_signature(graph: onnx.GraphProto, outside: dict[str, bytes]) -> bytes:
    values = {**outside, **{value.name: b"inner %d" % index for index, value in enumerate(graph.input)}}
    values |= {tensor.name: _tensor_bytes(tensor) for tensor in graph.initializer}
    if graph.sparse_initializer:
        return b"sparse"
    _follow(graph.node, values)
    return _joined([b"graph"], [values.get(value.name, b"nothing") for value in graph.output])


def _attribute_bytes(attribute: AttributeProto) -> bytes:
    if attribute.type == AttributeProto.TENSOR:
        return _joined([attribute.name.encode()], [_tensor_bytes(attribute.t)])
    plain = AttributeProto()
    plain.CopyFrom(attribute)
    plain.doc_string = ""
    return bytes(plain.SerializeToString(deterministic=True))


def _tensor_bytes(tensor: onnx.TensorProto) -> bytes:
    try:
        array = numpy_helper.to_array(tensor)
    except Exception:  # a broken tensor is like no other
        return bytes(tensor.SerializeToString(deterministic=True))
    return _joined([str(array.dtype).encode(), str(array.shape).encode()], [array.tobytes()])


def _joined(*parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        for each in part:
            digest.update(b"%d:" % len(each) + each)
        digest.update(b";")
    return digest.digest()
