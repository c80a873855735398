"""Import Lava and Lava-DL where they are installed, and say so in one sentence where they are not."""

import contextlib
import io
import warnings
from importlib import import_module
from typing import Any

from custom_ops.errors import RuntimeUnavailableError

__all__ = ["require_lava", "require_netx", "require_slayer"]

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


def _imported(name: str) -> Any:
    try:
        # Lava-DL advertises optional packages on standard output when it is imported.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except Exception as error:  # Lava also sets multiprocessing's start method, which fails where another is set
        raise RuntimeUnavailableError(f"{_ABSENT} ({error})") from error
