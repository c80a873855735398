"""Packages that import their parts when they are first used.

A command shows its help without onnxruntime; a package imports where torch is missing, and whoever asks for a part that needs it
gets one sentence with the remedy instead of a traceback.
"""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .errors import MissingPackageError

__all__ = ["lazy", "missing_package"]

_TRAIN, _LAVA, _REPORT = (
    'install "sj2lava[train]" (Python 3.11 or newer)',
    'install "sj2lava[lava]" in an environment with Python 3.10',
    'install "sj2lava[report]"',
)
_REMEDIES = {
    "torch": _TRAIN,
    "spikingjelly": _TRAIN,
    "onnxscript": _TRAIN,
    "lava": _LAVA,
    "jinja2": _REPORT,
    "sklearn": "install scikit-learn",
}
"""What brings the packages along that not every machine needs; all others come with any install."""


def lazy(package: str, parts: Mapping[str, tuple[str, ...]]) -> None:
    """Let ``package`` offer names that its modules define, each imported when it is first asked for.

    Args:
        package: ``__name__`` of the package, which is being imported.
        parts: module, relative to the package, to the names that it gives; none for the module itself.

    A function may have the name of its module, as ``sj2onnx.export``: the package then offers the function, whichever is imported
    first.
    """
    homes = {name: module for module, names in parts.items() for name in names or (module.lstrip("."),)}

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in homes:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            try:
                module = importlib.import_module(homes[name], package)
                value = getattr(module, name) if parts[homes[name]] else module
            except ModuleNotFoundError as error:
                raise missing_package(error, f"{package}.{name}") from error
            super().__setattr__(name, value)
            return value

        def __setattr__(self, name: str, value: object) -> None:
            # The import system binds a module to its package as soon as it is imported, over a function of the same name.
            if not (isinstance(value, ModuleType) and parts.get(homes.get(name, ""))):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *homes})

    sys.modules[package].__class__ = Package


def missing_package(error: ModuleNotFoundError, wanted: str) -> Exception:
    """The error in the user's words, where a package is missing that not every machine needs; else ``error`` itself.

    Args:
        error: what the import raised.
        wanted: what was asked for, such as ``sj2onnx.export``.
    """
    name = (error.name or "").partition(".")[0]
    if name not in _REMEDIES:
        return error
    return MissingPackageError(f"{wanted} needs {name}, which is not installed here: {_REMEDIES[name]}.", name)
