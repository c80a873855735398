"""How sequences and states of neurons lie in memory, and what the operators for CUBA neurons take."""

from collections.abc import Sequence

import torch

from .errors import BlockError

__all__ = [
    "ALIGN",
    "HALF_RANGE",
    "NORMED",
    "REAL_VALUES",
    "UNITY",
    "WEIGHT_UNITS",
    "channels_of",
    "empty",
    "order_of",
    "require_fitting",
    "require_forward",
    "row_of",
    "rows_of",
    "whole_decay",
]

UNITY = 4096
"""Decays are fractions of 2**12."""
ALIGN = 64
"""State registers count in 2**-6 of a weight unit."""
HALF_RANGE = 2**23
"""The state has 24 bits with sign."""
WEIGHT_UNITS, REAL_VALUES, NORMED = 0, 1, 2
"""What arrives: ``TrainingInput`` in ``custom_ops/native/kernels/tile.h``."""


def whole_decay(decay: torch.Tensor) -> int:
    """A decay as the chip has it, 0 … 4096.

    Raises:
        BlockError: it is NaN.
    """
    value = decay.detach().item()
    if value != value:
        raise BlockError("A learned decay has become NaN: train again with a smaller learning rate.")
    return min(max(round(value), 0), UNITY)


def require_forward(
    x: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    means: torch.Tensor | None,
    inverse_stds: torch.Tensor | None,
    bias: torch.Tensor | None,
    kind: int,
) -> None:
    """See :func:`require_fitting`."""
    normed = kind == NORMED
    if x.dim() < (5 if normed else 2 if bias is None else 3):
        raise BlockError(f"The operator for CUBA neurons got the shape {list(x.shape)}: give it [T, N, *], and a norm images.")
    if normed == (means is None) or normed == (inverse_stds is None):
        raise BlockError("The operator for CUBA neurons takes means and deviations for an input behind a norm, and for no other.")
    state, channels = x.shape[1:], x.shape[2:3]
    require_fitting(
        x=(x, x.shape),
        current=(current, state),
        voltage=(voltage, state),
        means=(means, [len(x), *channels]),
        inverse_stds=(inverse_stds, [len(x)]),
        bias=(bias, channels),
    )


def require_fitting(**tensors: tuple[torch.Tensor | None, Sequence[int]]) -> None:
    """The operators read memory by pointer, and refuse what is not as they expect it, before they read.

    Raises:
        BlockError: a tensor has another shape than its input goes with, another type than float32, or is on another device.
    """
    device = next(tensor.device for tensor, _ in tensors.values() if tensor is not None)
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype != torch.float32 or tensor.shape != torch.Size(shape) or tensor.device != device:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"
            raise BlockError(
                f"The operator for CUBA neurons got {found} as {name}, and takes float32 {list(shape)} on {device}: convert it."
            )


def order_of(x: torch.Tensor) -> list[int]:
    """The axes of a sequence as they lie in memory, time first; as they are named where gaps, or time, lie in between."""
    strides = x.stride()
    order = [0, *sorted(range(1, x.dim()), key=lambda axis: -strides[axis])]
    return order if x.permute(order).is_contiguous() else list(range(x.dim()))


def rows_of(x: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A sequence as ``[T, M]``, without a copy where it lies like that; what is a view may have any strides."""
    return x.permute(order).reshape(len(x), x.shape[1:].numel())


def row_of(state: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A state ``[N, *]`` as ``[M]``, in the order of its sequence, one value behind the other."""
    return state.permute([axis - 1 for axis in order[1:]]).reshape(-1).contiguous()


def empty(shape: torch.Size, order: list[int], like: torch.Tensor) -> torch.Tensor:
    """Memory for a sequence, or for a state where ``shape`` has no time, whose axes lie in that order."""
    if len(shape) < len(order):
        order = [axis - 1 for axis in order[1:]]
    back = sorted(range(len(order)), key=order.__getitem__)
    return like.new_empty([shape[axis] for axis in order]).permute(back)


def channels_of(x: torch.Tensor, order: list[int]) -> tuple[int, int]:
    """Channels of ``[T, N, C, *]``, and neurons in a row that belong to one of them."""
    after = order[order.index(2) + 1 :]
    inner = 1
    for axis in after:
        inner *= x.shape[axis]
    return x.shape[2], max(1, inner)
