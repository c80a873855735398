"""Open models that use the ``snn`` operators in onnxruntime."""

import ctypes
import os
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime

from .errors import ModelFileError, RuntimeUnavailableError
from .model_file import read_model
from .operators import DOMAIN, OPERATORS
from .optimize import optimize

__all__ = ["get_library_path", "session"]

_LIBRARIES = {
    "cpu": Path(__file__).with_name("libsnn_ops.so"),
    "cuda": Path(__file__).with_name("libsnn_ops_cuda.so"),
}


def get_library_path(device: Literal["cpu", "cuda"] = "cpu") -> str:
    """Path of the native operator library, for ``SessionOptions.register_custom_ops_library``.

    Args:
        device: ``"cuda"`` for the library that has the operators for the GPU as well.

    Raises:
        RuntimeUnavailableError: the library was not built.
    """
    path = _LIBRARIES[device]
    if path.exists():
        return str(path)
    compiler = {"cpu": "C++17 compiler", "cuda": "CUDA compiler (nvcc)"}[device]
    raise RuntimeUnavailableError(
        f"The native operator library {path} does not exist, because there was no {compiler} when sj2lava was installed: "
        "install one and then sj2lava again, or use native=False."
    )


def session(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    native: Literal["auto"] | bool = "auto",
    device: Literal["cpu", "cuda"] = "cpu",
    **kw: Any,
) -> onnxruntime.InferenceSession:
    """Open ``model`` as an onnxruntime session.

    Args:
        model: a path, the serialised bytes, or the model itself.
        native: whether to run the ``snn`` operators with the native library: ``"auto"`` where it is there, ``False`` never
            (the model's own function bodies serve, on any onnxruntime), ``True`` always. The spikes are the same. With the
            native library, Loihi-integer networks are first rewritten by :func:`custom_ops.optimize.optimize`.
        device: ``"cpu"`` or ``"cuda"``. With ``"cuda"`` everything runs on the GPU where onnxruntime has its CUDA provider;
            where it has not, the ``snn`` operators alone do, and copy their inputs and outputs.
        kw: passed on to :class:`onnxruntime.InferenceSession` (``sess_options``, ``providers``, …). The native library is
            registered with ``sess_options``; doing so again with the same options is harmless.

    Raises:
        ModelFileError: the model is broken, or an ``snn`` node carries an attribute outside its range.
        RuntimeUnavailableError: ``native=True`` or ``device="cuda"``, and that is not to be had here.
    """
    proto = read_model(model)
    _check_attributes(proto)
    options = kw.pop("sess_options", None) or onnxruntime.SessionOptions()
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        providers = _prepare_cuda(options, native)
    elif native is True or (native == "auto" and _LIBRARIES["cpu"].exists()):
        path = get_library_path()
        options.register_custom_ops_library(path)
        if ctypes.CDLL(path).snn_ops_fast_blocks():
            proto = optimize(proto)
    try:
        return onnxruntime.InferenceSession(
            proto.SerializeToString(), **{"sess_options": options, "providers": providers, "enable_fallback": 0, **kw}
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a model it refuses
        reason = " ".join(str(error).split())
        raise ModelFileError(f"onnxruntime refuses the model ({reason}): export it again.") from error


def _prepare_cuda(options: onnxruntime.SessionOptions, native: Literal["auto"] | bool) -> list[str]:
    """Register the library for the GPU with ``options`` and give the providers to use with it."""
    has_provider = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if native is False:
        if not has_provider:
            raise RuntimeUnavailableError(
                "device='cuda' with native=False needs onnxruntime's CUDA provider: install onnxruntime-gpu, or use device='cpu'."
            )
    else:
        path = get_library_path("cuda")
        if ctypes.CDLL(path).snn_cuda_devices() < 1:
            raise RuntimeUnavailableError("No CUDA GPU was found on this machine: use device='cpu'.")
        if not has_provider:
            options.add_session_config_entry("snn.cuda_copies", "1")
        options.register_custom_ops_library(path)
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_provider else ["CPUExecutionProvider"]


def _check_attributes(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type not in OPERATORS:
            continue
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise ModelFileError(
                f"The node {node.name!r} ({DOMAIN}.{node.op_type}) takes an attribute from a function, but is in none: "
                "export it again."
            )
        given = {attribute.name: _value(attribute) for attribute in node.attribute}
        operator = OPERATORS[node.op_type]
        if operator.one_of and sum(name in given for name in operator.one_of) != 1:
            raise ModelFileError(
                f"The node {node.name!r} ({DOMAIN}.{node.op_type}) must carry exactly one of {' and '.join(operator.one_of)}: "
                "export it again."
            )
        for attribute in operator.attributes:
            value = given.get(attribute.name)
            if value is None:
                if attribute.required:
                    raise ModelFileError(
                        f"The node {node.name!r} ({DOMAIN}.{node.op_type}) lacks {attribute.name!r}: export it again."
                    )
            elif not isinstance(value, int | float):
                raise ModelFileError(
                    f"The node {node.name!r} ({DOMAIN}.{node.op_type}) has {attribute.name!r} of another type than a number: "
                    "export it again."
                )
            elif not attribute.range[0] <= value <= attribute.range[1]:
                low, high = attribute.range
                raise ModelFileError(
                    f"The node {node.name!r} ({DOMAIN}.{node.op_type}) has {attribute.name} = {value}, outside "
                    f"{low:g} ... {high:g}: export it again with a value in that range."
                )


def _value(attribute: onnx.AttributeProto) -> object:
    """Its value; itself where its type is none of ONNX's."""
    try:
        return onnx.helper.get_attribute_value(attribute)
    except ValueError:
        return attribute
