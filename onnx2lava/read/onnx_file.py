"""Read an ONNX model into a :class:`~onnx2lava.network.Network`."""

import os
from typing import Literal, TypeAlias, get_args

import onnx
import onnx_ir as ir

from custom_ops.files.model_file import read_graph, read_model
from custom_ops.graphs.bodies import as_written
from custom_ops.graphs.outlining import outlined
from custom_ops.operators import DOMAIN, VERSION

from ..errors import ConversionError
from ..host import metadata_of
from ..network import Network, Neuron
from .graph import Reader
from .host import encoder, readout

__all__ = ["BITS", "NUMBERS", "SEEN", "InputKind", "Source", "opened", "read_onnx"]

InputKind = Literal["spikes", "images", "counts"]
"""What a network is fed with; see :func:`onnx2lava.load`."""
Source: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto

NUMBERS = "onnx2lava.numbers"
"""Key of an ONNX file's metadata that is "1" where any numbers come in, see :class:`~onnx2lava.network.Input`."""
BITS = "onnx2lava.bits"
"""Likewise, that says of how many bits the counts are that come in."""
_WIDTHS = tuple(map(str, range(1, 25)))
SEEN = "sj2lava.input_kind"
"""Key of an ONNX file's metadata that says what the network was fed with where it was exported."""
MESSAGE_BITS = 8
"""Counts of events go in as graded spikes of so many bits, 0 to 255 a step."""


def read_onnx(model: Source, *, input: InputKind | None = None, output: str | None = None) -> Network[Neuron]:
    """The network in an ONNX model; see :func:`onnx2lava.load`."""
    if input not in (None, *get_args(InputKind)):
        raise ConversionError(f"There is no input kind {input!r}: choose from {', '.join(get_args(InputKind))}.")
    proto, graph_model = opened(model)
    metadata = metadata_of(proto)
    if input is None:
        seen = metadata.get(SEEN)
        input = "images" if seen == "images" else "counts" if seen == "counts" else "spikes"
    bits = metadata.pop(BITS, "")
    if metadata.get(SEEN) == "counts":  # the network's inputs say it
        del metadata[SEEN]
    reader = Reader(
        graph_model,
        proto.ByteSize(),
        images=input == "images",
        bits=0 if input != "counts" else int(bits) if bits in _WIDTHS else MESSAGE_BITS,
        numbers=metadata.pop(NUMBERS, "") == "1" and input == "spikes",
        output=output,
    )
    found = reader.read()
    shapes = {name: each.shape for name, each in reader.inputs.items()} | {each.name: each.shape for each in reader.populations}
    return Network(
        graph_model.graph.name or "",
        reader.inputs,
        tuple(reader.populations),
        reader.outputs,
        metadata,
        encoder(graph_model, reader.given[0], reader.encoded, shapes) if reader.encoded else None,
        None if found is None else readout(graph_model, reader.given[0], found.populations, found.dims, shapes, reader.output),
    )


def opened(model: Source) -> tuple[onnx.ModelProto, ir.Model]:
    """The model, and the same as a graph.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: it uses operators of another version.
    """
    # A function that says something else than the operator of its name is read as what it says.
    proto = as_written(outlined(read_model(model)))
    graph_model = read_graph(proto)
    version = graph_model.graph.opset_imports.get(DOMAIN, VERSION)
    if version != VERSION:
        raise ConversionError(
            f"The model uses version {version} of the operators {DOMAIN!r}, this program knows version {VERSION}: update it."
        )
    return proto, graph_model
