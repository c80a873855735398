"""Run a ``.net`` file in Lava's CPU simulation, bit-accurate with Loihi, and take its pipeline delay off. Needs lava-dl."""

import os
from typing import Any

import numpy as np

from ...errors import LavaRunError
from ...host import check_input
from ...lava_machine import require_netx
from ...network import Array, CubaNeuron, Network
from ...read.netx import read_netx
from ..base import Progress
from ..order import forward

__all__ = ["run_netx", "run_netx_layers"]


def run_netx(path: str | os.PathLike[str], x: Array, *, progress: Progress | None = None) -> Array:
    """The spikes of the last layer of a ``.net`` file in Lava's simulation, as the undelayed network would give them.

    Args:
        path: a file that ``save_netx`` wrote.
        x: input spikes ``[T, N, *]``, 0 and 1, or counts where the file was written for them. The N samples follow one another
            in one run; every layer is reset in the step in which a sample reaches it.
        progress: called with the number of samples done and in all.

    Returns:
        Spikes ``[T, N, *]``, float32 of 0 and 1.

    Raises:
        ModelFileError: the file cannot be read.
        ConversionError: ``x`` does not fit the network.
        RuntimeUnavailableError: lava-dl is not installed.
        LavaRunError: Lava refused the network, or stopped.
    """
    return _run_layers(path, x, -1, progress)[0]


def run_netx_layers(path: str | os.PathLike[str], x: Array, *, progress: Progress | None = None) -> list[Array]:
    """Like :func:`run_netx`, but the spikes of every layer, first to last, each without its own delay."""
    return _run_layers(path, x, 0, progress)


def _run_layers(path: str | os.PathLike[str], x: Array, first: int, progress: Progress | None) -> list[Array]:
    """The spikes of the layers from the one with the index ``first`` on."""
    layout = read_netx(path)
    x = np.asarray(x)
    steps, samples = check_input(layout, x)
    shapes = [each.shape for each in layout.populations][first:]
    if steps == 0 or samples == 0:
        return [np.zeros((steps, samples, *shape), np.float32) for shape in shapes]
    (given,) = layout.inputs.values()
    network = _network(require_netx(), path, steps, given.bits)
    from ...lava_runtime import simulate

    def done(step: int) -> None:
        if progress is not None and step % steps == 0 and step <= samples * steps:
            progress(step // steps, samples)

    layers = len(network.layers)
    records = simulate(
        network,
        [(network.inp, _to_lava(x, network.in_layer.inp.shape))],
        [layer.out for layer in network.layers[first:]],
        samples * steps + layers,
        models=_forgetful_models(network, layout, steps),
        interval=None if progress is None else steps,
        progress=done,
    )
    delays = range(layers + 1 - len(records), layers + 1)
    return [_undelayed(record, delay, steps, samples) for record, delay in zip(records, delays, strict=True)]


def _network(hdf5: Any, path: str | os.PathLike[str], steps: int, message_bits: int) -> Any:
    try:
        # Layer k gets its input k steps late. An offset of 1 resets it right then; NetX adds one more for each layer.
        return hdf5.Network(net_config=os.fspath(path), reset_interval=steps, reset_offset=1, input_message_bits=message_bits)
    except Exception as error:  # NetX raises whatever it stumbles over
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise LavaRunError(f"NetX refuses {path} ({reason}): write the file again with save_netx.") from error


def _forgetful_models(network: Any, layout: Network[CubaNeuron], steps: int) -> dict[Any, type]:
    """What runs the synapses that keep spikes beyond a step: resets are those of neurons, and what is on its way in a synapse
    would reach the next sample. In Lava's steps, counted from 1, layer k sees the first step of the first sample in k + 2."""
    keeping = []
    for index, (population, layer) in enumerate(zip(layout.populations, network.layers, strict=True)):
        if population.feedback:
            keeping.append((layer.synapse_rec, index + 2, index + 2))
        elif any(edge.delay for edge in forward(population)):
            keeping.append((layer.synapse, index + 1, index + 2))
    if not keeping:
        return {}
    from ...lava_runtime.forgetting import forget, forgetful_model

    for synapse, source, target in keeping:
        forget(synapse, steps, source, target)
    return {synapse: forgetful_model(synapse) for synapse, *_ in keeping}


def _to_lava(x: Array, shape: tuple[int, ...]) -> Array:
    """``[T, N, C, H, W]`` as one stream of steps in Lava's order, ``[N * T, W, H, C]``, or flat in the order of (C, H, W)."""
    stream = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    stream = stream.reshape(len(stream), -1) if len(shape) == 1 else stream.transpose(0, *range(stream.ndim - 1, 0, -1))
    return np.ascontiguousarray(stream, np.uint8)


def _undelayed(record: Array, delay: int, steps: int, samples: int) -> Array:
    """A stream ``[duration, W, H, C]`` (or ``[duration, F]``) that came ``delay`` steps late, as ``[T, N, *]``."""
    stream = record[delay : delay + samples * steps].reshape(samples, steps, *record.shape[1:])
    return np.ascontiguousarray(stream.transpose(1, 0, *range(stream.ndim - 1, 1, -1)), np.float32)
