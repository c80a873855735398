"""Write a network as the hdf5 file that NetX (``lava.lib.dl.netx``) loads. Needs neither torch nor Lava."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import h5py
import numpy as np

from custom_ops.atomic_write import replacing
from custom_ops.errors import ModelFileError

from ..limits import INT8_MAX, require_netx
from ..network import Block, Conv, Dense, Network

__all__ = ["MESSAGE_BITS", "save_netx"]

MESSAGE_BITS = "input_message_bits"
"""Attribute of the file that says how many bits the graded spikes have that come in. NetX does not look for it."""

_Layer = Mapping[str, Any]


def save_netx(network: Network, path: str | os.PathLike[str]) -> None:
    """Write ``network`` to ``path`` as a NetX ``.net`` file; an old file there stays whole if anything goes wrong.

    The file holds, layer by layer and dataset by dataset, what ``export_hdf5`` of the same slayer blocks would write, after an
    ``input`` layer of ``type`` and ``shape`` alone, which spares users ``Network(..., input_shape=)``. The one exception is a
    convolution of more than 127 groups, which Lava would run wrongly: it is written with fewer groups, and zeros between.

    A network that reads counts needs ``Network(..., input_message_bits=8)``, which no layer can say: the file carries the number
    as an attribute, where ``run_netx`` finds it. Encoder and readout are no part of the file, see ``host.save_host_parts``.

    Args:
        network: Loihi integers, a chain of blocks.
        path: usually ``NAME.net``.

    Raises:
        ConversionError: the network is not a chain.
        LimitError: NetX would refuse the network or run it wrongly.
        ModelFileError: the file cannot be written.
    """
    layers = _layers(network)
    # hdf5's library is not at its best on a full disk: it writes to memory, and only whole files go to the disk.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        if network.message_bits:
            file.attrs[MESSAGE_BITS] = network.message_bits
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                group.create_dataset(key, data=value)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.") from error


def _layers(network: Network) -> list[_Layer]:
    require_netx(network)
    layers: list[_Layer] = [{"type": _type("input"), "shape": _integers(network.input_shape)}]
    for block in network.chain():
        if block.flattens:
            layers.append({"type": _type("flatten"), "shape": _integers((prod(block.input_shape), 1, 1))})
        layers.append(_conv(block) if isinstance(block.synapse, Conv) else _dense(block))
    return layers


def _conv(block: Block) -> _Layer:
    assert isinstance(block.synapse, Conv)
    synapse = _with_few_groups(block.synapse)
    outputs, per_group, *kernel = synapse.weight.shape
    return {
        "type": _type("conv"),
        "shape": _integers(block.shape),
        "inChannels": np.int64(per_group * synapse.groups),
        "outChannels": np.int64(outputs),
        "kernelSize": _integers(kernel),
        "stride": _integers(synapse.stride),
        "padding": _integers(synapse.padding),
        "dilation": _integers(synapse.dilation),
        "groups": np.int64(synapse.groups),
        **_weight_bias_neuron(replace(block, synapse=synapse)),
    }


def _with_few_groups(synapse: Conv) -> Conv:
    """The same convolution in at most 127 groups.

    Lava holds the number of groups in an int8 (``PyConvModelFixed`` of lava-nc 0.10) and gives no spike at all where it
    overflows. Neighbouring groups become one, with zeros where they do not see each other.
    """
    if synapse.groups <= INT8_MAX:
        return synapse
    groups = max(divisor for divisor in range(1, INT8_MAX + 1) if synapse.groups % divisor == 0)
    merged = synapse.groups // groups
    outputs, per_group, *kernel = synapse.weight.shape
    weight = np.zeros((groups, merged, outputs // synapse.groups, merged, per_group, *kernel), synapse.weight.dtype)
    for part in range(merged):
        weight[:, part, :, part] = synapse.weight.reshape(groups, merged, -1, per_group, *kernel)[:, part]
    return replace(synapse, weight=weight.reshape(outputs, merged * per_group, *kernel), groups=groups)


def _dense(block: Block) -> _Layer:
    assert isinstance(block.synapse, Dense)
    recurrent = block.synapse.recurrent
    layer: dict[str, Any] = {
        "type": _type("dense" if recurrent is None else "dense_rec"),
        "shape": _integers(block.shape),
        "inFeatures": np.int64(block.synapse.weight.shape[1]),
        "outFeatures": np.int64(block.synapse.weight.shape[0]),
        **_weight_bias_neuron(block),
    }
    if recurrent is not None:
        layer["weight_rec"] = recurrent.astype(np.float32)
    if block.delay:
        layer["delay"] = np.int64(block.delay)
    return layer


def _weight_bias_neuron(block: Block) -> _Layer:
    # slayer computes in float32 and so do its files; NetX casts to integers when it reads.
    layer: dict[str, Any] = {"weight": block.synapse.weight.astype(np.float32)}
    if block.bias is not None:
        layer["bias"] = block.bias.astype(np.float32)
    neuron = block.cuba
    return layer | {
        "neuron/type": "CUBA",
        "neuron/iDecay": np.int64(neuron.i_decay),
        "neuron/vDecay": np.int64(neuron.v_decay),
        "neuron/vThMant": np.int64(neuron.v_threshold),
        "neuron/refDelay": np.int64(1),
        "neuron/gradedSpike": np.bool_(False),
    }


def _type(name: str) -> np.ndarray[Any, Any]:
    return np.array([name.encode()], "S10")


def _integers(values: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)
