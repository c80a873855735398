"""Input from wherever it is, a few samples at a time, so that memory does not grow with their number."""

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.files.trace import Trace, file_kind, read_array, read_arrays

from ..errors import ConversionError
from ..host import fitting
from ..network import Array, Network

__all__ = ["Chunk", "Given", "Source", "source"]

Given: TypeAlias = str | os.PathLike[str] | Array | Mapping[str, Any] | Iterable[Any]
"""A path of an ``.npy``, ``.npz`` or HDF5 file, an array ``[T, N, *]``, one of these by the name of each input, or batches of
them, each alone or as a pair with its labels."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some samples.

    Args:
        start: number of the first.
        x: ``[T, n, *]`` by the name of each input that the network reads.
        labels: ``[n]``, or None.
        trace: recorded spikes ``[T, n, *]`` by layer, or None.
    """

    start: int
    x: Mapping[str, Array]
    labels: Array | None = None
    trace: Mapping[str, Array] | None = None

    @property
    def samples(self) -> int:
        """How many."""
        return int(next(iter(self.x.values())).shape[1])


@dataclass(frozen=True, eq=False)
class Source:
    """Where samples come from.

    Args:
        batches: each the input by name, and its labels; one batch where all is at hand.
        samples: how many there are in all; None where nobody knows before the last batch.
        steps: likewise, how many time steps each has.
        trace: recorded on the same input.
    """

    batches: Iterable[tuple[Mapping[str, Array], Array | None]]
    samples: int | None
    steps: int | None
    trace: Trace | None

    def chunks(self, size: int, first: int, last: int | None) -> Iterator[Chunk]:
        """The samples from ``first`` up to before ``last``, not more than ``size`` at once.

        Chunks start at multiples of ``size`` within a batch, so that a sample's neighbours do not depend on ``first``.
        """
        start = 0
        for x, labels in self.batches:
            samples = next(iter(x.values())).shape[1]
            for offset in range(0, samples, size):
                low = max(offset, first - start)
                high = min(offset + size, samples, samples if last is None else last - start)
                if low < high:
                    yield self._chunk(x, labels, start, low, high)
            start += samples

    def _chunk(self, x: Mapping[str, Array], labels: Array | None, start: int, low: int, high: int) -> Chunk:
        part = {name: _part(values, low, high) for name, values in x.items()}
        recorded = None
        if self.trace is not None:
            if len(part) > 1 or not np.array_equal(_part(self.trace.input, low, high), next(iter(part.values()))):
                raise ConversionError("The trace was recorded with another input: give the input that it holds.")
            recorded = {name: _part(values, low, high) for name, values in self.trace.spikes.items()}
        return Chunk(start + low, part, None if labels is None else np.array(labels[low:high]), recorded)


def source(network: Network[Any], x: Given, trace: Trace | None, labels: Array | None) -> Source:
    """Find out what ``x`` is.

    Args:
        network: that reads it.
        x: see :data:`Given`.
        trace: recorded on the same input.
        labels: ``[N]``.

    Raises:
        ModelFileError: a file cannot be read.
        ConversionError: shapes do not fit the network, or each other.
    """
    whole = _whole(network, x)
    if whole is None:
        if trace is not None or isinstance(x, str | os.PathLike | Mapping):
            raise ConversionError("The input is neither a file nor an array: a trace can be compared with one of these alone.")
        if labels is not None:
            raise ConversionError("Labels come with batches as pairs (input, labels): leave labels out.")
        return Source(_batches(network, x), None, None, None)
    steps, samples = next(iter(whole.values())).shape[:2]
    if steps == 0 or samples == 0:
        raise ConversionError(f"The input has {steps} time steps and {samples} samples: there is nothing to compare.")
    _check_labels(labels, samples)
    if trace is not None and trace.input.shape[:2] != (steps, samples):
        raise ConversionError("The trace was recorded with another input: give the input that it holds.")
    return Source([(whole, labels)], samples, steps, trace)


def _whole(network: Network[Any], x: Any) -> dict[str, Array] | None:
    """``x`` by name, if it is all at hand."""
    if isinstance(x, str | os.PathLike):
        x = _from_file(x, network)
    if isinstance(x, Mapping):
        found = {name: _from_file(each, network) if isinstance(each, str | os.PathLike) else each for name, each in x.items()}
        return fitting(network, found)
    return fitting(network, x) if hasattr(x, "shape") else None


def _from_file(path: str | os.PathLike[str], network: Network[Any]) -> Any:
    """The array in a file, or its arrays by name."""
    kind = file_kind(path)
    if kind == "npz":
        arrays = read_arrays(path, lambda name: name == "input" or name in network.inputs)
    elif kind == "hdf5":
        arrays = _hdf5(path)
    else:
        return read_array(path)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if not arrays:
        raise ModelFileError(f"{path} holds no array named 'input' or like an input of the network: give it such a name.")
    return {name: values for name, values in arrays.items() if name in network.inputs} or arrays


def _hdf5(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Its data sets of numbers, which h5py reads where they are asked for."""
    import h5py

    try:
        file = h5py.File(Path(path), "r")
        return {name: each for name, each in file.items() if isinstance(each, h5py.Dataset) and each.dtype.kind in "biuf"}
    except Exception as error:  # h5py raises whatever it stumbles over
        raise ModelFileError(f"{path} is a broken HDF5 file ({' '.join(str(error).split())}): write it again.") from error


def _batches(network: Network[Any], batches: Iterable[Any]) -> Iterator[tuple[Mapping[str, Array], Array | None]]:
    steps = None
    for batch in batches:
        x, labels = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
        whole = _whole(network, x)
        if whole is None:
            raise ConversionError(f"A batch is a {type(x).__name__}, not an array [T, N, *] or a pair of one and its labels.")
        found, samples = next(iter(whole.values())).shape[:2]
        if found != (steps or found):
            raise ConversionError(f"A batch has {found} time steps, but those before it have {steps}: give all the same length.")
        steps = found
        labels = None if labels is None else np.asarray(labels)
        _check_labels(labels, samples)
        yield whole, labels


def _check_labels(labels: Array | None, samples: int) -> None:
    if labels is None:
        return
    if labels.shape != (samples,):
        raise ConversionError(f"The labels have the shape {list(labels.shape)}, but need one for each of {samples} samples.")
    if labels.dtype.kind not in "iu":
        raise ConversionError(f"The labels are of the type {labels.dtype}, but need to be whole numbers: use labels.astype(int).")


def _part(values: Array, low: int, high: int) -> Array:
    """``[T, high - low, *]``, a copy; what was mapped into memory for it is given back."""
    part = np.array(values[:, low:high])
    owner: Any = values
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None:
        with contextlib.suppress(AttributeError, ValueError):  # systems without it keep the pages as long as they like
            owner.madvise(mmap.MADV_DONTNEED)
    return part
