"""The one place where Lava's simulation is started, watched and ended."""

import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import LavaRunError
from ..lava_machine import forking
from ..network import Array
from .signals import deferred_signals

__all__ = ["RunConfig", "simulate"]

RunConfig: TypeAlias = Callable[[], Any]
"""Gives a run configuration of Lava's, ``lava.magma.core.run_configs.RunConfig``, a new one with each call.

It may have two methods beside Lava's, ``connect_input(source, target)`` and ``connect_output(source, target)``: they connect the
out-port that plays spikes with an in-port of the network, and an out-port of the network with the in-port that records. By
default ``source.connect(target)`` does; a chip needs adapters between, such as those of ``lava.proc.embedded_io``.
"""

_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes of the folder of temporary files: Python's multiprocessing puts a socket there, whose path has 107 bytes at most."""
_MANY_SYNAPSES = 2**18
"""From which on Lava's synapses take longer than its messages; `make bench` and `make bench-jobs` have a network on each side."""
_LONG_RUN = 2**30
"""Synapses times steps that take longer than starting Lava's processes does."""


def simulate(
    process: Any,
    inputs: Sequence[tuple[Any, Array]],
    outputs: Sequence[Any],
    steps: int,
    *,
    synapses: int = 0,
    models: Mapping[Any, type] | None = None,
    interval: int | None = None,
    progress: Callable[[int], None] | None = None,
    run_config: RunConfig | None = None,
) -> list[Array]:
    """Run a process and all that are connected to it; none of them outlives the call, whatever happens.

    Lava's own runtime starts a process of the operating system for each of the network's. It does so with a run configuration of
    the caller's, which may be one for a chip, and for a long run of a large network, whose synapses keep more than one core busy,
    unless this process shares its cores with others that do the same. Else all run in threads of this process. The spikes are
    the same.

    Args:
        process: a Lava process, not run before.
        inputs: in-ports, each with what it gets, whole numbers ``[steps, *shape]`` in Lava's order; zeros come after the end.
        outputs: out-ports whose spikes to record.
        steps: how long to run.
        synapses: of the network.
        models: of processes that shall not run with the model that Lava finds for them.
        interval: after how many steps to call ``progress``; None for never.
        progress: called with the number of steps done.
        run_config: what chooses the models instead of ``Loihi2SimCfg(select_tag="fixed_pt")``. Those of ``models``, and what
            plays and records spikes, run as they do without it, unless it has something else for them.

    Returns:
        For each of ``outputs`` its spikes, uint8 ``[steps, *shape]``.

    Raises:
        LavaRunError: Lava refused the process, or stopped; or there is no space for the spikes; or ``run_config`` gave something
            else than a run configuration.
        KeyboardInterrupt: Ctrl-C came, and every process of Lava is gone.
        SystemExit: SIGTERM came, and every process of Lava is gone.
    """
    short = len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER
    own_processes = run_config is not None or (short and _keeps_cores_busy(synapses, steps))
    if own_processes and not short:
        raise LavaRunError(
            f"The path of the folder of temporary files, {tempfile.gettempdir()}, is longer than the {_LONGEST_FOLDER} bytes "
            "that Lava's processes need to talk to each other: set TMPDIR to a shorter one."
        )
    with deferred_signals() as check, forking(), tempfile.TemporaryDirectory() as folder:
        chosen = _configured(run_config)
        try:
            records, files = _attach(inputs, outputs, steps, Path(folder), chosen)
        except OSError as error:
            raise LavaRunError(f"Cannot write to {folder} ({error.strerror}): Lava's spikes need space there.") from error
        chosen.exception_proc_model_map = {**files, **(models or {}), **(_exceptions(chosen) or {})}
        with _stopping(process):
            if not own_processes:
                _in_threads(process, chosen)
            done = 0
            while done < steps:
                part = min(interval or steps, steps - done)
                _run(process, part, chosen, check)
                done += part
                if progress is not None:
                    progress(done)
        return [np.load(record) for record in records]


def _keeps_cores_busy(synapses: int, steps: int) -> bool:
    """Whether Lava's processes are faster in processes of the operating system, which take seconds to start, than in threads.

    A worker of a pool leaves the other cores to the other workers.
    """
    large = synapses >= _MANY_SYNAPSES and synapses * steps >= _LONG_RUN
    return large and (os.cpu_count() or 1) > 1 and multiprocessing.parent_process() is None


def _attach(
    inputs: Sequence[tuple[Any, Array]], outputs: Sequence[Any], steps: int, folder: Path, run_config: Any
) -> tuple[list[Path], dict[Any, type]]:
    """Connect a player and a recorder; gives the records, and the models of both."""
    from .files import Player, Recorder, player_model, recorder_model

    played = [folder / f"in{index}.npy" for index in range(len(inputs))]
    for path, (_, spikes) in zip(played, inputs, strict=True):
        np.save(path, spikes)
    into, out_of = (getattr(run_config, name, _connect) for name in ("connect_input", "connect_output"))
    player = Player(played, [port.shape for port, _ in inputs])
    for source, (port, _) in zip(player.ports, inputs, strict=True):
        into(source, port)
    records = [folder / f"out{index}.npy" for index in range(len(outputs))]
    for path, port in zip(records, outputs, strict=True):
        np.lib.format.open_memmap(path, "w+", np.uint8, (steps, *port.shape))
    recorder = Recorder(records, [port.shape for port in outputs])
    for port, target in zip(outputs, recorder.ports, strict=True):
        out_of(port, target)
    return records, {player: player_model(player), recorder: recorder_model(recorder)}


def _connect(source: Any, target: Any) -> None:
    source.connect(target)


def _exceptions(run_config: Any) -> Mapping[Any, type] | None:
    """Models by process or class of processes; not every kind of run configuration has some."""
    found: Mapping[Any, type] | None = getattr(run_config, "exception_proc_model_map", None)
    return found


def _configured(run_config: RunConfig | None) -> Any:
    """A new run configuration."""
    from lava.magma.core import run_configs

    if run_config is None:
        return run_configs.Loihi2SimCfg(select_tag="fixed_pt")
    try:
        chosen = run_config()
    except Exception as error:  # it is somebody else's
        raise LavaRunError(f"The run configuration cannot be made ({_reason(error)}).") from error
    if not isinstance(chosen, run_configs.RunConfig):
        raise LavaRunError(
            f"The run configuration is a {type(chosen).__name__}: it has to be one of Lava's (lava.magma.core.run_configs), such "
            'as Loihi2SimCfg(select_tag="fixed_pt").'
        )
    return chosen


def _in_threads(process: Any, run_config: Any) -> None:
    """Compile it, and start its threads."""
    from .threads import ThreadRuntime

    with _explained(process):
        executable = process.compile(run_config)
        process._runtime = ThreadRuntime(executable)
        executable.assign_runtime_to_all_processes(process._runtime)
        process._runtime.initialize()


def _run(process: Any, steps: int, run_config: Any, check: Callable[[], None]) -> None:
    """Go on for ``steps`` steps."""
    from lava.magma.core.run_conditions import RunSteps

    with _explained(process):
        process.run(condition=RunSteps(num_steps=steps, blocking=False), run_cfg=run_config)
        _await_pause(process.runtime, check)


@contextlib.contextmanager
def _explained(process: Any) -> Iterator[None]:
    """Lava raises whatever its processes stumble over."""
    try:
        yield
    except Exception as error:
        reasons = {_reason(actor.exception[0]) for actor in _actors(process.runtime) if actor.exception} or {_reason(error)}
        raise LavaRunError(f"Lava stopped while it ran the network ({'; '.join(sorted(reasons))}).") from error


def _await_pause(runtime: Any, check: Callable[[], None]) -> None:
    """Wait until the steps are done.

    Lava's own wait never ends when one of its processes is killed, because the others go on waiting for it.
    """
    pause = 1e-4
    while not all(port.probe() for port in runtime.service_to_runtime):
        check()
        if not all(actor.is_alive() for actor in _actors(runtime)):
            raise ChildProcessError("one of its processes ended")
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    check()
    runtime.wait()


def _actors(runtime: Any) -> list[Any]:
    """Lava's processes; none before they are started."""
    infrastructure = getattr(runtime, "_messaging_infrastructure", None)
    return [] if infrastructure is None else list(infrastructure.actors)


@contextlib.contextmanager
def _stopping(process: Any) -> Iterator[None]:
    """Whatever happens, no process of Lava outlives the block."""
    try:
        yield
        process.stop()
    except BaseException:
        _kill(process.runtime)
        raise


def _kill(runtime: Any) -> None:
    """End Lava's processes without asking them, since one that waits for a dead one does not answer."""
    if runtime is None:
        return
    runtime._is_started = False  # or its destructor would ask them
    if (end_threads := getattr(runtime, "end_threads", None)) is not None:
        end_threads()
        return
    actors = _actors(runtime)
    for end in ("kill", "join"):
        for actor in actors:
            with contextlib.suppress(ValueError):  # closed already
                getattr(actor, end)()
    with contextlib.suppress(Exception):  # not started yet
        runtime._messaging_infrastructure.smm.shutdown()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
