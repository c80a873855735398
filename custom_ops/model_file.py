"""Read and write ``.onnx`` files that may come from strangers."""

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from .atomic_write import replacing
from .errors import ModelFileError

__all__ = ["read_model", "write_model"]


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> onnx.ModelProto:
    """Read an ONNX model, with its external data, if it has any, taken from the model's own folder only.

    Args:
        source: a path, the serialised bytes, or a model that is already in memory (given back as it is).

    Returns:
        The model, with all weights in memory.

    Raises:
        ModelFileError: the file is missing, is not an ONNX model, or its external data are missing, outside its folder or
            not where the file says.
    """
    if isinstance(source, onnx.ModelProto):
        return source
    where = "the model given as bytes" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ModelFileError(f"Cannot read {where}: {error.strerror}; check the path.") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(f"{where} is not an ONNX file, or is cut off: export or copy it again.") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ModelFileError(f"{where} holds no ONNX graph: export or copy it again.")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        if isinstance(source, bytes):
            raise ModelFileError(f"{where} refers to external data, which bytes cannot carry: give the path instead.")
        try:
            # onnx itself refuses absolute paths, `..` and symbolic links that lead out of the folder.
            onnx.load_external_data_for_model(model, str(Path(source).parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(
                f"The external data of {where} cannot be used ({reason}): keep them in the model's own folder."
            ) from error
    return model


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
