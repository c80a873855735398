"""Run a ``.net`` file in Lava's CPU simulation, bit-accurate with Loihi, and take its pipeline delay off. Needs lava-dl."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_ops.loihi import DECAY_UNIT

from ...errors import LavaRunError
from ...host import check_input
from ...lava_machine import require_netx
from ...lava_runtime import RunConfig
from ...network import Array, CubaNeuron, Input, Network
from ...network.fan_out import synapse_count
from ...read.netx import read_netx
from ..base import Progress
from ..order import forward

__all__ = ["run_netx", "run_netx_layers"]


def run_netx(
    path: str | os.PathLike[str],
    x: Array,
    *,
    input_shape: Sequence[int] | None = None,
    num_layers: int | None = None,
    skip_layers: int | None = None,
    progress: Progress | None = None,
    run_config: RunConfig | None = None,
) -> Array:
    """The spikes of the last layer of a ``.net`` file in Lava's simulation, as the undelayed network would give them.

    Args:
        path: a ``.net`` file of ``save_netx`` or of Lava-DL itself.
        x: input spikes ``[T, N, *]``, 0 and 1, or counts where the file was written for them; any numbers where the file begins
            with an ``input`` layer of neurons, to which they go as ``weight * x``, rounded. The N samples follow one another
            in one run; every layer is reset in the step in which a sample reaches it.
        input_shape, num_layers, skip_layers: NetX's own arguments, as for ``load``.
        progress: called with the number of samples done and in all.
        run_config: gives a run configuration of Lava's, new with each call, in the place of
            ``Loihi2SimCfg(select_tag="fixed_pt")``, such as one for a chip.

    Returns:
        Spikes ``[T, N, *]``, float32 of 0 and 1.

    Raises:
        ModelFileError: the file cannot be read.
        ConversionError: ``x`` does not fit the network.
        RuntimeUnavailableError: lava-dl is not installed.
        LavaRunError: Lava refused the network, or stopped.
    """
    options = {"input_shape": input_shape, "num_layers": num_layers, "skip_layers": skip_layers}
    given = {name: value for name, value in options.items() if value is not None}
    return _run_layers(path, x, -1, progress, given, run_config)[0]


def run_netx_layers(
    path: str | os.PathLike[str], x: Array, *, progress: Progress | None = None, run_config: RunConfig | None = None
) -> list[Array]:
    """Like :func:`run_netx`, but the spikes of every layer, first to last, each without its own delay."""
    return _run_layers(path, x, 0, progress, {}, run_config)


def _run_layers(
    path: str | os.PathLike[str],
    x: Array,
    first: int,
    progress: Progress | None,
    options: Mapping[str, Any],
    run_config: RunConfig | None,
) -> list[Array]:
    """The spikes of the layers from the one with the index ``first`` on."""
    layout = read_netx(path, **options)
    x = np.asarray(x)
    steps, samples = check_input(layout, x)
    shapes = [each.shape for each in layout.populations][first:]
    if steps == 0 or samples == 0:
        return [np.zeros((steps, samples, *shape), np.float32) for shape in shapes]
    (given,) = layout.inputs.values()
    network = _network(require_netx(), path, steps, given, options)
    port, stream = network.inp, x
    if given.numbers:
        port, stream = _fed_neurons(network, layout, x)
    from ...lava_runtime import simulate

    def done(step: int) -> None:
        if progress is not None and step % steps == 0 and step <= samples * steps:
            progress(step // steps, samples)

    layers = len(network.layers)
    records = simulate(
        network,
        [(port, _to_lava(stream, network.in_layer.inp.shape, np.int32 if given.numbers else np.uint8))],
        [layer.out for layer in network.layers[first:]],
        samples * steps + layers,
        models=_forgetful_models(network, layout, steps, given.numbers),
        interval=None if progress is None else steps,
        progress=done,
        synapses=synapse_count(layout),
        run_config=run_config,
    )
    # Each synapse takes a step; neurons that are fed directly have none.
    delays = range(layers + 1 - len(records) - given.numbers, layers + 1 - given.numbers)
    return [_undelayed(record, delay, steps, samples) for record, delay in zip(records, delays, strict=True)]


def _network(hdf5: Any, path: str | os.PathLike[str], steps: int, given: Input, options: Mapping[str, Any]) -> Any:
    try:
        # Layer k gets its input k steps late. An offset of 1 resets it right then; NetX adds one more for each layer.
        return hdf5.Network(
            net_config=os.fspath(path),
            reset_interval=steps,
            reset_offset=0 if given.numbers else 1,
            input_message_bits=given.bits,
            **options,
        )
    except Exception as error:  # NetX raises whatever it stumbles over
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise LavaRunError(f"NetX refuses {path} ({reason}): export the file again.") from error


def _fed_neurons(network: Any, layout: Network[CubaNeuron], x: Array) -> tuple[Any, Array]:
    """The port of the first neurons, and what goes in there; their bias is set.

    NetX connects its ``Input`` block to nothing: users give its neurons ``weight * x + bias`` as their bias, or send it to
    ``neuron.a_in``. So does this, with a current that keeps nothing, which is the same.
    """
    (first, *_), neurons = layout.populations, network.in_layer.neuron
    neurons.du.init = DECAY_UNIT - 1
    if first.bias is not None:
        neurons.bias_mant.init = np.full(neurons.a_in.shape, int(first.bias.flat[0]), np.int32)
    weight = np.float32(first.edges[0].map.weight.flat[0])
    return neurons.a_in, np.rint(np.asarray(x, np.float32).reshape(*x.shape[:2], *first.shape) * weight)


def _forgetful_models(network: Any, layout: Network[CubaNeuron], steps: int, fed: bool) -> dict[Any, type]:
    """What runs the synapses that keep spikes beyond a step: resets are those of neurons, and what is on its way in a synapse
    would reach the next sample. In Lava's steps, counted from 1, layer k sees the first step of the first sample in k + 2; a
    step earlier where the first neurons are ``fed`` directly."""
    keeping = []
    for index, (population, layer) in enumerate(zip(layout.populations, network.layers, strict=True), -fed):
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


def _to_lava(x: Array, shape: tuple[int, ...], kind: type) -> Array:
    """``[T, N, C, H, W]`` as one stream of steps in Lava's order, ``[N * T, W, H, C]``, or flat in the order of (C, H, W)."""
    stream = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    stream = stream.reshape(len(stream), -1) if len(shape) == 1 else stream.transpose(0, *range(stream.ndim - 1, 0, -1))
    return np.ascontiguousarray(stream, kind)


def _undelayed(record: Array, delay: int, steps: int, samples: int) -> Array:
    """A stream ``[duration, W, H, C]`` (or ``[duration, F]``) that came ``delay`` steps late, as ``[T, N, *]``."""
    stream = record[delay : delay + samples * steps].reshape(samples, steps, *record.shape[1:])
    return np.ascontiguousarray(stream.transpose(1, 0, *range(stream.ndim - 1, 1, -1)), np.float32)
