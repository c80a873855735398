"""The way back from a model without functions: the model that it was made of, if its nodes still are what its functions say.

What the file says of its past is believed in nothing: the model with functions is put together again, inlined once more, and
each of its values must then be made of the same operators and numbers as in the file.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping
from typing import NoReturn

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from ..errors import ModelFileError
from ..files.model_file import read_model
from .all_nodes import all_nodes
from .bodies import signatures
from .inlining import INLINED, inlined

__all__ = ["outlined"]

_ROOM_FACTOR, _ROOM = 4, 2**20
"""Bytes that the model with functions, and what becomes of its calls, may have for each byte of the file, and in any file."""


def outlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with functions that :func:`~custom_ops.inlined` made ``model`` of; ``model`` itself where it has a past of none.

    Weights are those of ``model``, whatever they are now.

    Raises:
        ModelFileError: its nodes are not, or no longer, what the functions say; the message names the first that is not.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if INLINED not in metadata:
        return model
    room = _ROOM_FACTOR * model.ByteSize() + _ROOM
    whole = _stored(metadata.pop(INLINED), room)
    known = {tensor.name for tensor in whole.graph.initializer}
    whole.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in known)
    helper.set_model_props(whole, metadata)
    read_model(whole)  # a stranger may have written it
    _require_small(whole, room)
    _require_same(model, whole)
    return whole


def _refuse(reason: str) -> NoReturn:
    raise ModelFileError(
        f"The model was written without functions, and {reason}: convert the file as it was written, or the one with functions."
    )


def _stored(text: str, room: int) -> onnx.ModelProto:
    whole = onnx.ModelProto()
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(text, validate=True), room)
        if not inflate.eof:
            _refuse("what it keeps of them is cut off, or much larger than itself")
        whole.ParseFromString(content)
    except (binascii.Error, ValueError, zlib.error, DecodeError):
        _refuse("what it keeps of them is broken")
    return whole


def _require_small(model: onnx.ModelProto, room: int) -> None:
    """Calls of functions that call functions must not become more than the file could hold."""
    functions = {(function.domain, function.name): function for function in model.functions}
    known: dict[tuple[str, str], int] = {}
    open_: set[tuple[str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(called(node) for node in all_nodes(nodes))

    def called(node: onnx.NodeProto) -> int:
        key = (node.domain, node.op_type)
        function = functions.get(key)
        if function is None:
            return int(node.ByteSize())
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            _refuse(f"the node {node.name!r} has more inputs or outputs than the function that it calls")
        if key in open_ or len(open_) > 32:
            _refuse(f"the function {function.name!r} calls itself, or calls functions too deep")
        if key not in known:
            open_.add(key)
            known[key] = size(function.node)
            open_.discard(key)
        return known[key]

    if size(model.graph.node) > room:
        _refuse("what it keeps of them becomes much larger than itself")


def _require_same(model: onnx.ModelProto, whole: onnx.ModelProto) -> None:
    try:
        again = inlined(whole)
    except Exception as error:  # whatever onnx's inliner and its evaluator stumble over
        _refuse(f"its functions cannot be put into their places ({' '.join(str(error).split())[:200]})")
    if list(model.graph.input) != list(again.graph.input) or list(model.graph.output) != list(again.graph.output):
        _refuse("its inputs or outputs are no longer those that it was written with")
    if _versions(model) != _versions(again) or model.functions or model.graph.sparse_initializer:
        _refuse("it has other operator sets, or more in it, than it was written with")
    found, expected = signatures(model.graph), signatures(again.graph)
    for node in whole.graph.node:
        if any(found.get(name) != expected.get(name) for name in node.output if name):
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            _refuse(f"the nodes of {node.name!r} ({operator}) are not what that says")
    for value in model.graph.output:
        if found.get(value.name) != expected.get(value.name):
            _refuse(f"its output {value.name!r} is not made of what it was written with")


def _versions(model: onnx.ModelProto) -> Mapping[str, int]:
    return {entry.domain: entry.version for entry in model.opset_import if not entry.domain}
