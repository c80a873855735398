"""Read a NetX ``.net`` file back into a network. Needs neither torch nor Lava."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from custom_ops.errors import ModelFileError

from .errors import ConversionError
from .network import INPUT, Array, Block, Conv, CubaNeuron, Dense, Network, Shape, Synapse
from .write.netx import MESSAGE_BITS

__all__ = ["is_netx", "load_netx"]

_Group: TypeAlias = Any  # h5py has no types
_MOST_MESSAGE_BITS = 8


def is_netx(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as hdf5 files do."""
    try:
        with Path(path).open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {error.strerror}; check the path.") from error


def load_netx(path: str | os.PathLike[str]) -> Network:
    """The network in a ``.net`` file. Its blocks are named by their layer, ``layer/3``: the format keeps no names.

    Args:
        path: a file with an ``input`` layer, as ``save_netx`` writes it.

    Raises:
        ModelFileError: the file is missing, not hdf5, or lacks something that its layers need.
        ConversionError: it holds a layer or neuron that this program does not know.
        NetworkError: its layers do not fit together.
    """
    try:
        with h5py.File(path, "r") as file:
            return _network(file, str(path))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path} is not a NetX file ({reason}): write it again with save_netx.") from error


def _network(file: Any, name: str) -> Network:
    layers = file["layer"]
    shape: Shape | None = None
    input_shape: Shape = ()
    blocks: list[Block] = []
    source = INPUT
    for index in range(len(layers)):
        layer = layers[str(index)]
        kind = layer["type"][0].decode("ascii")
        if kind == "input":
            shape = input_shape = _integers(layer["shape"])
        elif kind in _SYNAPSES:
            if shape is None:
                raise ConversionError(f"{name} has no input layer with a shape: write it again with save_netx.")
            synapse = _SYNAPSES[kind](layer)
            bias = _whole(layer["bias"]) if "bias" in layer else None
            block = Block(f"layer/{index}", synapse, _neuron(layer["neuron"], name), shape, bias, (source,))
            blocks.append(block)
            shape, source = block.shape, block.name
        elif kind != "flatten":
            raise ConversionError(f"{name} has a layer of the type {kind!r}, which NetX itself does not run: use conv or dense.")
    message_bits = int(file.attrs.get(MESSAGE_BITS, 0))
    if not 0 <= message_bits <= _MOST_MESSAGE_BITS:
        raise ValueError(f"its {MESSAGE_BITS} are {message_bits}")
    return Network(Path(name).name, input_shape, tuple(blocks), message_bits=message_bits)


def _neuron(group: _Group, name: str) -> CubaNeuron:
    kind = group["type"][()]
    if kind not in (b"CUBA", b"LOIHI"):
        raise ConversionError(f"{name} has neurons of the type {kind!r}: only CUBA is supported.")
    return CubaNeuron(int(group["iDecay"][()]), int(group["vDecay"][()]), int(group["vThMant"][()]))


def _conv(group: _Group) -> Synapse:
    stride, padding, dilation = (_pair(group[name]) for name in ("stride", "padding", "dilation"))
    return Conv(_whole(group["weight"]), stride, padding, dilation, int(group["groups"][()]))


def _dense(group: _Group) -> Synapse:
    return Dense(_whole(group["weight"]))


_SYNAPSES: dict[str, Callable[[_Group], Synapse]] = {"conv": _conv, "dense": _dense}


def _whole(dataset: Any) -> Array:
    values = np.asarray(dataset[()])
    if values.size and not (np.abs(values) < 2**31).all():
        raise ValueError("a weight or bias is not a number")
    return values.astype(np.int32)  # as NetX itself truncates them


def _integers(dataset: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in dataset[()])


def _pair(dataset: Any) -> tuple[int, int]:
    first, second = _integers(dataset)
    return first, second
