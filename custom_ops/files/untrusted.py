"""What a model that may come from a stranger must be before anything looks at it, and the numbers it keeps in other files."""

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ..errors import ModelFileError
from ..operators import DOMAIN, PRIVATE

__all__ = ["external_tensors", "load_external_data", "require_few_parts", "require_sound"]

_OVERLAP = 2  # tensors may share what they keep in files, but a small file must not become many large tensors
_MOST_AXES = 32
_MOST_FUNCTIONS, _MOST_NODES, _MOST_MESSAGES = (
    2**14,
    2**17,
    2**20,
)  # a second or so each; a network of 1,000 layers has a few thousand
_ELEMENTS_PER_BYTE, _SPARSE_ELEMENTS_PER_BYTE = 4, 1024  # types of two bits; a sparse tensor is mostly zeros


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """All tensors of ``model`` that are elsewhere: initializers, and those in attributes, subgraphs and functions."""
    return [
        message
        for message in _messages(model)
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL
    ]


def load_external_data(model: onnx.ModelProto, folder: str | os.PathLike[str]) -> None:
    """Take everything that ``model`` keeps in files into the model itself.

    Args:
        model: is changed.
        folder: the model's own. Nothing outside of it is read, also not by way of a symbolic link.

    Raises:
        ModelFileError: a file is missing, outside of the folder, or shorter than the model says.
    """
    home = Path(folder).resolve()
    sizes: dict[Path, int] = {}
    taken = 0
    for tensor in external_tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        try:
            path = _inside(home, entries.get("location", ""))
            size = sizes.setdefault(path, path.stat().st_size)
            offset = _whole(entries.get("offset", "0"))
            needed = _bytes_of(tensor)
            length = _whole(entries.get("length", str(size - offset if needed is None else needed)))
            if offset + length > size:
                raise ValueError(f"{path.name} has {size} bytes, but {length} are asked for from byte {offset} on")
            if needed is not None and length != needed:
                raise ValueError(f"its shape {list(tensor.dims)} needs {needed} bytes, not {length}")
            taken += length
            if taken > _OVERLAP * sum(sizes.values()):
                raise ValueError("tensors overlap in their files")
            with path.open("rb") as file:
                file.seek(offset)
                tensor.raw_data = file.read(length)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ModelFileError(
                f"The external data of the tensor {tensor.name!r} cannot be used ({reason}): keep them in the model's own folder."
            ) from error
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def require_few_parts(model: onnx.ModelProto) -> None:
    """Refuse a model with more nodes or functions than any network has: reading each takes a while, even if it is empty.

    Raises:
        ModelFileError: says how many.
    """
    nodes = len(model.graph.node) + sum(len(function.node) for function in model.functions[:_MOST_FUNCTIONS])
    for count, most, what in ((len(model.functions), _MOST_FUNCTIONS, "functions"), (nodes, _MOST_NODES, "nodes")):
        if count > most:
            raise ModelFileError(
                f"The model has {count:,} {what}, of which it may have {most:,}: export it with T left open, or in parts."
            )


def require_sound(model: onnx.ModelProto) -> None:
    """Refuse a model that no exporter writes.

    That is one in which a shape asks for more memory than the tensor's own bytes account for, a name is no text, a graph is
    left to the caller of a function, or a private operator of the native library is used or defined, wherever it stands.

    Raises:
        ModelFileError: names the tensor, the name or the node.
    """
    for count, message in enumerate(_messages(model)):
        if count > _MOST_MESSAGES:
            raise ModelFileError(f"The model has more than {_MOST_MESSAGES:,} parts: export it with T left open, or in parts.")
        for field, value in message.ListFields():
            # Some protobuf libraries give bytes for text that is not UTF-8, and others refuse the whole file.
            if field.type == FieldDescriptor.TYPE_STRING:
                for text in [value] if isinstance(value, str | bytes) else value:
                    if isinstance(text, bytes):
                        raise ModelFileError(f"The name {text!r} in the model is not UTF-8 text: export the model again.")
        if isinstance(message, onnx.NodeProto | onnx.FunctionProto) and message.domain == DOMAIN:
            _require_public(message)
        elif isinstance(message, onnx.AttributeProto):
            _require_own_graphs(message)
        elif isinstance(message, onnx.TensorProto):
            _require_whole(message, message.name, _ELEMENTS_PER_BYTE)
        elif isinstance(message, onnx.SparseTensorProto):
            _require_whole(message, message.values.name, _SPARSE_ELEMENTS_PER_BYTE)


def _require_public(message: onnx.NodeProto | onnx.FunctionProto) -> None:
    kind = message.op_type if isinstance(message, onnx.NodeProto) else message.name
    if kind in PRIVATE:
        what = f"The node {message.name!r}" if isinstance(message, onnx.NodeProto) else "A function of the model"
        raise ModelFileError(
            f"{what} is {DOMAIN}.{kind}, which sessions make for themselves and no file may hold: use the model as exported."
        )


def _require_own_graphs(attribute: onnx.AttributeProto) -> None:
    if attribute.ref_attr_name and attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        raise ModelFileError(
            f"The attribute {attribute.name!r} is a graph that the caller of a function has to give: export the model again."
        )


def _require_whole(tensor: onnx.TensorProto | onnx.SparseTensorProto, name: str, elements_per_byte: int) -> None:
    dims = tensor.dims
    if len(dims) > _MOST_AXES or min(dims, default=0) < 0 or prod(dims) > elements_per_byte * tensor.ByteSize():
        shown = f"{list(dims[:_MOST_AXES])}{' ...' if len(dims) > _MOST_AXES else ''}"
        raise ModelFileError(
            f"The tensor {name!r} has the shape {shown}, but {tensor.ByteSize():,} bytes: export the model again."
        )


def _inside(home: Path, location: str) -> Path:
    try:
        path = (home / location).resolve()
    except RuntimeError as error:  # how Python before 3.13 calls it
        raise ValueError(f"{location!r} is a loop of links") from error
    if Path(location).is_absolute() or home not in path.parents:
        raise ValueError(f"{location!r} is not in the folder {home}")
    if not path.is_file():
        raise ValueError(f"there is no file {location!r}")
    return path


def _bytes_of(tensor: onnx.TensorProto) -> int | None:
    """What its shape needs; None for a type that ONNX does not know, or of texts."""
    if len(tensor.dims) > _MOST_AXES or min(tensor.dims, default=0) < 0 or tensor.data_type == onnx.TensorProto.STRING:
        return None
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        bits = 4
    else:
        try:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        except KeyError:
            return None
        if kind.itemsize == 1 and "4" in kind.name.removesuffix("2fn"):  # the newer types of less than a byte
            return None
        bits = 8 * kind.itemsize
    return int(-(-prod(tensor.dims) * bits // 8))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a number of bytes")
    return int(text)


def _messages(message: Message) -> Iterator[Message]:
    """A message and all in it, however deep; protobuf itself bounds the depth."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)
