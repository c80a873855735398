"""HDF5 files of strangers whose groups nobody knows beforehand; ``netx.py`` has what it shares with files of layers."""

from math import prod
from typing import Any

import h5py
import numpy as np

from custom_ops.files.model_file import read_bytes

from .budget import Budget
from .netx import _LARGEST, _ROOM, _ROOM_FACTOR, _Group, _require_sound_heaps

__all__ = ["Group", "room_for"]


def room_for(path: Any) -> tuple[int, int]:
    """The size of a file, and the bytes that one of its datasets may have.

    Raises:
        ModelFileError: it cannot be read.
        ValueError: its strings are broken in a way that would keep HDF5's library busy for ever.
    """
    content = read_bytes(path, _LARGEST)
    _require_sound_heaps(content)
    return len(content), _ROOM_FACTOR * len(content) + _ROOM


class Group(_Group):
    """A group that says what is in it."""

    def names(self) -> list[str]:
        """Of what is in it, sorted."""
        return sorted(self._group)

    def group(self, name: str) -> "Group":
        """A group in this one."""
        found = self._own(name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name!r} is not a group")
        return Group(found, self._room)

    def is_group(self, name: str) -> bool:
        """Whether ``name`` is a group."""
        return isinstance(self._own(name), h5py.Group)

    def is_text(self, name: str) -> bool:
        """Whether ``name`` holds words of any length."""
        found = self._own(name)
        return isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) is not None

    def size(self, name: str) -> int:
        """How many numbers ``name`` holds, counted as eight bytes each."""
        found = self._own(name)
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise ValueError(f"{name!r} holds no numbers")
        return int(-(-prod(found.shape) * found.dtype.itemsize // 8))

    def words(self, name: str, budget: Budget) -> Any:
        """One word, or lists of them as the file arranges them."""
        found = self._own(name)
        if found.external or found.is_virtual or found.shape is None:
            raise ValueError(f"{name!r} is kept outside of the file")
        budget.take(prod(found.shape), 64)
        if prod((*found.shape, found.dtype.itemsize)) > self._room.most:
            raise ValueError(f"{name!r} of the shape {found.shape} is much larger than the file")
        values = found.asstr(errors="replace")[()]
        return values.tolist() if isinstance(values, np.ndarray) else str(values)
