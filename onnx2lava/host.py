"""What runs on the host around Loihi: an encoder that makes spikes of images, a readout that makes classes of spikes.

Both are ONNX models with their function bodies inside, so that any onnxruntime runs them. :func:`encode` gives what Loihi
reads, :func:`decode` what the network as a whole says.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

import custom_ops

from .errors import ConversionError
from .network import Array, Input, Network, Shape

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "Layout",
    "check_input",
    "classes",
    "decode",
    "encode",
    "fitting",
    "host_parts",
    "is_still",
    "layout",
    "metadata_of",
    "noted_time",
    "time_and_batch",
    "votes",
]


@dataclass(frozen=True)
class Layout:
    """How an ONNX value arranges what is called ``[T, N, *]`` here.

    Args:
        time: its axis of time steps; None where the network repeats one image over time.
        batch: its axis of samples.
        features: its other axes.
    """

    time: int | None
    batch: int
    features: Shape

    def arranged(self, x: Array) -> Array:
        """``x``, ``[T, N, *]`` in float32, as the value has it.

        Raises:
            ConversionError: one image is wanted, but ``x`` changes over time.
        """
        x = np.asarray(x, np.float32).reshape(*x.shape[:2], *self.features)
        if self.time is not None:
            return np.moveaxis(x, (0, 1), (self.time, self.batch))
        if (x != x[:1]).any():
            raise ConversionError("The network repeats one image over time, but the input changes: give one image, [N, *].")
        return np.moveaxis(x[0], 0, self.batch)


def layout(value: onnx.ValueInfoProto, metadata: Mapping[str, str], *, images: bool) -> Layout:
    """How a graph's input is arranged, by the names ``T`` and ``N`` of its axes; without them time comes first.

    Args:
        value: the input.
        metadata: of the file.
        images: whether it holds images, which a network may repeat over time.
    """
    dims = value.type.tensor_type.shape.dim
    still = images or is_still(metadata)
    time, batch = time_and_batch([dim.dim_param for dim in dims], noted_time(metadata), still=still)
    return Layout(time, batch, tuple(dim.dim_value for axis, dim in enumerate(dims) if axis not in (time, batch)))


def time_and_batch(dims: Sequence[object], noted: int | None, *, still: bool) -> tuple[int | None, int]:
    """Which axes of a graph's input are time and samples: those called ``T`` and ``N``, else the first two.

    Args:
        dims: its sizes, or names where they are free.
        noted: the axis of time as the exporter noted it, which counts where the number of time steps is fixed.
        still: whether it may have no axis of time, because the network repeats what it is given over time.
    """
    time = dims.index("T") if "T" in dims else None
    batch = dims.index("N") if "N" in dims else None
    if still and time is None and batch == 0 and noted is None:
        return None, batch
    if batch is None:
        return 0, 1
    if time is None:
        time = noted if noted is not None and noted < len(dims) and noted != batch else int(batch == 0)
    return time, batch


def noted_time(metadata: Mapping[str, str]) -> int | None:
    """The axis of time in the metadata of an ONNX file."""
    axis = metadata.get("sj2lava.time_axis", "")
    return int(axis) if axis.isdecimal() and len(axis) == 1 else None


def is_still(metadata: Mapping[str, str]) -> bool:
    """Whether the exporter noted that the network repeats one array ``[N, *]`` over time itself."""
    return "sj2lava.batch_axis" in metadata and "sj2lava.time_axis" not in metadata


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """What a file says of itself."""
    return {entry.key: entry.value for entry in model.metadata_props}


def fitting(network: Network[Any], x: Array | Mapping[str, Array]) -> dict[str, Array]:
    """``x`` by the name of each input that ``network`` (or its encoder) reads, ``[T, N, *]``, if the shapes fit.

    Args:
        network: with or without an encoder.
        x: by name, or the array alone where there is one input; ``[N, *]`` where the network repeats one image over time.

    Raises:
        ConversionError: an input is missing, or has another shape.
    """
    reads = _reads(network)
    if not isinstance(x, Mapping):
        if len(reads) > 1:
            raise ConversionError(f"The network has the inputs {', '.join(reads)}: give an array for each, by name.")
        x = dict.fromkeys(reads, x)
    if x.keys() != reads.keys():
        raise ConversionError(f"The input is given for {_listed(x)}, but the network reads {_listed(reads)}.")
    arrays = {name: _array(x[name]) for name in reads}
    if network.encoder is None:
        arrays = {name: _over_time(values, network.inputs[name]) for name, values in arrays.items()}
    arrays = {name: _fitted(values, reads[name], name if len(reads) > 1 else "") for name, values in arrays.items()}
    first = next(iter(arrays.values())).shape[:2]
    for name, values in arrays.items():
        if values.shape[:2] != first:
            raise ConversionError(
                f"The input {name!r} has {list(values.shape[:2])} time steps and samples, but another has {list(first)}."
            )
    return arrays


def _over_time(values: Array, given: Input) -> Array:
    """What is one array ``[N, *]``, repeated as often as the network did that before it was converted."""
    wanted = _without_ones(given.shape)
    with_time, without = (_without_ones(values.shape[lead:]) == wanted for lead in (2, 1))
    # A file may have (C, L) where the network has (C, 1, L): three axes are then no [T, N, L].
    one = values.shape[1:] == given.shape or (without and (not with_time or values.ndim == len(given.shape)))
    return np.broadcast_to(values, (given.repeats, *values.shape)) if given.repeats and one else values


def _fitted(values: Array, read: Layout, name: str) -> Array:
    if read.time is None and values.ndim == 1 + len(read.features):
        values = values[None]
    # A file may have (C, L) where the network has (C, 1, L).
    if values.ndim < 2 or _without_ones(values.shape[2:]) != _without_ones(read.features):
        which = f"The input {name!r}" if name else "The input"
        lead = "N" if read.time is None else "T, N"
        listed = "".join(f", {size}" for size in read.features)
        raise ConversionError(f"{which} has the shape {list(values.shape)}, but the network reads [{lead}{listed}].")
    return values


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def check_input(network: Network[Any], x: Array | Mapping[str, Array]) -> tuple[int, int]:
    """Steps and samples of ``x``, if it holds what ``network`` reads.

    Args:
        network: with or without an encoder.
        x: ``[T, N, *]``, or one by the name of each input.

    Raises:
        ConversionError: it does not: another shape, or other values than spikes, counts or, with an encoder, finite numbers.
    """
    arrays = fitting(network, x)
    for name, values in arrays.items():
        if network.encoder is not None:
            _check_images(values)
        elif network.inputs[name].numbers:
            _check_images(values)
            if (np.abs(values) > network.inputs[name].largest).any():
                raise ConversionError(f"The input holds numbers beyond ±{network.inputs[name].largest}: scale it down.")
        else:
            _check_spikes(values, network.inputs[name])
    steps, samples = next(iter(arrays.values())).shape[:2]
    return steps, samples


def encode(network: Network[Any], x: Array | Mapping[str, Array]) -> dict[str, Array]:
    """What goes to Loihi for the input ``x``: spikes, or counts, ``[T, N, *shape]``, float32, by the name of each input.

    Args:
        network: with or without an encoder.
        x: ``[T, N, *]``, or one by the name of each input; images where there is an encoder, else what goes to Loihi itself.

    Raises:
        ConversionError: ``x`` does not fit the network.
    """
    check_input(network, x)
    arrays = fitting(network, x)
    if network.encoder is None:
        shapes = {name: given.shape for name, given in network.inputs.items()}
        return {name: np.asarray(each, np.float32).reshape(*each.shape[:2], *shapes[name]) for name, each in arrays.items()}
    reads = _reads(network)
    found = _session(network.encoder).run(None, {name: reads[name].arranged(each) for name, each in arrays.items()})
    names = [output.name for output in network.encoder.graph.output]
    if len(names) == 1 and len(network.inputs) == 1:
        names = list(network.inputs)
    encoded = {name: np.asarray(spikes, np.float32) for name, spikes in zip(names, found, strict=True)}
    return {name: spikes.reshape(*spikes.shape[:2], *network.inputs[name].shape) for name, spikes in encoded.items()}


def decode(network: Network[Any], spikes: Array | Mapping[str, Array]) -> Array:
    """What the network says: the readout's output, or else the spikes of its first output.

    Args:
        network: with or without a readout.
        spikes: ``[T, N, *shape]`` of each output of the network, by the population's name; or the array alone where there is one.
    """
    if not isinstance(spikes, Mapping):
        spikes = {network.outputs[0]: spikes}
    if network.readout is None:
        return spikes[network.outputs[0]]
    names = [value.name for value in network.readout.graph.input]
    read = network.outputs if len(names) == 1 else names
    given = {name: np.asarray(spikes[source], np.float32) for name, source in zip(names, read, strict=True)}
    (output,) = _session(network.readout).run(None, given)
    return np.asarray(output)


def votes(output: Array, samples: int) -> Array | None:
    """What an output says for each class, ``[N, K]``: its sum over time.

    Args:
        output: ``[T, N, *]``, or ``[N, K]`` where the readout has summed up time already.
        samples: N.

    Returns:
        None where the output is of neither form.
    """
    if output.ndim == 2 and output.shape[0] == samples:
        return output
    if output.ndim >= 3 and output.shape[1] == samples:
        return np.asarray(output.sum(axis=0, dtype=np.float64).reshape(samples, -1))
    return None


def classes(output: Array, samples: int) -> Array | None:
    """The class ``[N]`` that an output votes for: the largest of :func:`votes`, the first of equals; None where none are."""
    found = votes(output, samples)
    return None if found is None else np.asarray(found.argmax(axis=1))


def host_parts(network: Network[Any], path: str | os.PathLike[str]) -> dict[Path, onnx.ModelProto | None]:
    """What stands beside the network's file ``path``: ``NAME.encoder.onnx`` and ``NAME.readout.onnx`` for ``NAME.net``.

    Returns:
        The model by path; None where the network has no such part.
    """
    net = Path(path)
    parts = {"encoder": network.encoder, "readout": network.readout}
    return {net.with_name(f"{net.stem}.{part}.onnx"): model for part, model in parts.items()}


def _session(part: onnx.ModelProto) -> "onnxruntime.InferenceSession":
    import onnxruntime  # writing files needs none

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of its own plans for buffers, which it makes anew where they do not fit
    return custom_ops.session(part, sess_options=options)


def _reads(network: Network[Any]) -> dict[str, Layout]:
    if network.encoder is None:
        return {name: Layout(0, 1, given.shape) for name, given in network.inputs.items()}
    return {value.name: layout(value, metadata_of(network.encoder), images=True) for value in network.encoder.graph.input}


def _check_images(values: Array) -> None:
    with np.errstate(over="ignore"):  # a number that float32 cannot hold becomes infinite, and is refused
        if values.dtype.kind not in "biuf" or not np.isfinite(values.astype(np.float32, copy=False)).all():
            raise ConversionError("The input holds values that are not finite numbers: an encoder cannot turn them into spikes.")


def _check_spikes(values: Array, given: Input) -> None:
    if values.dtype.kind in "biuf":
        if given.bits and ((values >= 0) & (values <= given.largest) & (values == np.rint(values))).all():
            return
        if not given.bits and ((values == 0) | (values == 1)).all():
            return
    if given.bits:
        raise ConversionError(
            f"The input holds values other than the whole numbers 0 ... {given.largest}: graded spikes of {given.bits} bits "
            "carry counts of events, no others."
        )
    raise ConversionError(
        "The input holds values other than 0 and 1, which is all that a network fed with spikes reads: say that it is fed with "
        "images or counts (--input-kind images on the command line, input='images' in Python)."
    )


def _array(values: Any) -> Array:
    """An array; what is like one and reads itself where it is asked, such as a data set of h5py, stays what it is."""
    lazy = isinstance(getattr(values, "dtype", None), np.dtype) and hasattr(values, "ndim")
    return values if lazy else np.asarray(values)  # type: ignore[no-any-return]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
