"""Run a ``.net`` file in Lava's CPU simulation, bit-accurate with Loihi, and take its pipeline delay off. Needs lava-dl."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import LavaRunError
from .host import check_input
from .lava_machine import require_netx
from .network import Array, Dense, Network
from .read_netx import load_netx

__all__ = ["run_netx", "run_netx_layers"]

_Spikes = npt.NDArray[np.float32]


def run_netx(path: str | os.PathLike[str], x: Array, *, progress: Callable[[int, int], None] | None = None) -> _Spikes:
    """The spikes of the last layer of a ``.net`` file in Lava's simulation, as the undelayed network would give them.

    Args:
        path: a file that ``save_netx`` wrote.
        x: input spikes ``[T, N, *]``, 0 and 1, or counts where the file was written for them. The N samples follow one another
            in one run; every layer is reset in the step in which a sample reaches it.
        progress: called with the number of samples done and in all.

    Returns:
        Spikes ``[T, N, *]``.

    Raises:
        ModelFileError: the file cannot be read.
        ConversionError: ``x`` does not fit the network.
        RuntimeUnavailableError: lava-dl is not installed.
        LavaRunError: Lava refused the network, or stopped.
    """
    return _run_layers(path, x, -1, progress)[0]


def run_netx_layers(
    path: str | os.PathLike[str], x: Array, *, progress: Callable[[int, int], None] | None = None
) -> list[_Spikes]:
    """Like :func:`run_netx`, but the spikes of every layer, first to last, each without its own delay."""
    return _run_layers(path, x, 0, progress)


def _run_layers(path: str | os.PathLike[str], x: Array, first: int, progress: Callable[[int, int], None] | None) -> list[_Spikes]:
    """The spikes of the layers from the one with the index ``first`` on."""
    layout = load_netx(path)
    x = np.asarray(x)
    steps, samples = check_input(layout, x)
    shapes = [block.shape for block in layout.blocks][first:]
    if steps == 0 or samples == 0:
        return [np.zeros((steps, samples, *shape), np.float32) for shape in shapes]
    network = _network(require_netx(), path, steps, layout.message_bits)
    layers = len(network.layers)
    with tempfile.TemporaryDirectory() as folder:
        spikes = _to_lava(x, network.in_layer.inp.shape)
        try:
            records = _attach(network, spikes, samples * steps + layers, first, Path(folder))
        except OSError as error:
            raise LavaRunError(f"Cannot write to {folder} ({error.strerror}): Lava's spikes need space there.") from error
        with _stopping(network):
            done = 0
            for stop, forgets in _stops(network, layout, steps, samples):
                _run(network, stop - done)
                for forget in forgets:
                    forget()
                if progress is not None and stop % steps == 0 and stop <= samples * steps:
                    progress(stop // steps, samples)
                done = stop
        delays = range(layers + 1 - len(records), layers + 1)
        return [_undelayed(np.load(record), delay, steps, samples) for record, delay in zip(records, delays, strict=True)]


def _network(hdf5: Any, path: str | os.PathLike[str], steps: int, message_bits: int) -> Any:
    try:
        # Layer k gets its input k steps late. An offset of 1 resets it right then; NetX adds one more for each layer.
        return hdf5.Network(net_config=os.fspath(path), reset_interval=steps, reset_offset=1, input_message_bits=message_bits)
    except Exception as error:  # NetX raises whatever it stumbles over
        raise LavaRunError(f"NetX refuses {path} ({_reason(error)}): write the file again with save_netx.") from error


def _attach(network: Any, spikes: Array, duration: int, first: int, folder: Path) -> list[Path]:
    """Play ``spikes`` into the network and record ``duration`` steps of its layers from ``first`` on; gives the records."""
    from .lava_io import Player, Recorder

    np.save(folder / "input.npy", spikes)
    player = Player(folder / "input.npy", spikes.shape[1:])
    player.s_out.connect(network.inp)
    records = []
    for index, layer in enumerate(network.layers[first:]):
        records.append(folder / f"{index}.npy")
        np.lib.format.open_memmap(records[-1], "w+", np.uint8, (duration, *layer.out.shape))
        recorder = Recorder(records[-1], layer.out.shape)
        layer.out.connect(recorder.a_in)
    return records


def _stops(network: Any, layout: Network, steps: int, samples: int) -> Iterator[tuple[int, Sequence[Callable[[], None]]]]:
    """After how many steps to stop, and what to do there; the last stop is when all spikes have passed all layers.

    Resets are those of neurons. What is on its way in a synapse would reach the next sample: feedback, and spikes that are late
    by themselves. Layer k, counted from 0, sees the step t of the sample n in the step n * T + t + k + 1.
    """
    stops: dict[int, list[Callable[[], None]]] = {steps * (sample + 1): [] for sample in range(samples)}
    for index, (block, layer) in enumerate(zip(layout.blocks, network.layers, strict=True)):
        if isinstance(block.synapse, Dense) and block.synapse.recurrent is not None:
            late, forget = 1, partial(_clear_feedback, layer.synapse_rec)
        elif block.delay:
            late, forget = 0, partial(_clear_late_spikes, layer.synapse)
        else:
            continue
        for sample in range(samples):
            stops.setdefault(steps * sample + index + late, []).append(forget)
    stops.setdefault(steps * samples + len(network.layers), [])
    stops.pop(0, None)  # nothing is on its way yet
    yield from sorted(stops.items())


def _clear_feedback(synapse: Any) -> None:
    synapse.a_buff.set(np.zeros(synapse.a_buff.shape, np.int32))


def _clear_late_spikes(synapse: Any) -> None:
    """All but the first column, which is due in the next step and still belongs to the sample before."""
    waiting = np.array(synapse.a_buff.get(), np.int32)
    waiting[:, 1:] = 0
    synapse.a_buff.set(waiting)


def _run(network: Any, steps: int) -> None:
    """Go on for ``steps`` steps."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    try:
        network.run(condition=RunSteps(num_steps=steps, blocking=False), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        _await_pause(network.runtime)
    except Exception as error:  # Lava raises whatever its processes stumble over
        reasons = {_reason(actor.exception[0]) for actor in _actors(network.runtime) if actor.exception} or {_reason(error)}
        raise LavaRunError(f"Lava stopped while it ran the network ({'; '.join(sorted(reasons))}).") from error


def _await_pause(runtime: Any) -> None:
    """Wait until the steps are done.

    Lava's own wait never ends when one of its processes is killed, because the others go on waiting for it.
    """
    pause = 1e-4
    while not all(port.probe() for port in runtime.service_to_runtime):
        if not all(actor.is_alive() for actor in _actors(runtime)):
            raise ChildProcessError("one of its processes ended")
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    runtime.wait()


def _actors(runtime: Any) -> list[Any]:
    """Lava's processes; none before they are started."""
    return [] if runtime is None else list(runtime._messaging_infrastructure.actors)


@contextlib.contextmanager
def _stopping(network: Any) -> Iterator[None]:
    """Whatever happens, no process of Lava outlives the block."""
    try:
        yield
        network.stop()
    except BaseException:
        _kill(network.runtime)
        raise


def _kill(runtime: Any) -> None:
    """End Lava's processes without asking them, since one that waits for a dead one does not answer."""
    if runtime is None:
        return
    runtime._is_started = False  # or its destructor would ask them
    for actor in _actors(runtime):
        with contextlib.suppress(ValueError):  # closed already
            actor.kill()
    with contextlib.suppress(Exception):
        runtime._messaging_infrastructure.stop()


def _to_lava(x: Array, shape: tuple[int, ...]) -> Array:
    """``[T, N, C, H, W]`` as one stream of steps in Lava's order, ``[N * T, W, H, C]``, or flat in the order of (C, H, W)."""
    stream = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    stream = stream.reshape(len(stream), -1) if len(shape) == 1 else stream.transpose(0, *range(stream.ndim - 1, 0, -1))
    return np.ascontiguousarray(stream, np.uint8)


def _undelayed(record: Array, delay: int, steps: int, samples: int) -> _Spikes:
    """A stream ``[duration, W, H, C]`` (or ``[duration, F]``) that came ``delay`` steps late, as ``[T, N, *]``."""
    stream = record[delay : delay + samples * steps].reshape(samples, steps, *record.shape[1:])
    return np.ascontiguousarray(stream.transpose(1, 0, *range(stream.ndim - 1, 1, -1)), np.float32)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
