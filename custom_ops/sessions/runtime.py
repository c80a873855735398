"""Open models that use the ``snn`` operators in onnxruntime."""

import ctypes
import os
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime

from ..errors import ModelFileError, RuntimeUnavailableError
from ..files.model_file import read_model
from ..graphs.all_nodes import all_nodes
from ..graphs.bodies import as_written
from ..graphs.optimize import optimize
from ..operators import DOMAIN, OPERATORS
from . import gpu

__all__ = ["get_library_path", "session"]

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = {
    "cpu": _PACKAGE / "libsnn_ops.so",
    "cuda": _PACKAGE / "libsnn_ops_cuda.so",
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
    device: str = "cpu",
    **kw: Any,
) -> onnxruntime.InferenceSession:
    """Open ``model`` as an onnxruntime session.

    Args:
        model: a path, the serialised bytes, or the model itself.
        native: whether to run the ``snn`` operators with the native library: ``"auto"`` where it is there, ``False`` never
            (the model's own function bodies serve, on any onnxruntime), ``True`` always. The spikes are the same. With the
            native library, Loihi-integer networks are first rewritten by :func:`custom_ops.graphs.optimize.optimize`.
        device: ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` for the second of several GPUs. On a GPU everything runs there where
            onnxruntime has its CUDA provider; where it has not, the ``snn`` operators alone do, and copy their inputs and
            outputs. A session that asks for the GPU never runs on the CPU without a word.
        kw: passed on to :class:`onnxruntime.InferenceSession` (``sess_options``, ``providers``, …). The native library is
            registered with ``sess_options``; doing so again with the same options is harmless.

    Raises:
        ModelFileError: the model is broken, or an ``snn`` node carries an attribute outside its range.
        RuntimeUnavailableError: ``native=True`` or a GPU, and that is not to be had here; there is no such ``native`` or
            ``device``; or ``sess_options`` has the operators of another device.
    """
    if native not in ("auto", True, False):
        raise RuntimeUnavailableError(f"native={native!r} means nothing: use 'auto', True or False.")
    number = gpu.gpu_number(device)
    proto = read_model(model)
    _check_attributes(proto)
    proto = as_written(proto)
    options = kw.pop("sess_options", None) or onnxruntime.SessionOptions()
    library: str | None = None
    if number is not None:
        library = get_library_path("cuda") if native is not False else None
    elif native is True or (native == "auto" and _LIBRARIES["cpu"].exists()):
        library = get_library_path()
    _check_options(options, _operators(number, library))
    preloaded = ""
    if number is not None:
        preloaded = gpu.preload()
        gpu.prepare(options, number, library)
    elif library is not None:
        options.register_custom_ops_library(library)
    if library is not None and (number is not None or ctypes.CDLL(library).snn_ops_fast_blocks()):
        proto = optimize(proto)
    providers = ["CPUExecutionProvider"] if number is None else gpu.providers(number)
    try:
        opened = onnxruntime.InferenceSession(
            proto.SerializeToString(), **{"sess_options": options, "providers": providers, "enable_fallback": 0, **kw}
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a model it refuses
        reason = " ".join(str(error).split())
        if number is not None and gpu.is_trouble(reason):
            raise RuntimeUnavailableError(f"onnxruntime cannot use the GPU ({reason}): use device='cpu'.") from error
        raise ModelFileError(f"onnxruntime refuses the model ({reason}): export it again.") from error
    if number is not None and gpu.has_provider():
        gpu.require_provider(opened, preloaded)
    return opened


def _operators(number: int | None, library: str | None) -> str | None:
    """Which of the library's operators a session has, in the library's words (see library_cpu.cpp, library_cuda.cpp)."""
    if library is None:
        return None
    return "cpu" if number is None else "cuda" if gpu.has_provider() else "copies"


def _check_options(options: onnxruntime.SessionOptions, operators: str | None) -> None:
    """Refuse options that brought other operators to an earlier session: they stay, and would be used instead."""
    try:
        before = options.get_session_config_entry("snn.registered")
    except RuntimeError:  # there is none
        return
    if before != operators:
        names = {
            None: "none (native=False)",
            "cpu": "those for the CPU",
            "cuda": "those for the GPU",
            "copies": "those that copy to the GPU",
        }
        raise RuntimeUnavailableError(
            f"sess_options has the operators of an earlier session, {names.get(before, before)}, where this one needs "
            f"{names[operators]}: make new SessionOptions for each."
        )


def _check_attributes(model: onnx.ModelProto) -> None:
    """Refuse attributes outside their ranges, in the graph, its subgraphs and functions.

    In a function an attribute may come from its caller: the native library sees its value, which is not looked for here.
    """
    for node in all_nodes(model.graph.node):
        _check_node(node, in_function=False)
    for function in model.functions:
        for node in all_nodes(function.node):
            _check_node(node, in_function=True)


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
