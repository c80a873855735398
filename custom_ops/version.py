"""The version of all three packages, which are one distribution: the one place that says it."""

__all__ = ["__version__"]

__version__ = "0.2.0"
