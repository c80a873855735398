"""What runs on the host around Loihi: an encoder that makes spikes of images, a readout that makes classes of spikes.

Both are ONNX models with their function bodies inside, so that any onnxruntime runs them. :func:`encode` gives what Loihi
reads, :func:`decode` what the network as a whole says.
"""

import os
from pathlib import Path

import numpy as np

import custom_ops
from custom_ops.model_file import write_model

from .errors import ConversionError
from .network import Array, Network

__all__ = ["check_input", "classes", "decode", "encode", "save_host_parts"]


def check_input(network: Network, x: Array) -> tuple[int, int]:
    """Steps and samples of ``x``, if it holds what ``network`` reads, ``[T, N, *]``.

    Raises:
        ConversionError: it does not: another shape, or other values than spikes, counts or, with an encoder, finite numbers.
    """
    shape = network.input_shape if network.encoder is None else _features(network)
    if x.ndim < 2 or x.shape[2:] != shape:
        listed = ", ".join(map(str, shape))
        raise ConversionError(f"The input has the shape {list(x.shape)}, but the network reads [T, N, {listed}].")
    if network.encoder is not None:
        if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
            raise ConversionError("The input holds values that are not finite numbers: an encoder cannot turn them into spikes.")
    elif network.message_bits:
        largest = 2**network.message_bits - 1
        if not ((x >= 0) & (x <= largest) & (x == np.rint(x))).all():
            raise ConversionError(
                f"The input holds values other than the whole numbers 0 ... {largest}: graded spikes of "
                f"{network.message_bits} bits carry counts of events, no others."
            )
    elif not ((x == 0) | (x == 1)).all():
        raise ConversionError(
            "The input holds values other than 0 and 1: a network for Loihi reads spikes; load it as fed with images or counts."
        )
    return x.shape[0], x.shape[1]


def encode(network: Network, x: Array) -> Array:
    """What goes to Loihi for the input ``x``: spikes, or counts, ``[T, N, *input_shape]``, float32.

    Args:
        network: with or without an encoder.
        x: input ``[T, N, *]``; images where there is an encoder, else what goes to Loihi itself.

    Raises:
        ConversionError: ``x`` does not fit the network.
    """
    check_input(network, x)
    if network.encoder is None:
        return np.asarray(x, np.float32)
    (spikes,) = custom_ops.session(network.encoder).run(None, {"input": np.asarray(x, np.float32)})
    return np.asarray(spikes, np.float32)


def decode(network: Network, spikes: Array) -> Array:
    """What the network says, given the spikes ``[T, N, *]`` of its last block: the readout's output, or else the spikes."""
    if network.readout is None:
        return spikes
    (output,) = custom_ops.session(network.readout).run(None, {"input": np.asarray(spikes, np.float32)})
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


def save_host_parts(network: Network, path: str | os.PathLike[str]) -> list[Path]:
    """Write the encoder and the readout, where there are any, beside the ``.net`` file ``path``.

    Returns:
        The files written: ``NAME.encoder.onnx`` and ``NAME.readout.onnx`` for ``NAME.net``.

    Raises:
        ModelFileError: one cannot be written.
    """
    net = Path(path)
    written = []
    for part, model in (("encoder", network.encoder), ("readout", network.readout)):
        if model is not None:
            written.append(net.with_name(f"{net.name.removesuffix('.net')}.{part}.onnx"))
            write_model(model, written[-1])
    return written


def _features(network: Network) -> tuple[int, ...]:
    assert network.encoder is not None
    return tuple(dim.dim_value for dim in network.encoder.graph.input[0].type.tensor_type.shape.dim)[2:]
