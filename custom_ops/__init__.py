"""The ``snn`` operators: their definitions, their meaning in NumPy, and sessions that run them. No torch, no Lava."""

from typing import TYPE_CHECKING

from .errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError, StreamError
from .lazy import lazy
from .version import __version__

if TYPE_CHECKING:
    from . import reference
    from .inlining import inlined
    from .operators import DOMAIN, OPERATORS, VERSION
    from .over_time import over_time
    from .runtime import get_library_path, session
    from .stream import Stream

__all__ = [
    "DOMAIN",
    "OPERATORS",
    "VERSION",
    "BridgeError",
    "MissingPackageError",
    "ModelFileError",
    "RuntimeUnavailableError",
    "Stream",
    "StreamError",
    "__version__",
    "get_library_path",
    "inlined",
    "over_time",
    "reference",
    "session",
]

lazy(
    __name__,
    {
        ".inlining": ("inlined",),
        ".operators": ("DOMAIN", "OPERATORS", "VERSION"),
        ".over_time": ("over_time",),
        ".reference": (),
        ".runtime": ("get_library_path", "session"),
        ".stream": ("Stream",),
    },
)
