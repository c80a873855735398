"""Open models that use the ``snn`` operators in onnxruntime."""

import ctypes
import os
from collections.abc import Iterable, Iterator
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
    """Refuse attributes outside their ranges, in the graph, its subgraphs and functions.

    In a function an attribute may come from its caller: the native library sees its value, which is not looked for here.
    """
    for node in _nodes(model.graph.node):
        _check_node(node, in_function=False)
    for function in model.functions:
        for node in _nodes(function.node):
            _check_node(node, in_function=True)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """All nodes, those of the graphs in them as well; protobuf itself bounds the depth."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _check_node(node: onnx.NodeProto, *, in_function: bool) -> None:
    if node.domain != DOMAIN or node.op_type not in OPERATORS:
        return
    where = f"The node {node.name!r} ({DOMAIN}.{node.op_type})"
    from_caller = {attribute.name for attribute in node.attribute if attribute.ref_attr_name}
    if from_caller and not in_function:
        raise ModelFileError(f"{where} takes an attribute from a function, but is in none: export it again.")
    given = {attribute.name: _value(attribute) for attribute in node.attribute if attribute.name not in from_caller}
    operator = OPERATORS[node.op_type]
    carried = sum(name in given or name in from_caller for name in operator.one_of)
    # A caller may leave out what the function passes on: which of them is there is then the caller's to say.
    if operator.one_of and (carried < 1 or (carried > 1 and not from_caller)):
        raise ModelFileError(f"{where} must carry exactly one of {' and '.join(operator.one_of)}: export it again.")
    for attribute in operator.attributes:
        value = given.get(attribute.name)
        if attribute.name in from_caller:
            continue
        if value is None:
            if attribute.required:
                raise ModelFileError(f"{where} lacks {attribute.name!r}: export it again.")
        elif not isinstance(value, int | float):
            raise ModelFileError(f"{where} has {attribute.name!r} of another type than a number: export it again.")
        elif not attribute.range[0] <= value <= attribute.range[1]:
            low, high = attribute.range
            raise ModelFileError(
                f"{where} has {attribute.name} = {value}, outside {low:g} ... {high:g}: export it again with one inside."
            )


def _value(attribute: onnx.AttributeProto) -> object:
    """Its value; itself where its type is none of ONNX's."""
    try:
        return onnx.helper.get_attribute_value(attribute)
    except ValueError:
        return attribute
