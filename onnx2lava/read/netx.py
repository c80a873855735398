"""Read a NetX ``.net`` file back into a network. Needs neither torch nor Lava."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.files.model_file import read_bytes
from custom_ops.loihi import DECAY_UNIT, MAX_DELAY, THRESHOLD_MAX, WEIGHT_RANGE

from ..errors import ConversionError, NetworkError
from ..network import INPUT, OUTPUT, Array, Conv, CubaNeuron, Dense, Edge, Input, Map, Network, Population, Shape

__all__ = ["MESSAGE_BITS", "NAME", "NOTES", "PRODUCER", "read_netx"]

MESSAGE_BITS = "input_message_bits"
"""Attribute of the file that says how many bits the graded spikes have that come in. NetX does not look for it."""

NAME = "sj2lava.name"
"""Attribute of a layer that says what its author calls it. NetX looks for none."""
PRODUCER = ("producer", "producer_version")
"""Attributes of the file that say who wrote it."""
NOTES = "onnx2lava.notes"
"""Key of a network's metadata: where NetX does something else with a file than its author may think, a sentence a line."""

_MOST_TEXTS, _LONGEST_TEXT = 256, 2**16
_LARGEST = 2**36  # bytes of a file; one of Loihi's chips holds far less
_HEAP, _HEAP_HEADER = b"GCOL", 16
_ROOM_FACTOR, _ROOM = 32, 2**26  # bytes of one dataset for each byte of the file, and in any file
_KEPT = 4  # bytes of a number as it is kept
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
    shape = _asked_for(input_shape, num_layers, skip_layers)
    try:
        content = read_bytes(path, _LARGEST)
        _require_sound_heaps(content)
        size = len(content)
        del content
        with h5py.File(path, "r") as file:
            root = _Group(file, _ROOM_FACTOR * size + _ROOM)
            return _Layers(root, str(path), shape, skip_layers or 0).network(num_layers)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path} is not a NetX file ({reason}): export it again.") from error


def _asked_for(input_shape: Sequence[int] | None, num_layers: int | None, skip_layers: int | None) -> Shape:
    """What comes in, (C, H, W) or (F,), if the caller says it.

    Raises:
        ConversionError: an argument makes no sense.
    """
    for name, value, least in (("num_layers", num_layers, 1), ("skip_layers", skip_layers, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ConversionError(f"The argument {name} is {value!r}, but is a whole number from {least} on.")
    shape = () if input_shape is None else tuple(input_shape)
    if input_shape is not None and (not 1 <= len(shape) <= 3 or not all(isinstance(n, int) and n > 0 for n in shape)):
        raise ConversionError(f"The argument input_shape is {input_shape!r}, but NetX takes (W, H, C) or (F,): try (28, 28, 1).")
    return shape[::-1]


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


@dataclass
class _Room:
    """Bytes that one dataset may take, and that are left for what is made of all of them."""

    most: int
    left: int


class _Group:
    """A group of hdf5, of which only what lies in the file itself can be read, and not more than there is room for."""

    def __init__(self, group: Any, room: "int | _Room") -> None:
        self._group = group
        self._room = _Room(room, room) if isinstance(room, int) else room

    def take(self, size: int) -> None:
        """Of the memory that may be made of the whole file.

        Raises:
            ValueError: there is not enough.
        """
        self._room.left -= size
        if self._room.left < 0:
            raise ValueError("its layers make more of it than there is room for")

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
        if max(sizes) > self._room.most:
            raise ValueError(f"{name!r} of the shape {found.shape} is much larger than the file")
        self.take(
            prod(found.shape) * max(found.dtype.itemsize, _KEPT)
        )  # all of them, since what is only a fill value is not stored
        return np.asarray(found[()])

    def numbers(self, name: str) -> Array:
        """Numbers that are whole in 32 bits, as NetX itself truncates them."""
        values = self.array(name)
        with np.errstate(all="ignore"):  # what is not a number is refused here
            if values.dtype.kind == "f":
                whole = bool((np.abs(values) < 2**31).all())
            else:
                whole = values.dtype.kind in "iub" and (
                    not values.size or -(2**31) < int(values.min()) <= int(values.max()) < 2**31
                )
            if not whole:
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

    def texts(self) -> dict[str, str]:
        """The group's attributes that are text of a fixed length, as :func:`save_netx` writes them, by name."""
        found = {}
        for name in list(self._group.attrs)[:_MOST_TEXTS]:
            stored = self._group.attrs.get_id(name)
            plain = stored.shape == () and stored.dtype.kind == "S" and stored.dtype.itemsize <= _LONGEST_TEXT
            if plain and str(name).isprintable():
                found[str(name)] = bytes(self._group.attrs[name]).decode("utf-8", "replace")
        return found

    def given_name(self, taken: set[str]) -> str | None:
        """The name of a layer, where the file keeps one that can be used."""
        name = self.texts().get(NAME, "")
        return name if name.isprintable() and name and name not in taken | {OUTPUT} else None

    def _own(self, name: str) -> Any:
        link = self._group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is only a link")
        return self._group[name]


class _Layers:
    """The layers of a file, one after the other, as NetX makes them (``Network._create`` in ``netx/hdf5.py`` of lava-dl 0.6.0).

    Args:
        file: its root.
        name: of the file, for messages.
        shape: what comes in, where the caller says it; empty where not.
        skip: so many layers are left out at the beginning.
    """

    def __init__(self, file: _Group, name: str, shape: Shape, skip: int) -> None:
        self._file, self._name, self._skip = file, name, skip
        self._shape: Shape | None = _arranged(shape) if shape else None
        self._given: Input | None = None
        self._flat = False
        self.populations: list[Population[CubaNeuron]] = []
        self.notes: list[str] = []

    def network(self, last: int | None) -> Network[CubaNeuron]:
        """Of all layers up to before ``last``."""
        layers = self._file.group("layer")
        for index in range(len(layers) if last is None else min(len(layers), last)):
            layer = layers.group(str(index))
            kind = layer.text("type")
            if kind == "input" and "neuron" not in layer:
                self._shape = _arranged(layer.integers("shape", 1, 2, 3)) if "shape" in layer else self._shape
            elif kind == "flatten":
                self._flat = True
            elif kind in _MAPS or kind == "input":
                try:
                    self._add(index, layer, kind)
                except NetworkError as error:
                    raise NetworkError(f"In the layer {index} of {self._name}: {error}.") from error
            else:
                why = "NetX does not run" if kind in _NOT_RUN else "neither NetX nor this program knows"
                upto = f"read those before it with num_layers={index}" if index else "export the network without it"
                raise ConversionError(f"The layer {index} of {self._name} is of the type {kind!r}, which {why}: {upto}.")
        if not self.populations or self._given is None:
            raise ConversionError(
                f"{self._name} has no layer of neurons among those that were asked for: read more of its {len(layers)} layers."
            )
        bits = self._file.attribute(MESSAGE_BITS, 0)
        if not 0 <= bits <= _MOST_MESSAGE_BITS:
            raise ValueError(f"its {MESSAGE_BITS} are {bits}")
        given = self._given if self._given.numbers else replace(self._given, bits=bits)
        metadata = {key: text for key, text in self._file.texts().items() if key not in PRODUCER}
        if self.notes:
            metadata[NOTES] = "\n".join(self.notes)
        last_name = self.populations[-1].name
        return Network(Path(self._name).name, {INPUT: given}, tuple(self.populations), (last_name,), metadata)

    def _add(self, index: int, layer: _Group, kind: str) -> None:
        source = self.populations[-1].name if self.populations else INPUT
        name = layer.given_name({each.name for each in self.populations} | {INPUT}) or f"layer/{index}"
        came = self._shape
        if kind == "input":
            population = self._input(name, layer)
            came = population.shape
        else:
            population = self._population(name, layer, kind, source, came)
            came = came or population.edges[0].map.weight.shape[1:]
        if index >= self._skip:
            if not self.populations:
                self._given = Input(came, numbers=kind == "input")
            elif kind.startswith("dense") and len(came) > 1 and not self._flat:
                raise NetworkError(f"it is dense and reads spikes of the shape {came} without a flatten layer before it")
            self.populations.append(population)
        self._shape, self._flat = population.shape, False

    def _input(self, name: str, layer: _Group) -> Population[CubaNeuron]:
        """NetX gives its neurons ``weight * x + bias`` as their bias, so that their current plays no part."""
        shape = _arranged(layer.integers("shape", 1, 2, 3))
        neuron = self._neuron(name, layer, shape)
        if np.any(np.asarray(neuron.i_decay) != DECAY_UNIT):
            self._note(name, "its input goes to the voltage, as NetX feeds it, and not through the current, as slayer does")
            neuron = replace(neuron, i_decay=DECAY_UNIT)
        weight = layer.number("weight") if "weight" in layer else _INPUT_WEIGHT
        bias = layer.number("bias") if "bias" in layer else 0
        channels, *_ = reads = shape if len(shape) == 3 else (*shape, 1, 1)
        self._file.take(2 * channels * 4)
        one_to_one = Conv(np.full((channels, 1, 1, 1), weight, np.int32), groups=channels)
        edge = Edge(INPUT, one_to_one, reads=None if reads == shape else reads)
        return Population(name, shape, neuron, (edge,), np.full(shape[:1], bias, np.int32) if bias else None)

    def _population(self, name: str, layer: _Group, kind: str, source: str, came: Shape | None) -> Population[CubaNeuron]:
        """Args: ``came``: the shape of the spikes of ``source``; None where nothing says it."""
        neuron_type = layer.group("neuron").text("type") if "neuron" in layer else "CUBA"
        if neuron_type not in ("CUBA", "LOIHI"):
            self._refuse_neuron(name, neuron_type)
        if kind == "conv":
            if came is None:
                raise ConversionError(
                    f"{self._name} begins with a convolution and does not say what comes in: give its shape as NetX takes it, "
                    "input_shape=(W, H, C), or --input-shape W,H,C on the command line."
                )
            map_: Map = _conv(layer)
            shape = map_.output_shape(came)
            if "shape" in layer and (said := layer.integers("shape", 3)) != shape:
                raise NetworkError(f"its shape is {said}, but its convolution gives {shape}")
            if "delay" in layer:
                self._note(name, "its delays are left out, as NetX leaves those of convolutions out; slayer does not")
            edges = [Edge(source, map_)]
        else:
            shape = (prod(layer.integers("shape", 1, 2, 3)) if "shape" in layer else len(layer.numbers("weight")),)
            weights = [_matrix(layer.numbers(key), shape[0]) for key in ("weight", "weight_rec")[: 1 + (kind == "dense_rec")]]
            if weights[0].ndim != 2 or len(weights[0]) != shape[0]:
                raise NetworkError(f"its weight has the shape {weights[0].shape}, but it has {shape[0]} neurons")
            weights = self._clipped(name, weights)
            edges = self._delayed(name, layer, source, weights[0])
            edges += [Edge(name, Dense(weight), 1) for weight in weights[1:]]
            for edge in edges:
                edge.map.output_shape(shape if edge.source == name else came or edge.map.weight.shape[1:])
        return Population(name, shape, self._neuron(name, layer, shape), tuple(edges), _bias(layer, shape))

    def _refuse_neuron(self, name: str, kind: str) -> NoReturn:
        what = "sigma-delta" if kind == "SDNN" else "resonate-and-fire" if "RF" in kind else "other"
        raise ConversionError(
            f"{self._name} has {what} neurons ({kind}) in {name!r}, and only CUBA neurons, whose spikes are 0 or 1, can be "
            "converted: run the file with NetX itself."
        )

    def _neuron(self, name: str, layer: _Group, shape: Shape) -> CubaNeuron:
        if "neuron" not in layer:  # what NetX's create_dense takes then: an integrator that never fires
            return CubaNeuron(0, DECAY_UNIT, THRESHOLD_MAX + 1)
        group = layer.group("neuron")
        kind = group.text("type")
        if kind not in ("CUBA", "LOIHI"):
            self._refuse_neuron(name, kind)
        if "gradedSpike" in group and group.numbers("gradedSpike").any():
            self._note(name, "its spikes are not graded, as NetX runs it; those of slayer were")
        if "weight_exp" in group:
            self._note(name, "neuron/weight_exp is left out, as in NetX; slayer scaled its weights with it")
        return CubaNeuron(*(_each(group.numbers(key), shape, key) for key in ("iDecay", "vDecay", "vThMant")))

    def _clipped(self, name: str, weights: list[Array]) -> list[Array]:
        """As ``optimize_weight_bits`` in ``netx/utils.py`` clips weights of both signs."""
        low, high = min(int(each.min()) for each in weights), max(int(each.max()) for each in weights)
        if (high > WEIGHT_RANGE[1] and low < 0) or (low < WEIGHT_RANGE[0] and high > 0):
            self._note(name, f"its weights, {low} ... {high}, are clipped to {WEIGHT_RANGE[0]} ... {WEIGHT_RANGE[1]}, as in NetX")
            return [np.clip(each, *WEIGHT_RANGE) for each in weights]
        return weights

    def _delayed(self, name: str, layer: _Group, source: str, weight: Array) -> list[Edge]:
        """One edge for each number of steps that some synapses take."""
        if "delay" not in layer:
            return [Edge(source, Dense(weight))]
        delays = layer.numbers("delay")
        if delays.max(initial=0) > MAX_DELAY:
            self._note(name, f"its delays, up to {delays.max()} steps, are clipped to {MAX_DELAY}, as in NetX")
            delays = np.clip(delays, 0, MAX_DELAY)
        if delays.ndim == 1 and len(delays) == len(weight):
            delays = delays[:, None]
        elif not (delays.ndim in (0, 2) or (delays.ndim == 1 and len(delays) == weight.shape[1])):
            raise NetworkError(f"it has {delays.size} delays for a weight of the shape {weight.shape}")
        try:
            delays = np.broadcast_to(delays, weight.shape)
        except ValueError:
            raise NetworkError(f"it has delays of the shape {delays.shape} for a weight of the shape {weight.shape}") from None
        if delays.min(initial=0) < 0:
            raise NetworkError(f"its spikes are {delays.min()} steps late, which is below 0")
        steps = np.unique(delays[weight != 0])
        if len(steps) < 2:
            return [Edge(source, Dense(weight), int(steps[0]) if len(steps) else 0)]
        self._file.take(len(steps) * weight.nbytes)
        return [Edge(source, Dense(np.where(delays == step, weight, np.int32(0))), int(step)) for step in steps]

    def _note(self, name: str, what: str) -> None:
        self.notes.append(f"In {name!r}, {what}.")


def _arranged(shape: Shape) -> Shape:
    """Of two axes, an image of one channel; a network has no other shapes than (C, H, W) and (F,)."""
    return (1, *shape) if len(shape) == 2 else shape


def _conv(group: _Group) -> Conv:
    stride, padding, dilation = (_pair(group.integers(name, 1, 2)) for name in ("stride", "padding", "dilation"))
    weight = group.numbers("weight")
    if weight.ndim == 5:  # slayer's kernels have a time axis of one step
        weight = weight.reshape(weight.shape[:4])
    return Conv(weight, stride, (*padding, *padding), dilation, group.number("groups"))


def _matrix(weight: Array, neurons: int) -> Array:
    return weight.reshape(neurons, -1) if weight.ndim == 1 else weight


def _bias(layer: _Group, shape: Shape) -> Array | None:
    """Of a convolution one for each channel, or for each neuron in Lava's order (W, H, C); of a dense layer any that fits."""
    if "bias" not in layer:
        return None
    bias = layer.numbers("bias")
    if len(shape) == 1 and bias.size in (1, *shape):
        return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), shape))
    if bias.shape == shape[::-1]:
        return bias.T
    if bias.shape == shape[:1]:
        return bias
    raise NetworkError(f"its bias of the shape {bias.shape} fits no neurons of the shape {shape}")


def _each(values: Array, shape: Shape, what: str) -> int | Array:
    """A parameter of neurons as Lava broadcasts it, over (W, H, C)."""
    if values.size == 1:
        return int(values.reshape(-1)[0])
    if values.shape == shape[:1]:
        return values
    if values.shape == shape[::-1]:
        return values.T
    raise NetworkError(f"its {what} of the shape {values.shape} fits no neurons of the shape {shape}")


_MAPS = ("conv", "dense", "dense_rec")
_NOT_RUN = ("pool", "convT", "unpool", "average", "concat", "dense_comp")
_INPUT_WEIGHT = 64
"""What NetX takes for an input layer's weight where it has none."""


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[-1]
