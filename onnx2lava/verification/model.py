"""What is verified: a file or a network, and the file itself as one more runtime, whose spikes are found by the values' names."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnxruntime

import custom_ops
from custom_ops.files.model_file import read_model

from ..errors import ConversionError
from ..host import Layout, layout, metadata_of
from ..network import Array, Network, Neuron
from ..targets.onnx import ORT, to_onnx

if TYPE_CHECKING:
    from ..read.onnx_file import InputKind

__all__ = ["File", "Model", "Subject", "opened", "run_file"]

Subject: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto | Network[Any]
"""A path of an ``.onnx`` or ``.net`` file, the serialised bytes, the model itself, or a network."""


@dataclass(frozen=True, eq=False)
class File:
    """An ONNX file, as it runs.

    Args:
        model: with all values that are to be compared among its outputs.
        layers: by population, the output that holds its spikes.
        encoder: by input of the network, the output that holds what the encoder gives for it.
        encoder_layers: likewise, the module path of the layer that gives it.
        output: the output that is the network's.
        samples: how many samples it insists on; None where it takes any number.
        inputs: how each input of a whole file is arranged, which reads what the encoder reads and gives what the readout gives;
            None where it was written from a network, and reads and gives spikes.
    """

    model: bytes
    layers: Mapping[str, str]
    encoder: Mapping[str, str]
    encoder_layers: Mapping[str, str]
    output: str
    samples: int | None
    inputs: Mapping[str, Layout] | None

    def fed(self, x: Mapping[str, Array], spikes: Mapping[str, Array]) -> dict[str, Array]:
        """What it reads, by the name of each input.

        Args:
            x: what the whole network reads, ``[T, N, *]`` by the name of each input.
            spikes: what goes to Loihi for it, likewise.
        """
        if self.inputs is None:
            return dict(spikes)
        if len(self.inputs) == 1:  # which an encoder calls as it likes
            ((name, arrangement),) = self.inputs.items()
            return {name: arrangement.arranged(next(iter(x.values())))}
        return {name: arrangement.arranged(x[name]) for name, arrangement in self.inputs.items()}


@dataclass(frozen=True, eq=False)
class Model:
    """What is verified.

    Args:
        identity: ``"name"``, and ``"sha256"`` of the file.
        network: as it was read.
        file: None where ONNX has no file for the network.
    """

    identity: Mapping[str, str]
    network: Network[Neuron]
    file: File | None


def opened(subject: Subject, input: "InputKind | None", output: str | None) -> Model:
    """Read it.

    Args:
        subject: see :data:`Subject`.
        input: what a file is fed with, see ``load``; by default what the exporter saw, else spikes.
        output: which of a file's outputs is the network's.

    Raises:
        ModelFileError, ConversionError, NetworkError: as ``load``.
    """
    from ..read.formats import format_of
    from ..read.onnx_file import read_onnx

    name = Path(subject).name if isinstance(subject, str | os.PathLike) else None
    if not isinstance(subject, Network) and (found := format_of(subject)).read is not read_onnx:
        subject = found.read(subject)
    if isinstance(subject, Network):
        proto = None if ORT.check(subject) else to_onnx(subject, outputs="all")
        return Model(_identity(name or subject.name, proto), subject, None if proto is None else _written(proto, subject))
    proto = read_model(subject)
    network = read_onnx(proto, input=input, output=output)
    return Model(_identity(name or network.name, proto), network, _given(proto, network, output))


def run_file(file: File, x: Mapping[str, Array], *, native: bool) -> dict[str, Array]:
    """All its outputs.

    Args:
        file: to be run on onnxruntime.
        x: by the name of each input, as the file reads it.
        native: whether the native operators stand in for the function bodies that the file brings along.

    Raises:
        ConversionError: the file has fixed other sizes, or onnxruntime cannot run it on this input.
    """
    session = _session(file.model, native)
    for value in session.get_inputs():
        given = x[value.name].shape if value.name in x else ()
        if any(isinstance(fixed, int) and fixed != size for fixed, size in zip(value.shape, given, strict=False)):
            raise ConversionError(
                f"The file reads {value.name!r} as {value.shape}, but this input makes it {list(given)}: give it [T, N, *], time "
                "first, with the sizes that are fixed in the file, or export the network with an example of other sizes."
            )
    names = [output.name for output in session.get_outputs()]
    try:
        return {name: np.asarray(values) for name, values in zip(names, session.run(names, dict(x)), strict=True)}
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        shape = list(next(iter(x.values())).shape)
        reason = " ".join(str(error).split())
        raise ConversionError(f"The file does not run on input of the shape {shape} ({reason}): export it again.") from error


@lru_cache(maxsize=2)
def _session(model: bytes, native: bool) -> onnxruntime.InferenceSession:
    return custom_ops.session(model, native=native)


def _identity(name: str, proto: onnx.ModelProto | None) -> dict[str, str]:
    content = b"" if proto is None else proto.SerializeToString(deterministic=True)
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest()}


def _written(proto: onnx.ModelProto, network: Network[Neuron]) -> File:
    """A file that ``to_onnx`` wrote, with the spikes of all populations as outputs of their names."""
    layers = {each.name: each.name for each in network.populations}
    return File(proto.SerializeToString(), layers, {}, {}, network.outputs[0], None, None)


def _given(proto: onnx.ModelProto, network: Network[Neuron], output: str | None) -> File:
    """A file from anywhere, with the values that its populations were read from as further outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    made = {value: node.name.rpartition("/")[0] for node in model.graph.node for value in node.output}
    layers: dict[str, str] = {}
    for each in network.populations:
        if isinstance(each.origin, tuple) and all(value in made for value in each.origin):  # one time step each
            layers[each.name] = f"{each.name}/all time steps"
            model.graph.node.append(onnx.helper.make_node("Concat", each.origin, [layers[each.name]], axis=0))
        elif isinstance(each.origin, str) and each.origin in made:
            layers[each.name] = each.origin
    encoder = {name: given.origin for name, given in network.inputs.items() if given.origin is not None and given.origin in made}
    shown = {value.name for value in model.graph.output}
    wanted = [value for value in dict.fromkeys((*layers.values(), *encoder.values())) if value not in shown]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in wanted)
    return File(
        model=model.SerializeToString(),
        layers=layers,
        encoder=encoder,
        # Traces call layers by their module paths, which are how the exporter names nodes.
        encoder_layers={name: made[origin] or name for name, origin in encoder.items()},
        output=output or proto.graph.output[0].name,
        samples=_fixed_samples(proto),
        inputs={
            value.name: layout(value, metadata_of(proto), images=network.encoder is not None)
            for value in proto.graph.input
            if value.name not in {tensor.name for tensor in proto.graph.initializer}
        },
    )


def _fixed_samples(proto: onnx.ModelProto) -> int | None:
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    batch = layout(proto.graph.input[0], metadata_of(proto), images=True).batch
    return dims[batch].dim_value or None if batch < len(dims) else None


def arranged(spikes: Array, steps: int, samples: int, shape: tuple[int, ...]) -> Array | None:
    """Spikes ``[T, N, *shape]``, from which some nodes differ: pools fold time into the batch, and some give features flat.

    Returns:
        None where they are something else.
    """
    wanted = (steps, samples, *shape)
    return spikes.reshape(wanted) if spikes.size == prod(wanted) else None
