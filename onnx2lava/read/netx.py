"""Read a NetX ``.net`` file back into a network. Needs neither torch nor Lava."""

import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.model_file import read_bytes

from ..errors import ConversionError, NetworkError
from ..network import INPUT, Array, Conv, CubaNeuron, Dense, Edge, Input, Map, Network, Population, Shape

__all__ = ["MESSAGE_BITS", "read_netx"]

MESSAGE_BITS = "input_message_bits"
"""Attribute of the file that says how many bits the graded spikes have that come in. NetX does not look for it."""

_LARGEST = 2**36  # bytes of a file; one of Loihi's chips holds far less
_HEAP, _HEAP_HEADER = b"GCOL", 16
_ROOM_FACTOR, _ROOM = 32, 2**26  # bytes of one dataset for each byte of the file, and in any file
_MOST_MESSAGE_BITS = 8


def read_netx(
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    num_layers: int | None = None,
    skip_layers: int | None = None,
) -> Network[CubaNeuron]:
    """The network in a ``.net`` file; see :func:`onnx2lava.load`.

    Raises:
        ModelFileError: the file is missing, not hdf5, or lacks something that its layers need.
        ConversionError: it holds a layer or neuron that this program does not know.
        NetworkError: its layers do not fit together.
    """
    try:
        content = read_bytes(path, _LARGEST)
        _require_sound_heaps(content)
        size = len(content)
        del content
        with h5py.File(path, "r") as file:
            root = _Group(file, _ROOM_FACTOR * size + _ROOM)
            return _network(root, str(path), tuple(input_shape or ())[::-1], num_layers, skip_layers or 0)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path} is not a NetX file ({reason}): write it again with save_netx.") from error


def _require_sound_heaps(content: bytes) -> None:
    """Refuse a file whose strings hdf5's library would look for without end.

    Each of its heaps of strings begins with ``GCOL``, a version and a size, and goes on with objects, each with its own size
    ("Global Heap" in the HDF5 File Format Specification, version 3). A free object of size zero keeps the library busy for ever.

    Raises:
        ValueError: the objects of a heap do not fill it.
    """
    start = content.find(_HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        at = start + _HEAP_HEADER
        while at + _HEAP_HEADER <= min(end, len(content)):
            free = content[at : at + 2] == b"\0\0"
            length = int.from_bytes(content[at + 8 : at + 16], "little")
            step = length if free else _HEAP_HEADER + -(-length // 8) * 8
            if step < _HEAP_HEADER:
                raise ValueError("a heap of its strings is broken")
            at += step
        start = content.find(_HEAP, start + 1)


class _Group:
    """A group of hdf5, of which only what lies in the file itself can be read, and not more than there is room for."""

    def __init__(self, group: Any, room: int) -> None:
        self._group = group
        self._room = room

    def __len__(self) -> int:
        return len(self._group)

    def __contains__(self, name: str) -> bool:
        return self._group.get(name, getlink=True) is not None

    def group(self, name: str) -> "_Group":
        """A group in this one."""
        found = self._own(name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name!r} is not a group")
        return _Group(found, self._room)

    def array(self, name: str) -> Array:
        """Numbers or strings."""
        found = self._own(name)
        if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "iufbS":
            raise ValueError(f"{name!r} holds no numbers and no text")
        if found.external or found.is_virtual:
            raise ValueError(f"{name!r} is kept outside of the file")
        sizes = [prod(shape) * found.dtype.itemsize for shape in (found.shape, found.chunks or ())]
        if max(sizes) > self._room:
            raise ValueError(f"{name!r} of the shape {found.shape} is much larger than the file")
        return np.asarray(found[()])

    def numbers(self, name: str) -> Array:
        """Numbers that are whole in 32 bits, as NetX itself truncates them."""
        values = self.array(name)
        with np.errstate(all="ignore"):  # what is not a number is refused here
            if values.dtype.kind not in "iufb" or not (np.abs(values.astype(np.float64)) < 2**31).all():
                raise ValueError(f"{name!r} holds something else than numbers of 32 bits")
        return values.astype(np.int32)

    def number(self, name: str) -> int:
        """One whole number."""
        (value,) = self.integers(name, 1)
        return value

    def integers(self, name: str, *counts: int) -> tuple[int, ...]:
        """Whole numbers, one of ``counts`` of them."""
        values = self.numbers(name).reshape(-1)
        if len(values) not in counts:
            raise ValueError(f"{name!r} holds {len(values)} numbers")
        return tuple(int(value) for value in values)

    def text(self, name: str) -> str:
        """A name, as a scalar or the one element of an array; bytes or a string."""
        found = self._own(name)
        if isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) is not None and found.size == 1:
            value = found[()] if found.shape == () else found[0]
            return value.decode("ascii") if isinstance(value, bytes) else str(value)
        raise ValueError(f"{name!r} is not a name")

    def attribute(self, name: str, default: int) -> int:
        """One whole number among the group's attributes."""
        if name not in self._group.attrs:
            return default
        stored = self._group.attrs.get_id(name)
        if stored.shape != () or stored.dtype.kind not in "iu":
            raise ValueError(f"its {name} are not one whole number")
        return int(self._group.attrs[name])

    def _own(self, name: str) -> Any:
        link = self._group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is only a link")
        return self._group[name]


def _network(file: _Group, name: str, given: Shape, last: int | None, skip: int) -> Network[CubaNeuron]:
    layers = file.group("layer")
    shape: Shape | None = given or None
    populations: list[Population[CubaNeuron]] = []
    source = INPUT
    for index in range(len(layers))[skip:last]:
        layer = layers.group(str(index))
        kind = layer.text("type")
        if kind == "input":
            shape = given = layer.integers("shape", 1, 3)
        elif kind in _MAPS:
            if shape is None:
                raise ConversionError(f"{name} has no input layer with a shape: write it again with save_netx.")
            try:
                populations.append(_population(f"layer/{index}", layer, _MAPS[kind](layer), source, shape, name))
            except NetworkError as error:
                raise NetworkError(f"In the layer {index} of {name}: {error}.") from error
            shape, source = populations[-1].shape, populations[-1].name
        elif kind != "flatten":
            raise ConversionError(
                f"{name} has a layer of the type {kind!r}, which NetX itself does not run: use conv, dense or dense_rec."
            )
    bits = file.attribute(MESSAGE_BITS, 0)
    if not 0 <= bits <= _MOST_MESSAGE_BITS:
        raise ValueError(f"its {MESSAGE_BITS} are {bits}")
    return Network(Path(name).name, {INPUT: Input(given, bits)}, tuple(populations), (source,))


def _population(name: str, layer: _Group, map_: Map, source: str, came: Shape, file: str) -> Population[CubaNeuron]:
    """Args: ``came``: the shape of the spikes of ``source``."""
    shape = map_.output_shape(came)
    bias = layer.numbers("bias") if "bias" in layer else None
    if bias is not None and bias.ndim == 3:
        bias = bias.T  # one for each neuron, (W, H, C)
    edges = [Edge(source, map_, _delay(layer, f"the layer {name} of {file}") if "delay" in layer else 0)]
    if layer.text("type") == "dense_rec":
        edges.append(Edge(name, Dense(layer.numbers("weight_rec")), 1))
    return Population(name, shape, _neuron(layer.group("neuron"), file), tuple(edges), bias)


def _neuron(group: _Group, name: str) -> CubaNeuron:
    kind = group.text("type")
    if kind not in ("CUBA", "LOIHI"):
        raise ConversionError(f"{name} has neurons of the type {kind!r}: only CUBA is supported.")
    return CubaNeuron(group.number("iDecay"), group.number("vDecay"), group.number("vThMant"))


def _conv(group: _Group) -> Map:
    stride, padding, dilation = (_pair(group.integers(name, 2)) for name in ("stride", "padding", "dilation"))
    return Conv(group.numbers("weight"), stride, (*padding, *padding), dilation, group.number("groups"))


def _dense(group: _Group) -> Map:
    return Dense(group.numbers("weight"))


def _delay(group: _Group, where: str) -> int:
    """The one number of steps that all spikes are late; NetX can read one for each synapse."""
    delays = group.numbers("delay").reshape(-1)
    if not delays.size or (delays != delays[0]).any():
        raise ConversionError(
            f"In {where}, spikes are {delays.min(initial=0)} to {delays.max(initial=0)} steps late, but only one delay for all "
            "neurons of a layer is supported: use NetX itself to run it."
        )
    return int(delays[0])


_MAPS: dict[str, Callable[[_Group], Map]] = {"conv": _conv, "dense": _dense, "dense_rec": _dense}


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second
