"""Matrices of which each row has a few entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ...errors import NetworkError
from .base import Array, Map, Shape

__all__ = ["Sparse"]


@dataclass(frozen=True, eq=False)
class Sparse(Map):
    """A matrix stored by its rows, each of up to K entries. It reads spikes ``(C, H, W)`` flattened in that order.

    Args:
        weight: ``[O, K]``, real numbers or Loihi's integers (int32); 0 where a row has no more entries.
        columns: ``[O, K]``, which spike each entry reads, each once in a row; -1 where a row has no more.
        inputs: how many spikes there are.
    """

    columns: Array
    inputs: int

    kind = "sparse"

    def output_shape(self, shape: Shape) -> Shape:
        """``(O,)`` of the sums for an input of the shape ``shape``.

        Raises:
            NetworkError: the weight cannot read such an input, or its columns are none.
        """
        if self._fault is not None:
            raise NetworkError(self._fault)
        if self.inputs != prod(shape):
            raise NetworkError(f"a sparse weight of {self.inputs} columns cannot read spikes of the shape {shape}")
        return (self.weight.shape[0],)

    @cached_property
    def _fault(self) -> str | None:
        if self.weight.ndim != 2 or self.weight.size == 0 or self.columns.shape != self.weight.shape:
            return f"a sparse weight has the shape {self.weight.shape} for columns {self.columns.shape}, but both need [O, K]"
        if self.columns.dtype.kind not in "iu" or self.columns.min() < -1 or self.columns.max() >= self.inputs:
            return f"a sparse weight has columns that are not among its {self.inputs}"
        if self.weight[self.columns < 0].any():
            return "a sparse weight has entries without a column"
        ascending = np.sort(self.columns, axis=1)
        if ((np.diff(ascending) == 0) & (ascending[:, 1:] >= 0)).any():
            return "a sparse weight has two entries in one place"
        return None

    @property
    def fan_in(self) -> int:
        """How many spikes one sum can add up."""
        return int(self.weight.shape[1])

    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        """Row after row."""
        rows, places = np.nonzero(self.columns >= 0)
        return rows, self.columns[rows, places], self.weight[rows, places]

    def sums(self, x: Array) -> Array:
        """One entry of each row after the other."""
        flat = np.concatenate([x.reshape(len(x), -1), np.zeros((len(x), 1), x.dtype)], axis=1)  # -1 reads a zero
        sums = np.zeros((len(x), len(self.weight)), x.dtype)
        for columns, weights in zip(self.columns.T, self.weight.astype(x.dtype).T, strict=True):
            sums += flat[:, columns] * weights
        return sums

    def magnitudes(self, shape: Shape) -> Array:
        """Of each row."""
        return np.asarray(np.abs(self.weight).sum(axis=1, dtype=np.int64))

    @property
    def geometry(self) -> tuple[object, ...]:
        """Which entries there are."""
        return (self.inputs, self.columns.tobytes())

    @property
    def window(self) -> Sequence[str]:
        """Entries of a row, of how many columns."""
        return [f"{self.fan_in} of {self.inputs}"]
