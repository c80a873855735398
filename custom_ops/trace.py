"""Recorded runs, so that one machine can check what another has seen.

A trace is an ``.npz`` file without pickled objects. Its entries:

* ``input``: what went in, ``[T, N, *]``;
* ``spikes/<module path>``, one per spiking layer: 0 and 1, ``[T, N, *]``, usually uint8;
* ``labels`` (optional): the class of each sample, whole numbers, ``[N]``.
"""

import os
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .atomic_write import replacing
from .errors import BridgeError, ModelFileError

__all__ = ["Trace", "read_array", "read_trace", "write_trace"]

Array: TypeAlias = npt.NDArray[Any]

_INPUT, _LABELS, _SPIKES = "input", "labels", "spikes/"
_LARGEST = 1 << 29
"""Bytes that a trace may hold: compressed silence takes a thousandth of them."""


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

    Entries that are no part of a trace are not read.

    Raises:
        ModelFileError: the file is missing, broken, not a trace, or holds more than ``_LARGEST`` bytes.
    """
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        wanted = [name for name in sizes if name in (_INPUT, _LABELS) or name.startswith(_SPIKES)]
        size = sum(sizes[name] for name in wanted)
        if size > _LARGEST:
            raise ModelFileError(f"{path} holds {size:,} bytes, more than {_LARGEST:,}: record fewer samples at a time.")
        with np.load(path, allow_pickle=False) as entries:
            arrays = {name: np.asarray(entries[name]) for name in wanted}
    except BridgeError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen unrelated classes for a damaged file
        raise ModelFileError(f"{path} is not a trace ({_reason(error)}): record it again.") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ModelFileError(f"{path} is not a trace: {name!r} holds {array.dtype}, not numbers; record it again.")
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
    _require_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy reads the header with Python's own parser, and lets through what that raises
        raise ModelFileError(f"{path} is not an .npy file of numbers ({_reason(error)}): save it with numpy.save.") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ModelFileError(f"{path} is an .npz archive, not an .npy file of numbers: give a recorded run as a trace.")
    if array.dtype.kind not in "biuf":
        raise ModelFileError(f"{path} is not an .npy file of numbers: save it with numpy.save.")
    return array


def _require_file(path: str | os.PathLike[str]) -> None:
    """Refuse what cannot be opened, and pipes and devices, which may never end."""
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"Cannot read {path}: {reason}; check the path.") from error
    raise ModelFileError(f"Cannot read {path}: it is not a file; check the path.")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "allow_pickle" in text or "unsafely" in text:  # advice of NumPy's that nobody should follow
        return "it holds no plain numbers"
    return text or type(error).__name__
