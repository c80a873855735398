"""Matrices."""

from dataclasses import dataclass
from math import prod

import numpy as np

from ...errors import NetworkError
from .base import Array, Map, Shape

__all__ = ["Dense"]


@dataclass(frozen=True, eq=False)
class Dense(Map):
    """A matrix. It reads spikes ``(C, H, W)`` flattened in that order.

    Args:
        weight: ``[O, I]``, real numbers or Loihi's integers (int32).
    """

    kind = "dense"

    def output_shape(self, shape: Shape) -> Shape:
        """``(O,)`` of the sums for an input of the shape ``shape``.

        Raises:
            NetworkError: the weight cannot read such an input.
        """
        if self.weight.ndim != 2 or self.weight.size == 0:
            raise NetworkError(f"a dense weight has the shape {self.weight.shape}, but needs [O, I]")
        if self.weight.shape[1] != prod(shape):
            raise NetworkError(f"a dense weight of the shape {self.weight.shape} cannot read spikes of the shape {shape}")
        return (self.weight.shape[0],)

    @property
    def fan_in(self) -> int:
        """How many spikes one sum can add up."""
        return int(self.weight.shape[1])

    def connections(self, shape: Shape) -> int:
        """Synaptic operations per time step at most."""
        return int(self.weight.size)

    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        """All of them."""
        rows, columns = np.indices(self.weight.shape).reshape(2, -1)
        return rows, columns, self.weight.reshape(-1)

    def sums(self, x: Array) -> Array:
        """A product of matrices."""
        sums: Array = x.reshape(len(x), -1) @ self.weight.astype(x.dtype).T
        return sums

    def magnitudes(self, shape: Shape) -> Array:
        """Of each row."""
        return np.asarray(np.abs(self.weight).sum(axis=1, dtype=np.int64))
