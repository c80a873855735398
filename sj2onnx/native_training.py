"""The native library's functions for training, called on torch's tensors by pointer: one library serves every torch."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from custom_ops import get_library_path
from custom_ops.errors import RuntimeUnavailableError
from custom_ops.sessions.gpu import problem

from .errors import BlockError

__all__ = ["Backward", "Forward", "available", "library_for", "serves", "serves_weights", "switched_off", "whole_weights"]

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


class _Library:
    """One of the two native libraries, and what it is asked for on one device."""

    def __init__(self, library: ctypes.CDLL, device: torch.device | None) -> None:
        self._library, self._gpu = library, device
        functions = (
            (library.snn_training_forward, library.snn_training_backward)
            if device is None
            else (library.snn_cuda_training_forward, library.snn_cuda_training_backward)
        )
        for function, structure in zip(functions, (Forward, Backward), strict=True):
            function.restype = ctypes.c_char_p
            place = (ctypes.c_int,) if device is None else (ctypes.c_int, _POINTER)
            function.argtypes = (ctypes.POINTER(structure), *place)
        self._forward, self._backward = functions
        if device is None:
            self.weights = library.snn_training_weights
            self.weights.restype = ctypes.c_char_p
            self.weights.argtypes = (_POINTER, _POINTER, _POINTER, _WHOLE, _REAL)

    @property
    def is_of_gpu(self) -> bool:
        return self._gpu is not None

    def forward(self, call: Forward) -> None:
        _require_success(self._forward(ctypes.byref(call), *self._place()))

    def backward(self, call: Backward) -> None:
        _require_success(self._backward(ctypes.byref(call), *self._place()))

    def _place(self) -> tuple[int, ...] | tuple[int, int | None]:
        """As many threads as torch's operators use; or GPU and the stream that torch's operators go to."""
        if self._gpu is None:
            return (torch.get_num_threads(),)
        if self._gpu.type != "cuda":  # memory of a GPU that is emulated
            return 0, None
        return self._gpu.index or 0, torch.cuda.current_stream(self._gpu).cuda_stream


@cache
def _library(device: torch.device) -> _Library | None:
    """The library for a device; None where there is none, it cannot use the GPU, or is of a version that had no training yet."""
    if device.type not in ("cpu", "cuda"):
        return None
    try:
        path = get_library_path("cuda" if device.type == "cuda" else "cpu")
        if device.type == "cuda" and problem(path, device.index or 0) is not None:
            return None
        return _Library(ctypes.CDLL(path), None if device.type == "cpu" else device)
    except (RuntimeUnavailableError, OSError, AttributeError):
        return None


def library_for(x: torch.Tensor) -> _Library | None:
    """The library that can be called with the memory of ``x``; None where it was not built, or is switched off."""
    return None if _off else _library(x.device)


def available() -> bool:
    """Whether the library for the CPU is there, and not switched off."""
    return library_for(torch.empty(0)) is not None


def serves(x: torch.Tensor) -> bool:
    """Whether a library can be called with the memory of ``x``: outside of tracing and its tensors without data."""
    return type(x) in _WITH_DATA and not torch.compiler.is_compiling() and library_for(x) is not None


def serves_weights(weight: torch.Tensor) -> bool:
    """Whether :func:`whole_weights` can be called: on a CPU, with weights that follow one another in memory without gaps."""
    dense = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    library = library_for(weight) if dense and serves(weight) else None
    return library is not None and not library.is_of_gpu


@contextmanager
def switched_off() -> Iterator[None]:
    """Do without the libraries for a while: torch's own operators give the same spikes, more slowly."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def whole_weights(weight: torch.Tensor, step: float, grad_whole: torch.Tensor | None = None) -> torch.Tensor:
    """``snn_training_weights``: weights in weight units, or with ``grad_whole``, their gradient, that of ``weight``.

    Args:
        weight: real values, float32, on the CPU, as :func:`serves_weights` wants them.
        step: real value of two weight units.
        grad_whole: of the same shape.

    Returns:
        Values that lie in memory as ``weight`` does.

    Raises:
        BlockError: the library refuses the call.
    """
    library = _library(weight.device)
    assert library is not None
    result = torch.empty_like(weight)
    if grad_whole is not None and grad_whole.stride() != weight.stride():
        grad_whole = torch.empty_like(weight).copy_(grad_whole)
    given = None if grad_whole is None else grad_whole.data_ptr()
    _require_success(library.weights(weight.data_ptr(), given, result.data_ptr(), weight.numel(), step))
    return result


def _require_success(refusal: bytes | None) -> None:
    if refusal is not None:
        raise BlockError(
            f"The native library refuses to train ({refusal.decode().rstrip('.')}): build it again with `make native`, "
            "or remove it, since torch does the same without it."
        )
