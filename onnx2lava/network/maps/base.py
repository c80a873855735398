"""What every map is: a matrix, however it is stored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Map", "Shape"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Map(ABC):
    """A linear map through which spikes reach neurons. It has no bias.

    A kind of map is a subclass that says its shape, its fan-in and its entries. Whatever has no form of its own for that kind, be
    it a composition or a target, takes the entries; the methods that are not abstract are there to be done faster.

    Args:
        weight: real numbers, or Loihi's integers (int32), of the axes that the kind has; those that come out first.
    """

    weight: Array

    kind: ClassVar[str]
    """What tables call it."""

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the sums for spikes of the shape ``shape``.

        Raises:
            NetworkError: the map cannot read such spikes.
        """

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """How many spikes one sum can add up."""

    @abstractmethod
    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        """The entries of its matrix ``[O, I]``, those that are zero wherever the map lies left out.

        Args:
            shape: of the spikes; they and the sums are flattened in row-major order.

        Returns:
            Rows, columns and weights, each ``[K]``.

        Raises:
            NetworkError: the map cannot read such spikes.
        """

    def connections(self, shape: Shape) -> int:
        """Synaptic operations per time step at most, for spikes of the shape ``shape``."""
        return len(self.entries(shape)[0])

    def sums(self, x: Array) -> Array:
        """``[N, *output_shape]`` for ``[N, *shape]``, in the numbers of ``x``."""
        made = self.output_shape(x.shape[1:])
        rows, columns, weights = self.entries(x.shape[1:])
        sums = np.zeros((int(np.prod(made)), len(x)), x.dtype)
        np.add.at(sums, rows, weights.astype(x.dtype)[:, None] * x.reshape(len(x), -1).T[columns])
        return sums.T.reshape(len(x), *made)

    def magnitudes(self, shape: Shape) -> Array:
        """By neuron, flat, int64: what the absolute weights of all its synapses come to."""
        rows, _, weights = self.entries(shape)
        totals = np.zeros(int(np.prod(self.output_shape(shape))), np.int64)
        np.add.at(totals, rows, np.abs(weights).astype(np.int64))
        return totals

    @property
    def geometry(self) -> tuple[object, ...]:
        """All but the weight: maps of one kind and one geometry add up by their weights."""
        return tuple(getattr(self, each.name) for each in fields(self) if each.name != "weight")

    @property
    def window(self) -> Sequence[str]:
        """What a table says of its kernel; nothing for a map that has none."""
        return ()
