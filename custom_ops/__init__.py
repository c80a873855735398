"""The ``snn`` operators: their definitions, their meaning in NumPy, and sessions that run them. No torch, no Lava."""

from typing import TYPE_CHECKING

from .errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError, StreamError
from .lazy import lazy
from .version import __version__

if TYPE_CHECKING:
    from . import reference
    from .graphs.inlining import inlined
    from .graphs.over_time import over_time
    from .operators import DOMAIN, OPERATORS, VERSION
    from .sessions.runtime import get_library_path, session
    from .sessions.stream import Stream

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
        ".graphs.inlining": ("inlined",),
        ".operators": ("DOMAIN", "OPERATORS", "VERSION"),
        ".graphs.over_time": ("over_time",),
        ".reference": (),
        ".sessions.runtime": ("get_library_path", "session"),
        ".sessions.stream": ("Stream",),
    },
)
