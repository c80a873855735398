"""What convolutions and their transposes share: a kernel, and where it lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...errors import NetworkError
from .base import Array, Map, Shape

__all__ = ["Kernel", "Pads", "check_kernel", "entries", "every", "padded", "places", "windows"]

Pads: TypeAlias = tuple[int, int, int, int]
"""Zeros added at the top, left, bottom and right, as ONNX orders them. Negative ones take away."""


@dataclass(frozen=True, eq=False)
class Kernel(Map):
    """A map with the same weights at every place of an image ``(C, H, W)``.

    Args:
        weight: of four axes, the last two those of the kernel.
        stride: along height and width, at least 1.
        pads: of the image, or of the sums in a transpose; the two sides may differ.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def window(self) -> Sequence[str]:
        """Size, stride, padding, dilation and groups, as far as they are not the usual ones."""
        parts = ["x".join(map(str, self.weight.shape[2:]))]
        top, left, bottom, right = self.pads
        pads = (top, left) if (top, left) == (bottom, right) else self.pads
        for name, value in (("stride", self.stride), ("pad", pads), ("dilation", self.dilation)):
            if set(value) != {0 if name == "pad" else 1}:
                parts.append(f"{name} {value[0] if len(set(value)) == 1 else value}")
        return [*parts, f"groups {self.groups}"] if self.groups > 1 else parts


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


def check_kernel(weight: Array, groups: int) -> None:
    if weight.ndim != 4 or weight.size == 0 or groups < 1:
        raise NetworkError(
            f"a convolution's weight has the shape {weight.shape} in {groups} groups, but needs four axes and at least one group"
        )


def entries(conv: Kernel, shape: Shape, sums: Shape) -> tuple[Array, Array, Array]:
    """Those of a convolution from ``shape`` to ``sums``: rows, columns and weights, each ``[K]``."""
    outputs, height, width = sums
    per_group = conv.weight.shape[1]
    out = np.arange(outputs)
    into = out[:, None] // (outputs // conv.groups) * per_group + np.arange(per_group)  # [O, I / groups]: channels that it sees
    parts = []
    for i, j in np.ndindex(*conv.weight.shape[2:]):
        windows_y, y = places(height, shape[1], i, conv, 0)
        windows_x, x = places(width, shape[2], j, conv, 1)
        window = (windows_y[:, None] * width + windows_x).reshape(-1)
        place = (y[:, None] * shape[2] + x).reshape(-1)
        parts.append(
            np.broadcast_arrays(
                out[:, None, None] * (height * width) + window,
                into[:, :, None] * (shape[1] * shape[2]) + place,
                conv.weight[:, :, i, j, None],
            )
        )
    rows, columns, weights = (np.concatenate([part[which].reshape(-1) for part in parts]) for which in range(3))
    return rows, columns, weights


def places(count: int, length: int, element: int, conv: Kernel, axis: int) -> tuple[Array, Array]:
    """Along one axis, of ``count`` windows of a convolution those whose element ``element`` lies in an image of ``length``, and
    where it lies. A transposed convolution has a window of its sums for each place of its image."""
    at = np.arange(count) * conv.stride[axis] + element * conv.dilation[axis] - conv.pads[axis]
    inside = np.flatnonzero((at >= 0) & (at < length))
    return inside, at[inside]


def every(place: int, count: int, map_: Kernel, axis: int) -> slice:
    """Along one axis, where the windows have their element ``place``."""
    first, step = place * map_.dilation[axis], map_.stride[axis]
    return slice(first, first + (count - 1) * step + 1, step)


def padded(x: Array, top: int, left: int, bottom: int, right: int) -> Array:
    """With zeros around height and width; negative numbers take away."""
    x = np.pad(x, ((0, 0), (0, 0), *((max(low, 0), max(high, 0)) for low, high in ((top, bottom), (left, right)))))
    return x[:, :, max(-top, 0) : x.shape[2] + min(bottom, 0), max(-left, 0) : x.shape[3] + min(right, 0)]
