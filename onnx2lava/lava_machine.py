"""Import Lava and Lava-DL where they are installed, and say so in one sentence where they are not."""

import contextlib
import io
import multiprocessing
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from custom_ops.errors import RuntimeUnavailableError

__all__ = ["forking", "require_lava", "require_netx", "require_slayer"]

_ABSENT = (
    "Lava-DL is not installed: use an environment with Python 3.10 and `pip install sj2lava[lava]` (`make env-lava` builds one)."
)


def require_lava() -> None:
    """Lava itself.

    Raises:
        RuntimeUnavailableError: it cannot be imported.
    """
    _imported("lava.proc.lif.process")


def require_slayer() -> Any:
    """The module ``lava.lib.dl.slayer``.

    Raises:
        RuntimeUnavailableError: it cannot be imported.
    """
    return _imported("lava.lib.dl.slayer")


def require_netx() -> Any:
    """The module ``lava.lib.dl.netx.hdf5``.

    Raises:
        RuntimeUnavailableError: it cannot be imported.
    """
    return _imported("lava.lib.dl.netx.hdf5")


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Lava imports and starts its processes inside of this: it sets multiprocessing's start method to ``fork``, and fails where a
    program, such as a worker of a pool, has set one already. Afterwards that is the method again."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    try:
        yield
    finally:
        if before is not None:
            multiprocessing.set_start_method(before, force=True)


def _imported(name: str) -> Any:
    try:
        # Lava-DL advertises optional packages on standard output when it is imported.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
            forking(),
        ):
            warnings.simplefilter("ignore")
            multiprocessing.set_start_method(None, force=True)  # Lava refuses to set one where there is one, even the same
            return import_module(name)
    except Exception as error:  # Lava and what it needs raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "lava"
        if missing:
            raise RuntimeUnavailableError(_ABSENT) from error
        raise RuntimeUnavailableError(
            f"Lava-DL is installed, but {name} cannot be imported ({reason}): repair it (`make env-lava` builds one)."
        ) from error
