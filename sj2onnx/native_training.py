"""The native library's functions for training, called on torch's tensors by pointer: one library serves every torch."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from custom_ops import get_library_path
from custom_ops.errors import RuntimeUnavailableError

from .errors import BlockError

__all__ = ["Backward", "Forward", "available", "backward", "forward", "lies_dense", "serves", "switched_off", "whole_weights"]

_POINTER, _WHOLE, _INT32, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double
_WITH_DATA = (torch.Tensor, torch.nn.Parameter)
_off = False


class Forward(ctypes.Structure):
    """``TrainingForward`` of ``custom_ops/native/training.h``, where the fields are explained; pointers are ``data_ptr()``."""

    _fields_ = (
        ("bytes", _WHOLE),
        ("steps", _WHOLE),
        ("neurons", _WHOLE),
        ("input", _INT32),
        ("i_keep", _INT32),
        ("v_keep", _INT32),
        ("threshold", _INT32),
        ("s_scale", _REAL),
        ("x", _POINTER),
        ("current", _POINTER),
        ("voltage", _POINTER),
        ("spikes", _POINTER),
        ("charged", _POINTER),
        ("currents", _POINTER),
        ("voltages", _POINTER),
        ("last_current", _POINTER),
        ("last_voltage", _POINTER),
        ("channels", _WHOLE),
        ("inner", _WHOLE),
        ("bias", _POINTER),
        ("unit", _REAL),
        ("means", _POINTER),
        ("inverse_stds", _POINTER),
        ("potentials", _POINTER),
    )


class Backward(ctypes.Structure):
    """``TrainingBackward`` of ``custom_ops/native/training.h``, where the fields are explained; pointers are ``data_ptr()``."""

    _fields_ = (
        ("bytes", _WHOLE),
        ("steps", _WHOLE),
        ("neurons", _WHOLE),
        ("grad_spikes_stride", _WHOLE),
        ("i_keep", _INT32),
        ("v_keep", _INT32),
        ("threshold", _INT32),
        ("through_reset", _INT32),
        ("s_scale", _REAL),
        ("gain", _REAL),
        ("gains", _POINTER),
        ("slopes", _POINTER),
        ("table", _POINTER),
        ("table_size", _WHOLE),
        ("table_from", _REAL),
        ("table_step", _REAL),
        ("grad_spikes", _POINTER),
        ("charged", _POINTER),
        ("currents", _POINTER),
        ("grad_currents", _POINTER),
        ("grad_voltages", _POINTER),
        ("grad_last_current", _POINTER),
        ("grad_last_voltage", _POINTER),
        ("current", _POINTER),
        ("voltage", _POINTER),
        ("grad_x", _POINTER),
        ("grad_current", _POINTER),
        ("grad_voltage", _POINTER),
        ("i_sum", _POINTER),
        ("v_sum", _POINTER),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """The library; None where it was not built, or comes from a version that had no training yet."""
    try:
        library = ctypes.CDLL(get_library_path())
        functions = library.snn_training_forward, library.snn_training_backward, library.snn_training_weights
    except (RuntimeUnavailableError, OSError, AttributeError):
        return None
    for function in functions:
        function.restype = ctypes.c_char_p
    functions[0].argtypes = (ctypes.POINTER(Forward), ctypes.c_int)
    functions[1].argtypes = (ctypes.POINTER(Backward), ctypes.c_int)
    functions[2].argtypes = (_POINTER, _POINTER, _POINTER, _WHOLE, _REAL)
    return library


def available() -> bool:
    """Whether the library is there, and not switched off."""
    return not _off and _library() is not None


def serves(x: torch.Tensor) -> bool:
    """Whether the library can be called with the memory of ``x``: on a CPU, outside of tracing and its tensors without data."""
    return x.device.type == "cpu" and type(x) in _WITH_DATA and not torch.compiler.is_compiling() and available()


def lies_dense(weight: torch.Tensor) -> bool:
    """Whether weights follow one another in memory without gaps, as torch lays them out or with the channels last."""
    return weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)


@contextmanager
def switched_off() -> Iterator[None]:
    """Do without the library for a while: torch's own operators give the same spikes, more slowly."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def forward(**fields: object) -> None:
    """``snn_training_forward`` on as many threads as torch's operators use; a field that is not given is null.

    Raises:
        BlockError: the library refuses the call.
    """
    library = _library()
    assert library is not None
    call = Forward(bytes=ctypes.sizeof(Forward), **fields)  # type: ignore[arg-type]
    _require_success(library.snn_training_forward(ctypes.byref(call), torch.get_num_threads()))


def backward(**fields: object) -> None:
    """``snn_training_backward``, likewise.

    Raises:
        BlockError: the library refuses the call.
    """
    library = _library()
    assert library is not None
    call = Backward(bytes=ctypes.sizeof(Backward), **fields)  # type: ignore[arg-type]
    _require_success(library.snn_training_backward(ctypes.byref(call), torch.get_num_threads()))


def whole_weights(weight: torch.Tensor, step: float, grad_whole: torch.Tensor | None = None) -> torch.Tensor:
    """``snn_training_weights``: weights in weight units, or with ``grad_whole``, their gradient, that of ``weight``.

    Args:
        weight: real values, float32, as :func:`lies_dense` wants them.
        step: real value of two weight units.
        grad_whole: of the same shape.

    Returns:
        Values that lie in memory as ``weight`` does.

    Raises:
        BlockError: the library refuses the call.
    """
    library = _library()
    assert library is not None
    result = torch.empty_like(weight)
    if grad_whole is not None and grad_whole.stride() != weight.stride():
        grad_whole = torch.empty_like(weight).copy_(grad_whole)
    given = None if grad_whole is None else grad_whole.data_ptr()
    _require_success(library.snn_training_weights(weight.data_ptr(), given, result.data_ptr(), weight.numel(), step))
    return result


def _require_success(refusal: bytes | None) -> None:
    if refusal is not None:
        raise BlockError(
            f"The native library refuses to train ({refusal.decode().rstrip('.')}): build it again with `make native`, "
            "or remove it, since torch does the same without it."
        )
