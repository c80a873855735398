"""The ``snn`` operators: their definitions, their meaning in NumPy, and sessions that run them. No torch, no Lava."""

from . import reference
from .operators import DOMAIN, OPERATORS, VERSION
from .over_time import over_time
from .runtime import get_library_path, session
from .stream import Stream

__all__ = ["DOMAIN", "OPERATORS", "VERSION", "Stream", "get_library_path", "over_time", "reference", "session"]
