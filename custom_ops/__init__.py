"""The ``snn`` operators: their definitions, their meaning in NumPy, and sessions that run them. No torch, no Lava."""

from . import reference
from .operators import DOMAIN, OPERATORS, VERSION
from .runtime import get_library_path, session

__all__ = ["DOMAIN", "OPERATORS", "VERSION", "get_library_path", "reference", "session"]
