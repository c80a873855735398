"""How commands talk to a terminal, a file or a pipe, and how they end."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .errors import BridgeError

__all__ = ["ended_well", "printed", "progress_bar"]

_PIPED_WIDTH = 200
_WIDE = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read has read enough: the rest is dropped, and the exit code says what it would have said."""
        _silence(sys.stdout)


def printed(what: Sequence[Any], *, wide: bool = False, stream: IO[str] | None = None) -> None:
    """Print sentences and tables, one below the other, on standard output.

    Args:
        what: text, which may contain anything, or what rich prints.
        wide: whether tables are printed in one piece.
        stream: instead of standard output.
    """
    file = sys.stdout if stream is None else stream
    console = _Console(file=file, highlight=False, markup=False, emoji=False)
    if wide:
        console.width = _WIDE
    elif not console.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        console.width = int(columns) if columns.isdigit() and int(columns) >= 40 else _PIPED_WIDTH
    for each in what:
        if isinstance(each, str):
            console.print(each, soft_wrap=True)
        else:
            console.print(each)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Says what runs and how far it is, on a terminal; calls of what it gives move it on."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task("starting", total=None)

    def advance(name: str, done: int, total: int | None) -> None:
        bar.update(task, description=f"{name}: {done:,}{'' if total is None else f' of {total:,}'} samples")

    with bar:
        yield advance


@contextlib.contextmanager
def ended_well() -> Iterator[None]:
    """Ends the process with the exit code that says how the block ended, and one line where it ended badly.

    0: all is well; 1: spikes differ (the block says so itself); 2: anything that is wrong, with a sentence; 130: interrupted;
    143: terminated. In either of the last two cases everything in between is cleaned up.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what an encoding cannot show is no reason to end
    main = os.getpid()

    def terminate(number: int, frame: object) -> None:
        if os.getpid() != main:  # a process that was forked in between
            os._exit(128 + number)
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, terminate)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except BridgeError as error:
        _fail(str(error))
    except MemoryError:
        _fail("There is not enough memory: use a smaller network, or fewer samples at once (--batch).")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _silence(sys.stdout)
        _fail(f"Cannot write or read ({error.strerror or error}): check the space and the permissions.")
    except Exception as error:  # a fault of this program, which must not look like spikes that differ
        where = traceback.extract_tb(error.__traceback__)[-1]
        if os.environ.get("SJ2LAVA_TRACEBACK"):
            traceback.print_exc()
        _fail(
            f"This is a fault of sj2lava itself ({type(error).__name__}: {' '.join(str(error).split())[:300]}, in "
            f"{os.path.basename(where.filename)}:{where.lineno}): please report it; with SJ2LAVA_TRACEBACK=1 it tells more."  # noqa: PTH119
        )


def _fail(message: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with contextlib.suppress(OSError):
        console.print(f"Error: {message}", soft_wrap=True)
    sys.exit(2)


def _silence(stream: IO[str]) -> None:
    """From now on what is written to ``stream`` goes nowhere, so that the interpreter does not stumble when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
