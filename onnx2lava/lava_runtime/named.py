"""A run configuration of Lava's by the name of the function that gives it, as command lines and other processes have it."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConversionError

__all__ = ["NamedRunConfig"]


@dataclass(frozen=True)
class NamedRunConfig:
    """A function without arguments that gives a run configuration; the module is imported where it is called.

    Args:
        spec: ``MODULE:FUNCTION``.
        folder: where modules are looked for first.

    Raises:
        ConversionError: there is no such function.
    """

    spec: str
    folder: str

    @classmethod
    def here(cls, spec: str) -> "NamedRunConfig":
        """One whose module may be in the current folder.

        Raises:
            ConversionError: there is no such function.
        """
        named = cls(spec, str(Path.cwd()))
        named._function()
        return named

    def __call__(self) -> Any:
        return self._function()()

    def _function(self) -> Callable[[], Any]:
        module, colon, name = self.spec.partition(":")
        if not (module and colon and name):
            raise ConversionError(f"{self.spec!r} names no run configuration: write MODULE:FUNCTION, such as my_lab:run_config.")
        sys.path.insert(0, self.folder)
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # importing runs somebody else's code
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConversionError(
                f"The run configuration {self.spec} is not there ({reason}): give MODULE:FUNCTION of a module that can be "
                f"imported from {self.folder}."
            ) from error
        finally:
            sys.path.remove(self.folder)
        if not callable(found):
            raise ConversionError(
                f"The run configuration {self.spec} is a {type(found).__name__}: name a function that gives one."
            )
        function: Callable[[], Any] = found
        return function
