"""Recorded runs, so that one machine can check what another has seen.

A trace is an ``.npz`` file without pickled objects. Its entries:

* ``input``: what went in, ``[T, N, *]``;
* ``spikes/<module path>``, one per spiking layer: 0 and 1, ``[T, N, *]``, usually uint8;
* ``labels`` (optional): the class of each sample, whole numbers, ``[N]``.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .atomic_write import replacing
from .errors import ModelFileError

__all__ = ["Trace", "read_array", "read_trace", "write_trace"]

Array: TypeAlias = npt.NDArray[Any]

_INPUT, _LABELS, _SPIKES = "input", "labels", "spikes/"
_BROKEN = (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Trace:
    """A recorded run.

    Args:
        input: what went in, ``[T, N, *]``.
        spikes: what each spiking layer gave, by module path, ``[T, N, *]``.
        labels: the class of each sample, ``[N]``.
    """

    input: Array
    spikes: Mapping[str, Array]
    labels: Array | None = None


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace.

    Raises:
        ModelFileError: the file is missing, broken or not a trace.
    """
    try:
        with np.load(path, allow_pickle=False) as entries:
            arrays = {name: entries[name] for name in entries.files}
    except (*_BROKEN, AttributeError, TypeError) as error:  # a plain array has no entries
        raise ModelFileError(f"{path} is not a trace ({_reason(error)}): record it again.") from error
    spikes = {name.removeprefix(_SPIKES): array for name, array in arrays.items() if name.startswith(_SPIKES)}
    if _INPUT not in arrays or not spikes:
        raise ModelFileError(f"{path} is not a trace: it lacks {_INPUT!r} or '{_SPIKES}<layer>'; record it again.")
    return Trace(arrays[_INPUT], spikes, arrays.get(_LABELS))


def write_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace, compressed; an old file there stays whole if anything goes wrong.

    Raises:
        ModelFileError: the file cannot be written.
    """
    entries: dict[str, Any] = {_INPUT: trace.input, **{_SPIKES + name: array for name, array in trace.spikes.items()}}
    if trace.labels is not None:
        entries[_LABELS] = trace.labels
    try:
        with replacing(path) as temporary, Path(temporary).open("wb") as file:
            np.savez_compressed(file, **entries)
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror}; check the folder and the space on it.") from error


def read_array(path: str | os.PathLike[str]) -> Array:
    """Read an ``.npy`` file without pickled objects; it is mapped into memory, not copied.

    Raises:
        ModelFileError: the file is missing or is not such a file.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise ModelFileError(f"{path} is not an .npy file of numbers ({_reason(error)}): save it with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ModelFileError(f"{path} is not an .npy file of numbers: save it with numpy.save.")
    return array


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
