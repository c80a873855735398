"""Two-dimensional convolutions."""

from dataclasses import dataclass
from math import prod

import numpy as np

from ...errors import NetworkError
from .base import Array, Shape
from .kernel import Kernel, check_kernel, entries, every, padded, windows

__all__ = ["Conv"]


@dataclass(frozen=True, eq=False)
class Conv(Kernel):
    """A two-dimensional convolution; sum pooling is one with as many groups as channels.

    Args:
        weight: ``[O, I / groups, kh, kw]``, real numbers or Loihi's integers (int32).
        stride: along height and width, at least 1.
        pads: zeros around the input; its two sides may differ.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    kind = "conv"

    def output_shape(self, shape: Shape) -> Shape:
        """``(O, H, W)`` of the sums for an input ``(C, H, W)``.

        Raises:
            NetworkError: the weight cannot read such an input, or no window fits into it.
        """
        check_kernel(self.weight, self.groups)
        outputs, per_group, *kernel = self.weight.shape
        if len(shape) != 3 or shape[0] != per_group * self.groups or outputs % self.groups:
            raise NetworkError(
                f"a convolution with the weight {self.weight.shape} in {self.groups} groups cannot read spikes of the shape "
                f"{shape}"
            )
        return (outputs, *windows(shape[1:], kernel, self.stride, self.pads, self.dilation))

    @property
    def fan_in(self) -> int:
        """How many spikes one sum can add up."""
        return int(self.weight.size // self.weight.shape[0])

    def connections(self, shape: Shape) -> int:
        """Synaptic operations per time step at most, for an input ``shape``; those to zeros around the input included."""
        places: int = prod(self.output_shape(shape)[1:])
        return places * int(self.weight.size)

    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        """Those inside the image."""
        return entries(self, shape, self.output_shape(shape))

    def sums(self, x: Array) -> Array:
        """One strided slice of the padded input per place in the kernel."""
        outputs, per_group, kh, kw = self.weight.shape
        shape = self.output_shape(x.shape[1:])
        image = padded(x, *self.pads)
        grouped = image.reshape(len(x), self.groups, per_group, *image.shape[2:])
        kernels = self.weight.astype(x.dtype).reshape(self.groups, outputs // self.groups, per_group, kh, kw)
        sums = np.zeros((len(x), self.groups, outputs // self.groups, shape[1] * shape[2]), x.dtype)
        for i, j in np.ndindex(kh, kw):
            seen = grouped[..., every(i, shape[1], self, 0), every(j, shape[2], self, 1)]
            sums += kernels[..., i, j] @ seen.reshape(*seen.shape[:3], -1)
        return sums.reshape(len(x), *shape)

    def magnitudes(self, shape: Shape) -> Array:
        """All elements of the kernel count, at the border too."""
        sums = np.abs(self.weight).reshape(len(self.weight), -1).sum(axis=1, dtype=np.int64)
        return np.repeat(sums, prod(self.output_shape(shape)[1:]))
