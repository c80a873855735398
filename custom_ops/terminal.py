"""How the commands of all packages talk to a terminal, a file or a pipe, and how they end."""

import contextlib
import functools
import hashlib
import inspect
import json
import logging
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import typer
import typer.core
from rich.console import Console

from .errors import BridgeError, ModelFileError
from .files.atomic_write import replacing
from .lazy import missing_package
from .version import __version__

__all__ = ["WIDE", "application", "command", "ended_well", "printed", "progress_bar", "say_json", "versions"]

SCHEMA = 1
"""Version of the JSON that :func:`say_json` writes."""

_PIPED_WIDTH = 200
WIDE = 10_000
"""Columns of a table that is printed in one piece."""


_quiet = False


class _Commands(typer.core.TyperGroup):
    """Says what is wrong with a call in one line, as all other errors are said, instead of a box."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        if not options.pop("standalone_mode", True):
            return super().main(*arguments, **options, standalone_mode=False)  # type: ignore[misc]
        try:
            code = super().main(*arguments, **options, standalone_mode=False)  # type: ignore[misc]
        except _Misuse as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
                sys.exit(2)
            _fail(_usage(error))
        sys.exit(code)  # of typer.Exit; commands return nothing


_Misuse: Any = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""Of click, which newer versions of typer carry inside, under another name."""


def _usage(error: Any) -> str:
    """What is wrong, and where to read what is right."""
    message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return f"{message}."
    return f"{message}{' ' if message.endswith('?') else ': '}`{context.command_path} -h` shows what it takes."


def application(name: str, text: str) -> typer.Typer:
    """A command line with ``-h``, ``--version`` and completion; ``text`` says what it is for."""
    app = typer.Typer(
        name=name,
        cls=_Commands,
        help=text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show(asked: bool) -> None:
        if asked:
            printed([_versions(name)])
            raise typer.Exit

    @app.callback()
    def common(
        version: Annotated[
            bool, typer.Option("--version", callback=show, is_eager=True, help="Show this version and those of what it runs on.")
        ] = False,
    ) -> None:
        pass

    common.__doc__ = text
    return app


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function to the command line, with ``-q`` and ``-v`` beside its own options."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*arguments: Any, quiet: bool, verbose: bool, **options: Any) -> None:
            _speak(quiet=quiet, verbose=verbose)
            function(*arguments, **options)

        flags = {
            "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Print errors alone; the exit code says the rest.")],
            "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="Show what libraries log and warn about as well.")],
        }
        signature = inspect.signature(function)
        added = [
            inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for flag, kind in flags.items()
        ]
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
        run.__annotations__ = {**function.__annotations__, **flags}
        return app.command(name)(run)

    return add


def _speak(*, quiet: bool, verbose: bool) -> None:
    """How much is said from now on. What torch, onnxscript and Lava log and warn about is no news to most."""
    global _quiet
    _quiet = quiet
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    else:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")


def versions() -> dict[str, str]:
    """Of this package, of Python and of what it runs on, without importing anything."""
    import importlib.metadata

    found = {"sj2lava": __version__, "Python": platform.python_version()}
    for package in ("numpy", "onnx", "onnxruntime", "torch", "spikingjelly", "lava-nc", "lava-dl"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _versions(name: str) -> str:
    """Such as ``sj2onnx 0.2.0 (Python 3.11.7, torch 2.13.0)``."""
    own, *others = versions().items()
    return f"{name} {own[1]} ({', '.join(' '.join(each) for each in others)})"


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
    if _quiet:
        return
    file = sys.stdout if stream is None else stream
    console = _Console(file=file, highlight=False, markup=False, emoji=False)
    if wide:
        console.width = WIDE
    elif not console.is_terminal:
        console.width = _PIPED_WIDTH
    for each in what:
        if isinstance(each, str):
            console.print(each, soft_wrap=True)
        else:
            console.print(each)


def say_json(numbers: Mapping[str, Any], path: Path, model: Path) -> None:
    """Write what a command found, for programs, with a schema number, all versions, and which file it was about.

    Args:
        numbers: what it found.
        path: of the file to write; ``-`` is standard output.
        model: the file, whose SHA-256 goes in as well.

    Raises:
        ModelFileError: one of the two cannot be read or written.
    """
    try:
        identity = {"name": model.name, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
        text = json.dumps({"schema": SCHEMA, "versions": versions(), "model": identity, **numbers}, indent=2) + "\n"
        if str(path) == "-":
            sys.stdout.write(text)
            return
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.") from error


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Says what runs and how far it is, on a terminal; calls of what it gives move it on."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=_quiet or not sys.stderr.isatty(),
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
    except ModuleNotFoundError as error:
        needed = missing_package(error, "This command")
        _fail(str(needed) if needed is not error else f"{error}: install sj2lava again.")
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
