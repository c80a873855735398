"""Recorded runs, so that one machine can check what another has seen, and arrays in files of strangers.

A trace is an ``.npz`` file without pickled objects. Its entries:

* ``input``: what went in, ``[T, N, *]``;
* ``spikes/<module path>``, one per spiking layer: 0 and 1, ``[T, N, *]``, usually uint8;
* ``labels`` (optional): the class of each sample, whole numbers, ``[N]``.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError
from .atomic_write import replacing
from .model_file import require_file

__all__ = ["Trace", "file_kind", "read_array", "read_arrays", "read_trace", "write_trace"]

Array: TypeAlias = npt.NDArray[Any]

_INPUT, _LABELS, _SPIKES = "input", "labels", "spikes/"
_LARGEST = 1 << 29
"""Bytes that the arrays of a compressed file may hold: compressed silence takes a thousandth of them."""
_NUMBERS = "biuf"
_ADVICE = "save it with numpy.save"


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
    """Read a trace; its arrays are mapped into memory, not copied.

    Raises:
        ModelFileError: the file is missing, broken or not a trace.
    """
    kind = file_kind(path)
    if kind != "npz":
        advice = "give it as --input" if kind == "npy" else "record it again"
        raise ModelFileError(f"{path} is not a trace, which is an .npz file, but {_KINDS[kind]}: {advice}.")
    arrays = read_arrays(path, lambda name: name in (_INPUT, _LABELS) or name.startswith(_SPIKES))
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
    """Read an ``.npy`` file of numbers; it is mapped into memory, not copied.

    Raises:
        ModelFileError: the file is missing or is not such a file.
    """
    kind = file_kind(path)
    if kind == "npz":
        raise ModelFileError(f"{path} is an .npz file of several arrays, such as a trace: give it as --trace, or one array.")
    if kind != "npy":
        raise ModelFileError(f"{path} is not an .npy file of numbers, but {_KINDS[kind]}: {_ADVICE}.")
    try:
        with Path(path).open("rb") as file:
            return _mapped(file, Path(path).stat().st_size)
    except Exception as error:  # numpy evaluates the header, which may say anything
        raise ModelFileError(f"{path} is not an .npy file of numbers ({_reason(error)}): {_ADVICE}.") from error


def read_arrays(path: str | os.PathLike[str], wanted: Any = lambda name: True) -> dict[str, Array]:
    """The arrays of numbers in an ``.npz`` file, by name, mapped into memory.

    What is compressed goes to a temporary file, not into memory; what is not asked for is not looked at.

    Args:
        path: of the file.
        wanted: says of a name whether its array is wanted.

    Raises:
        ModelFileError: the file is missing or broken, or an array holds something else than numbers.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            chosen = {name: info for name, info in members.items() if wanted(name)}
            size = sum(info.file_size for info in chosen.values())
            if size > _LARGEST:
                raise ModelFileError(
                    f"{path} holds {size:,} bytes, more than {_LARGEST:,}: record fewer samples at a time, or save .npy files."
                )
            return {name: _unpacked(archive, info, name) for name, info in chosen.items()}
    except ModelFileError:
        raise
    except Exception as error:  # zipfile and numpy raise whatever they stumble over
        raise ModelFileError(f"{path} is a broken .npz file ({_reason(error)}): write it again.") from error


_SIGNATURES = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"\x89HDF\r\n\x1a\n": "hdf5"}
_KINDS = {
    "npy": "an .npy file",
    "npz": "an .npz file",
    "hdf5": "an HDF5 file, such as one for NetX",
    "other": "something else",
}


def file_kind(path: str | os.PathLike[str]) -> str:
    """``"npy"``, ``"npz"``, ``"hdf5"`` or ``"other"``, by how the file begins.

    Raises:
        ModelFileError: it cannot be read.
    """
    require_file(path)
    try:
        with Path(path).open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {_reason(error)}; check the path.") from error
    return next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), "other")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(info) as packed:
        shape, _, dtype = _header(packed, repr(name))
        size = packed.tell() + prod(shape) * dtype.itemsize
    if info.file_size != size:
        raise ValueError(f"{info.filename!r} has {info.file_size} bytes, but its header says {size}")
    with tempfile.TemporaryFile() as file:
        if shutil.disk_usage(tempfile.gettempdir()).free < size:
            raise ValueError(f"{info.filename!r} needs {size} bytes for temporary files, which are not free")
        with archive.open(info) as packed:
            shutil.copyfileobj(packed, file)
        file.seek(0)
        return _mapped(file, size)


def _mapped(file: IO[bytes], size: int) -> Array:
    """The array in an open ``.npy`` file of ``size`` bytes."""
    shape, fortran, dtype = _header(file)
    start = file.tell()
    if start + prod(shape) * dtype.itemsize > size:
        raise ValueError("it is cut off")
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")  # type: ignore[call-overload,no-any-return]


def _header(file: IO[bytes], what: str = "it") -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of its format is unknown")
    shape, fortran, dtype = read[version](file)
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"{what} holds {'objects' if dtype.hasobject else dtype}, not numbers")
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**62 for size in shape):
        raise ValueError(f"{what} has the shape {shape}")
    return shape, fortran, dtype


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
