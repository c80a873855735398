"""Convolutions in the forms that Lava and slayer have: as much padding on both sides, and few groups."""

from dataclasses import replace
from math import prod
from typing import TypeVar

import numpy as np

from custom_ops.loihi import INT8_MAX

from ..errors import NetworkError
from ..network import Conv, ConvTranspose, Kernel
from ..network.unrolling import LARGEST

__all__ = ["convolution_of_transpose", "even_padding", "few_groups"]

_Kernel = TypeVar("_Kernel", bound=Kernel)


def even_padding(conv: _Kernel) -> _Kernel:
    """The same map with as many zeros on both sides, or as much taken away in a transpose, and zeros in the kernel instead.

    Raises:
        NetworkError: the padding differs so much that the kernel would have more than ``LARGEST`` weights.
    """
    if conv.pads[:2] == conv.pads[2:] and min(conv.pads) >= 0:
        return conv
    kernel: list[int] = []
    before, dilation, pads = [], [], []
    for axis in range(2):
        low, high, spacing, size = conv.pads[axis], conv.pads[axis + 2], conv.dilation[axis], conv.weight.shape[2 + axis]
        if (low - high) % spacing:  # elements so far apart cannot be joined by zeros: fill the gaps first
            size, spacing = spacing * (size - 1) + 1, 1
        pad = max(low, high, 0)
        pad += (low - pad) % spacing
        before.append((pad - low) // spacing)
        kernel.append(size + (2 * pad - low - high) // spacing)
        dilation.append(spacing)
        pads.append(pad)
    shape = (*conv.weight.shape[:2], *kernel)
    if prod(shape) > LARGEST:
        raise NetworkError(f"its padding {list(conv.pads)} differs between the sides too much for a kernel with zeros")
    weight = np.zeros(shape, conv.weight.dtype)
    places = [
        before[axis] + np.arange(conv.weight.shape[2 + axis]) * (conv.dilation[axis] // dilation[axis]) for axis in range(2)
    ]
    weight[:, :, places[0][:, None], places[1]] = conv.weight
    return replace(conv, weight=weight, pads=(pads[0], pads[1], pads[0], pads[1]), dilation=(dilation[0], dilation[1]))


def few_groups(conv: Conv) -> Conv:
    """The same convolution in at most 127 groups.

    Lava holds the number of groups in an int8 (``PyConvModelFixed`` of lava-nc 0.10) and gives no spike at all where it
    overflows. Neighbouring groups become one, with zeros where they do not see each other.
    """
    if conv.groups <= INT8_MAX:
        return conv
    groups = max(divisor for divisor in range(1, INT8_MAX + 1) if conv.groups % divisor == 0)
    merged = conv.groups // groups
    outputs, per_group, *kernel = conv.weight.shape
    weight = np.zeros((groups, merged, outputs // conv.groups, merged, per_group, *kernel), conv.weight.dtype)
    for part in range(merged):
        weight[:, part, :, part] = conv.weight.reshape(groups, merged, -1, per_group, *kernel)[:, part]
    return replace(conv, weight=weight.reshape(outputs, merged * per_group, *kernel), groups=groups)


def convolution_of_transpose(map_: ConvTranspose) -> Conv | None:
    """The same as a convolution with the kernel turned around; None where spikes are spread, which no convolution does."""
    if map_.stride != (1, 1):
        return None
    inputs, per_group, *kernel = map_.weight.shape
    weight = map_.weight.reshape(map_.groups, inputs // map_.groups, per_group, *kernel).swapaxes(1, 2)
    weight = np.ascontiguousarray(weight.reshape(-1, inputs // map_.groups, *kernel)[:, :, ::-1, ::-1])
    reach = [dilation * (size - 1) for dilation, size in zip(map_.dilation, kernel, strict=True)]
    top, left, bottom, right = (reach[side % 2] - pad for side, pad in enumerate(map_.pads))
    return Conv(weight, (1, 1), (top, left, bottom, right), map_.dilation, map_.groups)
