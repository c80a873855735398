"""A network as a Lava process, and its spikes in Lava's CPU simulation, bit-accurate with Loihi."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ...errors import LavaRunError
from ...host import encode
from ...lava_machine import require_lava
from ...lava_runtime import RunConfig
from ...network import Array, CubaNeuron, Network, Neuron, require_loihi
from ...network.fan_out import synapse_count
from ..base import Progress, Spikes, require
from ..limits import loihi
from .checks import checked
from .forms import legalised
from .schedule import Schedule, schedule

if TYPE_CHECKING:
    from .processes import ProcessGraph

__all__ = ["run_lava", "run_populations", "to_lava"]

_Model = Network[Neuron] | onnx.ModelProto | str | os.PathLike[str]


def to_lava(network: _Model, *, reset_interval: int | None = None, reset_offset: int = 0) -> "ProcessGraph":
    """The network as one Lava process, made of Lava's own Conv, Dense, Sparse, LIF and graded processes.

    It has the ports ``inp`` and ``out`` and a list ``layers``, as ``lava.lib.dl.netx.hdf5.Network`` has, but may be any graph:
    ``inputs`` and ``outputs`` hold all ports by name, ``relays`` what was put between layers so that spikes of paths of different
    length meet. Each layer has a ``depth``: what goes in at the step t comes out of it at the step t + depth. Images have Lava's
    order, ``(W, H, C)``. It runs with ``Loihi2SimCfg(select_tag="fixed_pt")``.

    Args:
        network: Loihi's integers; or a path or model to load them from.
        reset_interval: time steps of a sample: after as many, every layer is reset in the step in which the next sample reaches
            it, and spikes that the network itself delays are lost on their way. None for never.
        reset_offset: when samples begin, as NetX counts it: 1 where the first one begins in Lava's first step.

    Raises:
        ConversionError: the network has neurons of real numbers, or cannot be read.
        LimitError: Lava cannot hold the network, or would run it wrongly.
        RuntimeUnavailableError: Lava is not installed.
    """
    return _process(*_scheduled(_loaded(network)), reset_interval, reset_offset)


def run_lava(
    network: _Model,
    x: Array | Spikes,
    *,
    progress: Callable[[int, int], None] | None = None,
    run_config: RunConfig | None = None,
) -> Array | dict[str, Array]:
    """The spikes of the network's outputs in Lava's simulation, as the network itself would give them, without a delay.

    Args:
        network: Loihi's integers; or a path or model to load them from.
        x: ``[T, N, *]``, spikes of 0 and 1, or counts, or what the network's encoder reads; where there are several inputs, one
            by the name of each. The N samples follow one another in one run, and each starts from rest.
        progress: called with the number of samples done and in all.
        run_config: gives a run configuration of Lava's, new with each call, in the place of
            ``Loihi2SimCfg(select_tag="fixed_pt")``, such as one for a chip.

    Returns:
        Spikes ``[T, N, *shape]``, float32; where the network has several outputs, by the names of their populations.

    Raises:
        ConversionError: the network has neurons of real numbers, or cannot be read, or ``x`` does not fit it.
        LimitError: Lava cannot hold the network, or would run it wrongly.
        RuntimeUnavailableError: Lava is not installed.
        LavaRunError: Lava stopped.
    """
    loaded = _loaded(network)
    spikes = run_populations(loaded, encode(loaded, x), loaded.outputs, progress, run_config)
    return spikes[loaded.outputs[0]] if len(spikes) == 1 else spikes


def run_populations(
    network: Network[CubaNeuron],
    x: Spikes,
    names: Sequence[str],
    progress: Progress | None = None,
    run_config: RunConfig | None = None,
) -> dict[str, Array]:
    """The spikes of some populations.

    Args:
        network: Loihi's integers.
        x: spikes or counts ``[T, N, *shape]`` of each input, by its name.
        names: of the populations.
        progress: called with the number of samples done and in all.
        run_config: as for :func:`run_lava`.

    Returns:
        Spikes ``[T, N, *shape]``, float32 of 0 and 1, by population.

    Raises:
        LimitError: Lava cannot hold the network, or would run it wrongly.
        RuntimeUnavailableError: Lava is not installed.
        LavaRunError: Lava stopped.
    """
    from ...lava_runtime import simulate

    legal, plan = _scheduled(network)
    steps, samples = next(iter(x.values())).shape[:2]
    if steps == 0 or samples == 0:
        return {name: np.zeros((steps, samples, *network[name].shape), np.float32) for name in names}
    try:
        graph = _process(legal, plan, steps, 1)
    except (ValueError, TypeError, AssertionError) as error:  # what Lava raises where it refuses an argument
        raise LavaRunError(f"Lava refuses the network {network.name!r} ({error}).") from error
    layers = {layer.name: layer for layer in graph.layers}
    read = {source for layer in [*graph.layers, *graph.relays] for source, _ in layer.sources}
    depths = [layers[name].depth for name in names]
    records = simulate(
        graph,
        [(port, _to_lava(x[name], network.inputs[name].bits)) for name, port in graph.inputs.items() if name in read],
        [layers[name].out for name in names],
        steps * samples + max(depths),
        interval=None if progress is None else steps,
        progress=None if progress is None else lambda done: progress(min(done // steps, samples), samples),
        synapses=synapse_count(legal),
        run_config=run_config,
    )
    return {
        name: _from_lava(record[depth : depth + steps * samples], steps)
        for name, record, depth in zip(names, records, depths, strict=True)
    }


def _loaded(network: _Model) -> Network[CubaNeuron]:
    if isinstance(network, Network):
        return require_loihi(network)
    from ...read.formats import load

    return require_loihi(load(network))


def _scheduled(network: Network[CubaNeuron]) -> tuple[Network[CubaNeuron], Schedule]:
    require([*loihi(network), *checked(network)])
    legal = legalised(network)
    return legal, schedule(legal)


def _process(network: Network[CubaNeuron], plan: Schedule, interval: int | None, offset: int) -> "ProcessGraph":
    require_lava()
    from .processes import ProcessGraph

    return ProcessGraph(network, plan, interval, offset)


def _to_lava(x: Array, bits: int) -> Array:
    """``[T, N, C, H, W]`` as one stream of steps in Lava's order, ``[N * T, W, H, C]``."""
    stream = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    return np.ascontiguousarray(stream.transpose(0, *range(stream.ndim - 1, 0, -1)), np.uint8 if bits <= 8 else np.int32)


def _from_lava(record: Array, steps: int) -> Array:
    """The inverse of :func:`_to_lava`, as float32."""
    stream = record.reshape(-1, steps, *record.shape[1:])
    return np.ascontiguousarray(stream.transpose(1, 0, *range(stream.ndim - 1, 1, -1)), np.float32)
