"""Read and write ``.onnx`` files that may come from strangers."""

import logging
import os
import stat
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from ..errors import ModelFileError
from .atomic_write import replacing
from .untrusted import external_tensors, load_external_data, require_few_parts, require_sound

__all__ = ["numbers", "read_bytes", "read_graph", "read_model", "require_file", "write_model"]

_LARGEST = 2**31 - 1  # bytes of one protobuf message


def require_file(path: str | os.PathLike[str]) -> int:
    """The size of a file, in bytes.

    Raises:
        ModelFileError: there is no such file, or it is a folder, or a device or a pipe, which may never end; those that Linux
            shows as files, below ``/proc``, have no size.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"Cannot read {path}: it is not a file; check the path.")
    if not found.st_size:
        raise ModelFileError(f"Cannot read {path}: it is empty; check the path, or write it again.")
    return found.st_size


def read_bytes(path: str | os.PathLike[str], largest: int) -> bytes:
    """The content of a file.

    Args:
        path: of a file; see :func:`require_file`.
        largest: bytes that it may have.

    Raises:
        ModelFileError: it cannot be read, is no file, or is larger.
    """
    size = require_file(path)
    if size > largest:
        raise ModelFileError(f"Cannot read {path}: its {size:,} bytes are more than the {largest:,} that it may have.")
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


_OTHERS = {
    b"\x93NUMPY": "but numbers that numpy.save wrote: the network comes first, and numbers as --input",
    b"PK\x03\x04": "but an archive, such as a trace (--trace) or weights of torch, which sj2onnx export makes a network of",
    b"\x89HDF\r\n": "but one of HDF5, as NetX's are: make it one with onnx2lava convert IN.net -o OUT.onnx",
}
"""What else is given as a network, by how its bytes start."""


def _unreadable(path: str | os.PathLike[str], error: Exception) -> ModelFileError:
    return ModelFileError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}; check the path.")


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> onnx.ModelProto:
    """Read an ONNX model, with its external data, if it has any, taken from the model's own folder only.

    Args:
        source: a path, the serialised bytes, or a model that is already in memory (given back as it is).

    Returns:
        The model, with all weights in memory.

    Raises:
        ModelFileError: the file is missing, is not an ONNX model, holds less than its shapes say, or its external data are
            missing, outside its folder or not where the file says.
    """
    if isinstance(source, onnx.ModelProto):
        require_few_parts(source)
        _require_own_data(source, "the model in memory")
        require_sound(source)
        return source
    where = "the model given as bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_bytes(source, _LARGEST)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        what = next((what for start, what in _OTHERS.items() if data.startswith(start)), "or is cut off: export or copy it again")
        raise ModelFileError(f"{where} is not an ONNX file, {what}.") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ModelFileError(f"{where} holds no ONNX graph: export or copy it again.")
    require_few_parts(model)
    if isinstance(source, bytes):
        _require_own_data(model, where)
    else:
        load_external_data(model, Path(source).parent)
    require_sound(model)
    return model


def _require_own_data(model: onnx.ModelProto, where: str) -> None:
    if external_tensors(model):
        raise ModelFileError(f"{where} refers to external data, which only a file can have beside it: give its path instead.")


def read_graph(model: onnx.ModelProto) -> ir.Model:
    """The model as onnx-ir's graph of nodes and values.

    Raises:
        ModelFileError: the graph contradicts itself.
    """
    log = logging.getLogger("onnx_ir")
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)  # what it warns of is either harmless or becomes an error below
        return ir.serde.deserialize_model(model)
    except Exception as error:  # onnx-ir raises whatever it stumbles over in a broken file
        cause: BaseException = error
        while cause.__cause__ is not None:  # it wraps each error once per level of nesting
            cause = cause.__cause__
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ModelFileError(f"The model's graph is broken ({reason}): export it again.") from error
    finally:
        log.setLevel(level)


def numbers(tensor: ir.TensorProtocol) -> npt.NDArray[Any]:
    """The numbers of a tensor of onnx-ir's.

    Raises:
        ValueError: it is broken.
    """
    try:
        return tensor.numpy()
    except (TypeError, AssertionError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or "a type that cannot be as it is stored") from error


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path``; the old file stays whole if anything goes wrong.

    Raises:
        ModelFileError: the file cannot be written, or the model is larger than protobuf's 2 GiB.
    """
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError as error:
        raise ModelFileError(f"{path} would be larger than the 2 GiB that one ONNX file can hold.") from error
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror}; check the folder and the space on it.") from error
