"""What runs on the host around Loihi: an encoder that makes spikes of images, a readout that makes classes of spikes.

Both are ONNX models with their function bodies inside, so that any onnxruntime runs them. :func:`encode` gives what Loihi
reads, :func:`decode` what the network as a whole says.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import custom_ops

from .errors import ConversionError
from .network import Array, Input, Network, Shape

__all__ = ["check_input", "classes", "decode", "encode", "features", "fitting", "host_parts"]


def fitting(network: Network[Any], x: Array | Mapping[str, Array]) -> dict[str, Array]:
    """``x`` by the name of each input that ``network`` (or its encoder) reads, ``[T, N, *]``, if the shapes fit.

    Args:
        network: with or without an encoder.
        x: by name, or the array alone where there is one input.

    Raises:
        ConversionError: an input is missing, or has another shape.
    """
    shapes = _reads(network)
    if not isinstance(x, Mapping):
        if len(shapes) > 1:
            raise ConversionError(f"The network has the inputs {', '.join(shapes)}: give an array for each, by name.")
        x = dict.fromkeys(shapes, x)
    if x.keys() != shapes.keys():
        raise ConversionError(f"The input is given for {_listed(x)}, but the network reads {_listed(shapes)}.")
    arrays = {name: _array(x[name]) for name in shapes}
    first = next(iter(arrays.values())).shape[:2]
    for name, values in arrays.items():
        which = "The input" if len(shapes) == 1 else f"The input {name!r}"
        if values.ndim < 2 or values.shape[2:] != shapes[name]:
            listed = ", ".join(map(str, shapes[name]))
            raise ConversionError(f"{which} has the shape {list(values.shape)}, but the network reads [T, N, {listed}].")
        if values.shape[:2] != first:
            raise ConversionError(f"{which} has {list(values.shape[:2])} time steps and samples, but another has {list(first)}.")
    return arrays


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
    arrays = {name: np.asarray(values, np.float32) for name, values in fitting(network, x).items()}
    if network.encoder is None:
        return arrays
    found = custom_ops.session(network.encoder).run(None, arrays)
    names = [output.name for output in network.encoder.graph.output]
    if len(names) == 1 and len(network.inputs) == 1:
        names = list(network.inputs)
    return {name: np.asarray(spikes, np.float32) for name, spikes in zip(names, found, strict=True)}


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
    (output,) = custom_ops.session(network.readout).run(None, given)
    return np.asarray(output)


def classes(output: Array, samples: int) -> Array | None:
    """The class ``[N]`` that an output votes for: the largest sum over time, the first of equals.

    Args:
        output: ``[T, N, *]``, or ``[N, K]`` where the readout has summed up time already.
        samples: N.

    Returns:
        None where the output is of neither form.
    """
    if output.ndim == 2 and output.shape[0] == samples:
        votes = output
    elif output.ndim >= 3 and output.shape[1] == samples:
        votes = output.sum(axis=0, dtype=np.float64).reshape(samples, -1)
    else:
        return None
    return np.asarray(votes.argmax(axis=1))


def host_parts(network: Network[Any], path: str | os.PathLike[str]) -> dict[Path, onnx.ModelProto | None]:
    """What stands beside the network's file ``path``: ``NAME.encoder.onnx`` and ``NAME.readout.onnx`` for ``NAME.net``.

    Returns:
        The model by path; None where the network has no such part.
    """
    net = Path(path)
    parts = {"encoder": network.encoder, "readout": network.readout}
    return {net.with_name(f"{net.stem}.{part}.onnx"): model for part, model in parts.items()}


def features(value: onnx.ValueInfoProto) -> Shape:
    """The shape of one sample at one time step of a value ``[T, N, *]``."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[2:]


def _reads(network: Network[Any]) -> dict[str, Shape]:
    if network.encoder is None:
        return {name: given.shape for name, given in network.inputs.items()}
    return {value.name: features(value) for value in network.encoder.graph.input}


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
