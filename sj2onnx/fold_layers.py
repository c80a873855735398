"""What stands around a synapse, put into its weights: batch normalisation behind it, average pooling before and behind it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.utils import _pair

from .blocks import numeric_padding
from .errors import BlockError

__all__ = ["Synapse", "fold_norm", "fold_pool_before", "fold_pool_behind", "pool_window"]


@dataclass(frozen=True)
class Synapse:
    """A synapse in float64.

    Args:
        weight: ``[out, in / groups, h, w]`` with a window, ``[out, in]`` without.
        bias: ``[out]``.
        stride: of a window, as ``padding``, ``dilation`` and ``groups``; without one they mean nothing.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, module: nn.Conv2d | nn.Linear) -> "Synapse":
        """The numbers of ``module``.

        Raises:
            BlockError: it pads with anything but zeros, or with more of them on one side.
        """
        weight = module.weight.detach().to(torch.float64)
        bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().to(torch.float64)
        if isinstance(module, nn.Linear):
            return cls(weight, bias)
        padding = numeric_padding(module)
        return cls(weight, bias, _pair(module.stride), padding, _pair(module.dilation), module.groups)

    def module(self) -> nn.Conv2d | nn.Linear:
        """As a module in float32, with a bias where it is not zero."""
        biased = bool(self.bias.any())
        made: nn.Conv2d | nn.Linear
        if self.weight.dim() == 2:
            made = nn.Linear(self.weight.shape[1], self.weight.shape[0], bias=biased)
        else:
            out, each, *_ = self.weight.shape
            kernel = self.weight.shape[2], self.weight.shape[3]
            made = nn.Conv2d(each * self.groups, out, kernel, self.stride, self.padding, self.dilation, self.groups, bias=biased)
        with torch.no_grad():
            made.weight.copy_(self.weight)
            if made.bias is not None:
                made.bias.copy_(self.bias)
        return made.to(self.weight.device)

    def times(self, factor: float) -> "Synapse":
        """Everything that arrives, multiplied."""
        return Synapse(self.weight * factor, self.bias * factor, self.stride, self.padding, self.dilation, self.groups)


def fold_norm(synapse: Synapse, norm: nn.modules.batchnorm._BatchNorm) -> Synapse:
    """``norm`` behind ``synapse``, in evaluation: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Raises:
        BlockError: it has no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise BlockError("The batch normalisation keeps no running statistics to fold: use track_running_stats=True.")
    mean, var = (each.detach().to(torch.float64) for each in (norm.running_mean, norm.running_var))
    factor = 1 / torch.sqrt(var + norm.eps)
    shift = -mean * factor
    if norm.affine:
        factor, shift = factor * norm.weight.detach(), shift * norm.weight.detach() + norm.bias.detach()
    weight = synapse.weight * factor.view(-1, *[1] * (synapse.weight.dim() - 1))
    return Synapse(weight, synapse.bias * factor + shift, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)


def pool_window(pool: nn.AvgPool2d | nn.MaxPool2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kernel and stride.

    Raises:
        BlockError: it pads, dilates or rounds up.
    """
    plain = _pair(pool.padding) == (0, 0) and not pool.ceil_mode and _pair(getattr(pool, "dilation", 1)) == (1, 1)
    if not plain or getattr(pool, "divisor_override", None) is not None:
        raise BlockError(
            f"The {type(pool).__name__} pads, dilates, rounds its size up or overrides its divisor: use a kernel size and a "
            "stride alone."
        )
    return _pair(pool.kernel_size), _pair(pool.stride)


def fold_pool_behind(synapse: Synapse, pool: nn.AvgPool2d) -> Synapse:
    """A mean of sums is one sum over a larger window, whose weights are those of all windows in it.

    Raises:
        BlockError: the synapse has no window, or a dilated one.
    """
    kernel, stride = pool_window(pool)
    _require_window(synapse, pool)
    (h, w), (sh, sw) = synapse.weight.shape[2:], synapse.stride
    weight = synapse.weight.new_zeros(*synapse.weight.shape[:2], h + sh * (kernel[0] - 1), w + sw * (kernel[1] - 1))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            weight[:, :, i * sh : i * sh + h, j * sw : j * sw + w] += synapse.weight / (kernel[0] * kernel[1])
    stride = sh * stride[0], sw * stride[1]
    return Synapse(weight, synapse.bias, stride, synapse.padding, synapse.dilation, synapse.groups)


def fold_pool_before(synapse: Synapse, pool: nn.AvgPool2d, features: tuple[int, ...]) -> Synapse:
    """A sum over means is a sum over what they are the means of.

    Args:
        synapse: reads the pool's output, flattened if it has no window.
        pool: without overlap.
        features: ``(C, H, W)`` that the pool reads.

    Raises:
        BlockError: windows overlap, or the padding behind the pool has no counterpart before it.
    """
    kernel, stride = pool_window(pool)
    if kernel != stride:
        raise BlockError(f"The AvgPool2d before a synapse has the kernel size {kernel} and the stride {stride}: make them equal.")
    C, H, W = features
    kh, kw = kernel
    if synapse.weight.dim() == 2:
        grid = synapse.weight.view(len(synapse.weight), C, H // kh, W // kw) / (kh * kw)
        spread = synapse.weight.new_zeros(len(grid), C, H, W)
        spread[:, :, : H // kh * kh, : W // kw * kw] = grid.repeat_interleave(kh, 2).repeat_interleave(kw, 3)
        return Synapse(spread.flatten(1), synapse.bias)
    _require_window(synapse, pool)
    if any(synapse.padding) and (H % kh or W % kw):
        raise BlockError(
            f"The AvgPool2d of {kernel} leaves out the edge of images of {H} x {W}, and the convolution behind it pads: use "
            "sizes that the pool divides."
        )
    weight = (synapse.weight / (kh * kw)).repeat_interleave(kh, 2).repeat_interleave(kw, 3)
    wide = [tuple(a * b for a, b in zip(pair, kernel, strict=True)) for pair in (synapse.stride, synapse.padding)]
    return Synapse(weight, synapse.bias, wide[0], wide[1], synapse.dilation, synapse.groups)  # type: ignore[arg-type]


def _require_window(synapse: Synapse, pool: nn.AvgPool2d) -> None:
    if synapse.weight.dim() != 4 or synapse.dilation != (1, 1):
        what = "a fully connected synapse" if synapse.weight.dim() != 4 else "a dilated convolution"
        raise BlockError(f"{type(pool).__name__} beside {what} is no one synapse: give the pool neurons of its own.")
