"""NumPy: slow, plain, sharing no line with any runtime that it checks."""

from .simulation import simulate
from .target import NUMPY

__all__ = ["NUMPY", "simulate"]
