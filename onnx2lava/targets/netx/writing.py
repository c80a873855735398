"""Write a chain as the hdf5 file that NetX (``lava.lib.dl.netx``) loads. Needs neither torch nor Lava."""

import io
import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import h5py
import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.files.atomic_write import replacing
from custom_ops.version import __version__

from ...network import Array, Conv, CubaNeuron, Map, Network, Neuron, Population, require_loihi
from ...read.netx import MESSAGE_BITS, NAME, PRODUCER
from ..base import require
from ..limits import loihi
from ..order import in_order
from .legalising import legalised, synapses

__all__ = ["save_netx"]

_Layer = Mapping[str, Any]
_LONGEST_TEXT = 2**15
_KEYS = ("iDecay", "vDecay", "vThMant")
"""What NetX calls the parameters of a CUBA neuron, in our order."""


def save_netx(network: Network[Neuron], path: str | os.PathLike[str]) -> None:
    """Write ``network`` to ``path`` as a NetX ``.net`` file; an old file there stays whole if anything goes wrong.

    The network is legalised first (``targets.NETX.legalise``); where that makes the last population flat, the legalised network
    has the readout that fits the file. The file holds, layer by layer and dataset by dataset, what ``export_hdf5`` of the same
    slayer blocks would write, after an ``input`` layer of ``type`` and ``shape`` alone, which spares users
    ``Network(..., input_shape=)``.

    A network that reads counts needs ``Network(..., input_message_bits=8)``, which no layer can say: the file carries the number
    as an attribute, where ``run_netx`` finds it. Encoder and readout are no part of the file.

    Args:
        network: Loihi's integers, a chain.
        path: usually ``NAME.net``.

    Raises:
        ConversionError: a population has neurons of real numbers.
        LimitError: the network is no chain, or NetX would refuse it or run it wrongly.
        ModelFileError: the file cannot be written.
    """
    require(loihi(network))
    legal, findings = legalised(require_loihi(network))
    require(findings)
    (given,) = legal.inputs.values()
    # hdf5's library is not at its best on a full disk: it writes to memory, and only whole files go to the disk.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, text in {**legal.metadata, **dict(zip(PRODUCER, ("sj2lava", __version__), strict=True))}.items():
            if key != MESSAGE_BITS:
                _write_text(file, key, text)
        if given.bits:
            file.attrs[MESSAGE_BITS] = given.bits
        for index, layer in enumerate(_layers(legal)):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                if key == NAME:
                    _write_text(group, key, value)
                else:
                    group.create_dataset(key, data=value)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.") from error


def _layers(network: Network[CubaNeuron]) -> list[_Layer]:
    (given,) = network.inputs.values()
    layers: list[_Layer] = [{"type": _type("input"), "shape": _integers(given.shape)}]
    shape = given.shape
    for each in in_order(network):
        map_, delays = synapses(each)
        if given.numbers and len(layers) == 1 and "neuron/type" not in layers[0]:
            layers = [{**layers[0], **_input(each, map_)}]
        elif isinstance(map_, Conv):
            layers.append(_conv(each, map_))
        else:
            if len(shape) > 1:
                layers.append({"type": _type("flatten"), "shape": _integers((prod(shape), 1, 1))})
            layers.append(_dense(each, map_.weight, delays))
        shape = each.shape
    return layers


def _input(population: Population[CubaNeuron], map_: Map) -> _Layer:
    """NetX's ``Input`` block: one weight and one bias make its neurons' bias of what comes in."""
    layer = dict(_weight_bias_neuron(population, map_.weight.reshape(-1)[:1]))
    if population.bias is not None:
        layer["bias"] = layer["bias"].reshape(-1)[:1]
    return layer


def _conv(population: Population[CubaNeuron], map_: Conv) -> _Layer:
    outputs, per_group, *kernel = map_.weight.shape
    return {
        "type": _type("conv"),
        "shape": _integers(population.shape),
        "inChannels": np.int64(per_group * map_.groups),
        "outChannels": np.int64(outputs),
        "kernelSize": _integers(kernel),
        "stride": _integers(map_.stride),
        "padding": _integers(map_.pads[:2]),
        "dilation": _integers(map_.dilation),
        "groups": np.int64(map_.groups),
        **_weight_bias_neuron(population, map_.weight),
    }


def _dense(population: Population[CubaNeuron], weight: Array, delays: int | Array) -> _Layer:
    layer: dict[str, Any] = {
        "type": _type("dense_rec" if population.feedback else "dense"),
        "shape": _integers(population.shape),
        "inFeatures": np.int64(weight.shape[1]),
        "outFeatures": np.int64(weight.shape[0]),
        **_weight_bias_neuron(population, weight),
    }
    for feedback in population.feedback:
        layer["weight_rec"] = feedback.map.weight.astype(np.float32)
    if np.any(delays):
        layer["delay"] = np.asarray(delays, np.int64)
    return layer


def _weight_bias_neuron(population: Population[CubaNeuron], weight: Array) -> _Layer:
    # slayer computes in float32 and so do its files; NetX casts to integers when it reads.
    layer: dict[str, Any] = {"weight": weight.astype(np.float32)}
    if population.bias is not None:
        # Transposed, it is in Lava's order: (W, H, C) where each neuron has its own.
        layer["bias"] = population.bias.T.astype(np.float32)
    neuron = population.neuron
    return layer | {
        NAME: population.name,
        "neuron/type": "CUBA",
        # Lava broadcasts to (W, H, C), so that one for each channel stays as it is.
        **{
            f"neuron/{key}": np.asarray(values).T.astype(np.int64)
            for key, (_, values) in zip(_KEYS, neuron.parameters(), strict=True)
        },
        "neuron/refDelay": np.int64(1),
        "neuron/gradedSpike": np.bool_(False),
    }


def _write_text(group: h5py.Group, key: str, text: str) -> None:
    """As an attribute of a fixed length, which needs no heap; one that HDF5 has no room or no name for is left out."""
    data = text.encode()
    if 0 < len(data) <= _LONGEST_TEXT and 0 < len(key.encode()) <= _LONGEST_TEXT and "\0" not in key:
        group.attrs[key] = np.bytes_(data)


def _type(name: str) -> Array:
    return np.array([name.encode()], "S10")


def _integers(values: Sequence[int]) -> Array:
    return np.array(values, np.int64)
