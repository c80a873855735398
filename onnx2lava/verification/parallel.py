"""Samples here, one batch after the other, or in the workers of any executor; each is counted once."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeAlias

from custom_ops.errors import BridgeError

from ..errors import ConversionError, LavaRunError
from .result import Verification, merged
from .source import Chunk

__all__ = ["Processes", "in_order", "workers"]

_ATTEMPTS = 3
"""Times that a batch is tried whose worker dies."""
_PATIENCE = 5.0  # seconds for a worker to end
_AHEAD = 4
"""Batches that wait or run in an executor at once, so that not all samples are in memory."""

Check: TypeAlias = Callable[..., Verification]


def in_order(
    check: Check,
    work: Any,
    chunks: Iterable[Chunk],
    executor: Executor | None,
    progress: Callable[[str, int, int | None], None] | None,
    total: int | None,
) -> list[Verification]:
    """What ``check(work, chunk)`` gives for all chunks, added up as far as they are there.

    Args:
        check: checks some samples; a function that can be sent to other processes.
        work: its first argument.
        chunks: its second, one after the other.
        executor: where to run it; None for here.
        progress: see ``verify``.
        total: number of samples, if it is known.
    """
    if executor is not None:
        return _elsewhere(check, work, chunks, executor, progress, total)
    done = 0
    found: list[Verification] = []
    for chunk in chunks:

        def advance(name: str, of_chunk: int) -> None:
            if progress is not None:
                progress(name, done + of_chunk, total)  # noqa: B023 (called before the loop goes on)

        found = [merged([*found, check(work, chunk, advance)])]
        done += chunk.samples
    return found


def _elsewhere(
    check: Check,
    work: Any,
    chunks: Iterable[Chunk],
    executor: Executor,
    progress: Callable[[str, int, int | None], None] | None,
    total: int | None,
) -> list[Verification]:
    """At most a few chunks at once; results are added up as neighbours come together, in whatever order they come."""
    waiting: dict[Future[Verification], tuple[Chunk, int]] = {}
    found: list[Verification] = []
    source = iter(chunks)
    limit = _AHEAD + getattr(executor, "_max_workers", 0)
    done = 0
    exhausted = False
    try:
        while True:
            while not exhausted and len(waiting) < limit:
                chunk = next(source, None)
                exhausted = chunk is None
                if chunk is not None:
                    waiting[executor.submit(check, work, chunk)] = (chunk, 1)
            if not waiting:
                return found
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                chunk, attempt = waiting.pop(future)
                try:
                    part = future.result()
                except BridgeError:
                    raise
                except Exception as error:
                    if not _died(error):
                        raise
                    if attempt == _ATTEMPTS:
                        raise _given_up() from error
                    waiting[_again(executor, check, work, chunk, error)] = (chunk, attempt + 1)
                    continue
                found = list(_neighbours_joined([*found, part]))
                done += chunk.samples
                if progress is not None:
                    progress("samples", done, total)
    finally:
        if not isinstance(executor, Processes):  # which ends its work itself
            for future in waiting:
                future.cancel()


def _neighbours_joined(parts: Iterable[Verification]) -> Iterator[Verification]:
    """Parts in the order of their samples, those that follow each other added up."""
    last: Verification | None = None
    for part in sorted(parts, key=lambda each: each.samples):
        if last is not None and last.samples[-1][1] == part.samples[0][0]:
            last = merged([last, part])
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _died(error: BaseException) -> bool:
    """Whether the worker ended, rather than the check failed."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in ("KilledWorker", "CommClosedError")


def _again(executor: Executor, check: Check, work: Any, chunk: Chunk, error: BaseException) -> Future[Verification]:
    try:
        return executor.submit(check, work, chunk)
    except BrokenExecutor:  # an executor that starts no new workers
        raise _given_up() from error


def _given_up() -> LavaRunError:
    return LavaRunError(
        "A worker process ended in the middle of its samples, again and again: check the machine's memory, use fewer workers, "
        "or fewer samples at once (batch)."
    )


@contextlib.contextmanager
def workers(jobs: int, dask: str | None, against: Iterable[str] = ()) -> Iterator[Executor | None]:
    """What the command line asks for: processes of this machine, a Dask cluster, or neither.

    Args:
        jobs: how many processes.
        dask: the address of a cluster's scheduler, such as ``tcp://10.0.0.1:8786``.
        against: runtimes that the processes of this machine shall import at once, while the caller reads its network.

    Raises:
        ConversionError: both are given, or a number below 1, or the cluster does not answer.
    """
    if jobs < 1 or (jobs > 1 and dask is not None):
        raise ConversionError("Give either --jobs with at least 1, or --dask.")
    if dask is not None:
        try:
            from distributed import Client  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise ConversionError('--dask needs distributed: install "sj2lava[cluster]".') from error
        try:
            client = Client(dask)
        except Exception as error:  # whatever the network gives
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConversionError(f"The Dask cluster {dask} does not answer ({reason}): check its address.") from error
        with client, client.get_executor(pure=False) as executor:
            yield executor
    elif jobs > 1:
        with Processes(jobs) as executor:
            try:
                for _ in range(jobs):
                    executor.submit(_imported, tuple(against))
                yield executor
            except BaseException:
                executor.abandon()
                raise
    else:
        yield None


def _imported(names: tuple[str, ...]) -> None:
    """Lava takes seconds to import."""
    from ..targets import TARGETS

    for name in names:
        if name in TARGETS:
            TARGETS[name].available()


class Processes(Executor):
    """A pool of processes on this machine that starts anew when one of them dies.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self._max_workers = workers
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # Not forked: onnxruntime and torch have threads, which a fork would leave behind.
        return ProcessPoolExecutor(self._max_workers, mp_context=get_context("spawn"))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As that of any executor."""
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            _end(self._pool)
            self._pool = self._new()
            return self._pool.submit(fn, *args, **kwargs)

    def abandon(self) -> None:
        """End the processes where they are; those in the middle of a run of Lava take its processes with them."""
        _end(self._pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As that of any executor."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _end(pool: ProcessPoolExecutor) -> None:
    """End a pool that still has work. Its own ``shutdown`` waits for that, and for ever where what it sends is read by nobody."""
    processes = list((pool._processes or {}).values())
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE)
        while process.is_alive():  # the first signal ended a run of Lava, with all its processes
            process.terminate()
            process.join(_PATIENCE)
    manager: Any = pool._executor_manager_thread
    if manager is not None:
        manager.join(_PATIENCE)
        if manager.is_alive():  # before Python 3.11.5 it goes on writing to workers that are no more
            pool._call_queue._reader.close()  # type: ignore[attr-defined]
    pool.shutdown(cancel_futures=True)
