"""The linear maps through which spikes reach neurons: convolutions, their transposes, and matrices. None has a bias."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, TypeAlias

import numpy.typing as npt

from ..errors import NetworkError

__all__ = ["Array", "Conv", "ConvTranspose", "Dense", "Map", "Pads", "Shape", "windows"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
Pads: TypeAlias = tuple[int, int, int, int]
"""Zeros added at the top, left, bottom and right, as ONNX orders them. Negative ones take away."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution; sum pooling is one with as many groups as channels.

    Args:
        weight: ``[O, I / groups, kh, kw]``, real numbers or Loihi's integers (int32).
        stride: along height and width, at least 1.
        pads: zeros around the input; its two sides may differ.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        """``(O, H, W)`` of the sums for an input ``(C, H, W)``.

        Raises:
            NetworkError: the weight cannot read such an input, or no window fits into it.
        """
        _check_kernel(self.weight, self.groups)
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


@dataclass(frozen=True, eq=False)
class ConvTranspose:
    """The transpose of a convolution: every spike adds a kernel to the sums; nearest upsampling is one.

    Args:
        weight: ``[I, O / groups, kh, kw]``, as torch and ONNX order it.
        stride: distance between the kernels of neighbouring spikes, along height and width.
        pads: rows and columns taken away from the sums at the top, left, bottom and right; negative ones add zeros.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        """``(O, H, W)`` of the sums for an input ``(C, H, W)``.

        Raises:
            NetworkError: the weight cannot read such an input, or nothing is left of the sums.
        """
        _check_kernel(self.weight, self.groups)
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


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix. It reads spikes ``(C, H, W)`` flattened in that order.

    Args:
        weight: ``[O, I]``, real numbers or Loihi's integers (int32).
    """

    weight: Array

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


Map: TypeAlias = Conv | ConvTranspose | Dense


def windows(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    ceil: bool = False,
) -> tuple[int, int]:
    """How many windows fit along height and width.

    Args:
        size: height and width of the input.
        kernel: height and width of a window.
        stride: distance between windows.
        pads: zeros around the input, as :data:`Pads`.
        dilation: distance between the elements of a window.
        ceil: whether a window may begin inside the padded input and end outside.

    Raises:
        NetworkError: none fits, or a number among them makes no sense.
    """
    if min(*stride, *dilation, *kernel) < 1:
        raise NetworkError("a kernel, stride or dilation is below 1")
    counts = []
    for axis in range(2):
        padded = size[axis] + pads[axis] + pads[axis + 2]
        span = padded - dilation[axis] * (kernel[axis] - 1) - 1
        count = span // stride[axis] + 1
        # torch and onnxruntime drop a window that would begin beyond the input and its first padding.
        if ceil and span % stride[axis] and count * stride[axis] < size[axis] + pads[axis]:
            count += 1
        if span < 0 or count < 1:
            raise NetworkError(f"a kernel of {list(kernel)} is larger than its padded input of {list(size)}")
        counts.append(count)
    return counts[0], counts[1]


def _check_kernel(weight: Array, groups: int) -> None:
    if weight.ndim != 4 or weight.size == 0 or groups < 1:
        raise NetworkError(
            f"a convolution's weight has the shape {weight.shape} in {groups} groups, but needs four axes and at least one group"
        )
