"""Transposes of convolutions."""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from ...errors import NetworkError
from .base import Array, Shape
from .kernel import Kernel, check_kernel, entries, every, padded

__all__ = ["ConvTranspose"]


@dataclass(frozen=True, eq=False)
class ConvTranspose(Kernel):
    """The transpose of a convolution: every spike adds a kernel to the sums; nearest upsampling is one.

    Args:
        weight: ``[I, O / groups, kh, kw]``, as torch and ONNX order it.
        stride: distance between the kernels of neighbouring spikes, along height and width.
        pads: rows and columns taken away from the sums at the top, left, bottom and right; negative ones add zeros.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    kind = "transposed conv"

    def output_shape(self, shape: Shape) -> Shape:
        """``(O, H, W)`` of the sums for an input ``(C, H, W)``.

        Raises:
            NetworkError: the weight cannot read such an input, or nothing is left of the sums.
        """
        check_kernel(self.weight, self.groups)
        inputs, per_group, *kernel = self.weight.shape
        if len(shape) != 3 or shape[0] != inputs or inputs % self.groups:
            raise NetworkError(
                f"a transposed convolution with the weight {self.weight.shape} in {self.groups} groups cannot read spikes of "
                f"the shape {shape}"
            )
        size = [
            (shape[1 + axis] - 1) * self.stride[axis]
            + self.dilation[axis] * (kernel[axis] - 1)
            + 1
            - self.pads[axis]
            - self.pads[axis + 2]
            for axis in range(2)
        ]
        if min(*self.stride, *self.dilation) < 1 or min(size) < 1:
            raise NetworkError("a transposed convolution has a stride or dilation below 1, or pads that take all sums away")
        return (per_group * self.groups, *size)

    @property
    def fan_in(self) -> int:
        """How many spikes one sum can add up: kernels overlap where they are larger than their stride."""
        inputs, _, *kernel = self.weight.shape
        overlap = [ceil(size / step) for size, step in zip(kernel, self.stride, strict=True)]
        return int(inputs // self.groups * prod(overlap))

    def connections(self, shape: Shape) -> int:
        """Synaptic operations per time step at most, for an input ``shape``."""
        places: int = prod(shape[1:])
        return places * int(self.weight.size)

    def entries(self, shape: Shape) -> tuple[Array, Array, Array]:
        """What a spike adds to which sums, a convolution of the sums would read."""
        columns, rows, weights = entries(self, self.output_shape(shape), shape)
        return rows, columns, weights

    def sums(self, x: Array) -> Array:
        """Each place in the kernel adds the input, spread by the strides, to the sums; pads are cut off at the end."""
        channels, per_group, kh, kw = self.weight.shape
        groups = self.groups
        _, height, width = self.output_shape(x.shape[1:])
        top, left, bottom, right = self.pads
        grouped = x.reshape(len(x), groups, channels // groups, -1)
        kernels = self.weight.astype(x.dtype).reshape(groups, channels // groups, per_group, kh, kw).swapaxes(1, 2)
        sums = np.zeros((len(x), groups, per_group, height + top + bottom, width + left + right), x.dtype)
        for i, j in np.ndindex(kh, kw):
            spread = (kernels[..., i, j] @ grouped).reshape(*sums.shape[:3], *x.shape[2:])
            sums[..., every(i, x.shape[2], self, 0), every(j, x.shape[3], self, 1)] += spread
        return padded(sums.reshape(len(x), groups * per_group, *sums.shape[3:]), -top, -left, -bottom, -right)

    def magnitudes(self, shape: Shape) -> Array:
        """All elements of the kernel count, wherever the sum lies."""
        inputs, per_group, *kernel = self.weight.shape
        by_group = self.weight.reshape(self.groups, inputs // self.groups, per_group, *kernel).swapaxes(1, 2)
        sums = np.abs(by_group).reshape(self.groups * per_group, -1).sum(axis=1, dtype=np.int64)
        return np.repeat(sums, prod(self.output_shape(shape)[1:]))
