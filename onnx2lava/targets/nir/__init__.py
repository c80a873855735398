"""NIR: a graph that other tools read."""

from .writing import save_nir, to_nir

__all__ = ["save_nir", "to_nir"]
