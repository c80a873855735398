"""Read an ONNX model into a :class:`~onnx2lava.network.Network`: the graph's layers as they are, then lowered.

``reader.py`` walks the graph; the operators that it knows are tables in ``arrangement.py``, ``synapses.py``, ``pooling.py`` and
``neurons.py``; ``host.py`` cuts off what stays on the host.
"""

import os
from typing import Literal

import onnx
import onnx_ir as ir

from custom_ops.model_file import read_graph, read_model
from custom_ops.operators import DOMAIN, VERSION

from ..errors import ConversionError
from ..lower import lower
from ..network import Network
from .host import extracted
from .reader import Part, read, read_part

__all__ = ["InputKind", "Part", "load", "load_part"]

InputKind = Literal["spikes", "images", "counts"]
"""What a network is fed with; see :func:`load`."""

MESSAGE_BITS = 8
"""Counts of events go in as graded spikes of so many bits, 0 to 255 a step."""


def load(model: str | os.PathLike[str] | bytes | onnx.ModelProto, *, input: InputKind = "spikes") -> Network:
    """Read a spiking network, as ``sj2onnx.export`` and ``to_onnx`` write it, or an equivalent one from any exporter.

    Synapses may be Conv, Gemm or MatMul, with biases, BatchNormalization and pooling around them; weights may come through Cast,
    Mul, DequantizeLinear, Transpose, Reshape and the like; time and batch may be folded in any way that Reshape, Flatten,
    Squeeze and Unsqueeze can say. What follows the last spikes (a vote, a mean over time, a last linear layer without neurons)
    becomes the network's ``readout``.

    Args:
        model: a path, the serialised bytes, or the model itself.
        input: what the network is fed with. ``"spikes"``: 0 and 1. ``"images"``: any numbers; the first spiking layer, which
            turns them into spikes, then stays on the host as the network's ``encoder``. ``"counts"``: whole numbers of events
            a step, which go to Loihi as graded spikes of 8 bits.

    Returns:
        The network, lowered: blocks of one synapse and one neuron. Layers that trained quantised are made of Loihi's integers
        (int32); the others of real numbers, float64 where lowering computed them.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: a node has no counterpart on the way to Loihi; the message names it.
        NetworkError: the layers contradict each other.
    """
    proto, graph_model = _opened(model)
    found = read(graph_model, proto.ByteSize(), images=input == "images", counts=input == "counts")
    encoder = readout = None
    if found.encoded is not None:
        encoder = extracted(proto, found.image, found.encoded, found.image_shape, found.input_shape)
    if found.decoded is not None:
        readout = extracted(proto, found.spikes, found.decoded, found.layers[-1].shape, None, graph_input=found.image)
    return Network(
        graph_model.graph.name or "",
        found.input_shape,
        lower(found.layers),
        {entry.key: entry.value for entry in proto.metadata_props},
        encoder,
        readout,
        MESSAGE_BITS if input == "counts" else 0,
    )


def load_part(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Part:
    """Read a graph that is one synapse or one neuron, as ``sj2onnx.export`` writes a single layer.

    Args:
        model: a path, the serialised bytes, or the model itself.

    Raises:
        ModelFileError, ConversionError: as :func:`load`.
    """
    proto, graph_model = _opened(model)
    return read_part(graph_model, proto.ByteSize())


def _opened(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, ir.Model]:
    proto = read_model(model)
    graph_model = read_graph(proto)
    version = graph_model.graph.opset_imports.get(DOMAIN, VERSION)
    if version != VERSION:
        raise ConversionError(
            f"The model uses version {version} of the operators {DOMAIN!r}, this program knows version {VERSION}: update it."
        )
    return proto, graph_model
