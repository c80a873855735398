"""SpikingJelly's quantised BatchNorm2d inside a CUBA neuron, in Loihi's whole numbers.

``lava_exchange.CubaLIFNode`` passes the synaptic current on as ``(u - mean) / 2**exponent``: ``mean`` on the grid of the weights,
the standard deviation rounded up to a power of two. Loihi has no such division, and NetX drops the norm. But a current that
decays at once is the synaptic sum of its step, and then there are two places to put a power of two exactly: weights and bias, or,
where the voltage keeps either everything or nothing, so that no leak rounds it, the threshold.
"""

import math
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import lava_exchange

from .errors import BlockError

__all__ = ["FoldedNorm", "fold", "folded_weight"]

_UNITY = 4096  # Decays are fractions of 2**12.
_HIGHEST_MANTISSA = 131071  # The threshold register has 17 bits.
_EXACT_BITS = 7  # State registers count in 2**-6 of a weight unit, sums and means are even: a division by more would be rounded.
_LOWEST_BIAS, _HIGHEST_BIAS = -4096, 4095
_LOWEST_WEIGHT, _HIGHEST_WEIGHT = -256, 254


@dataclass(frozen=True)
class FoldedNorm:
    """Where a norm goes.

    Args:
        exponent: the norm divides by ``2**exponent``.
        state_exponent: the folded voltage is ``2**state_exponent`` times that of the neuron with its norm.
        bias: the bias mantissa, one number per channel, float64 ``[C]``; whole and in range where Loihi has it.
        v_threshold: the threshold mantissa, 0 … 131071, in units of the folded weights.
    """

    exponent: int
    state_exponent: int
    bias: torch.Tensor
    v_threshold: int

    @property
    def weight_exponent(self) -> int:
        """Weights are multiplied by ``2**weight_exponent``."""
        return self.state_exponent - self.exponent


def fold(norm: lava_exchange.BatchNorm2d, mean: torch.Tensor, v_decay: int, v_threshold: int) -> FoldedNorm:
    """Where the norm of a neuron goes whose current decays at once.

    Formula: ``BatchNorm2d.forward`` in ``spikingjelly/activation_based/lava_exchange.py``, in evaluation.

    Args:
        norm: of the neuron.
        mean: its running mean in weight units, even whole numbers in -256 … 254, ``[C]``.
        v_decay: voltage decay, 0 … 4096.
        v_threshold: threshold mantissa, 0 … 131071.

    Raises:
        BlockError: its statistics are not finite.
    """
    std = torch.sqrt(norm.running_var + norm.eps)
    real = torch.ceil(torch.log2(std)).clamp(-norm.weight_exp_bits, norm.weight_exp_bits).item()
    if not math.isfinite(real) or not mean.isfinite().all():
        raise BlockError("The norm's running mean or variance is not finite: train again with a smaller learning rate.")
    if real % 1:
        raise BlockError(f"The norm's weight_exp_bits is {norm.weight_exp_bits}, not a whole number: use one.")
    exponent = int(real)
    state_exponent = 0
    if v_decay in (0, _UNITY) and exponent <= _EXACT_BITS:
        room = (_HIGHEST_MANTISSA // max(v_threshold, 1)).bit_length() - 1
        state_exponent = min(exponent, room)
    # Without a leak the voltage counts in whole weight units, so that what a shift cuts off a threshold changes no spike.
    shifted = v_threshold << state_exponent if state_exponent >= 0 else v_threshold >> -state_exponent
    bias = -mean.to(torch.float64) * 2.0 ** (state_exponent - exponent)
    return FoldedNorm(exponent, state_exponent, bias, shifted)


def folded_weight(weight: torch.Tensor, folded: FoldedNorm) -> torch.Tensor:
    """``weight`` in weight units, even whole numbers, as the norm leaves it: int16 of the same shape, even and in -256 … 254.

    Raises:
        BlockError: Loihi has no such weights or no such bias.
    """
    what = f"The norm {'divides' if folded.exponent > 0 else 'multiplies'} the synaptic current by {2 ** abs(folded.exponent)}"
    remedy = "use voltage_decay=0.0 and a threshold that is lower, so that it can take the factor over, or norm=None"
    scaled = weight.to(torch.float64) * 2.0**folded.weight_exponent
    if (scaled % 2).any() or scaled.min() < _LOWEST_WEIGHT or scaled.max() > _HIGHEST_WEIGHT:
        raise BlockError(
            f"{what}, after which the weights are not all even numbers in {_LOWEST_WEIGHT} ... {_HIGHEST_WEIGHT}, the only ones "
            f"that Loihi has: {remedy}."
        )
    if (folded.bias % 1).any() or folded.bias.min() < _LOWEST_BIAS or folded.bias.max() > _HIGHEST_BIAS:
        raise BlockError(
            f"{what}, after which the biases are not all whole numbers in {_LOWEST_BIAS} ... {_HIGHEST_BIAS}, the only ones that "
            f"Loihi has: {remedy}."
        )
    return scaled.to(torch.int16)
