"""All steps of CUBA neurons in torch's own operators: where the native library is not, with the same spikes."""

import torch

from .cuba_memory import ALIGN, HALF_RANGE, NORMED, UNITY, WEIGHT_UNITS, empty, order_of

__all__ = ["backward_in_torch", "forward_in_torch"]

_Optional = torch.Tensor | None


def forward_in_torch(
    x: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    i_decay: int,
    v_decay: int,
    means: torch.Tensor | None,
    inverse_stds: torch.Tensor | None,
    bias: torch.Tensor | None,
    s_scale: float,
    threshold: int,
    unit: float,
    kind: int,
    keeps_currents: bool,
    keeps_voltages: bool,
) -> tuple[torch.Tensor, ...]:
    """All outputs of the operator.

    Whole numbers are carried as float32, which holds all that 24-bit registers hold; products and sums that may leave that range
    go through float64.
    """
    i_keep, v_keep = UNITY - i_decay, UNITY - v_decay
    order = order_of(x)
    # In float64 the product comes nearer than 0.5 to the whole number that float32 had to round when it was divided.
    u, v = (torch.round(state.to(torch.float64) * s_scale).to(torch.float32) for state in (current, voltage))
    if kind == NORMED:
        assert means is not None
        assert inverse_stds is not None
        normed = (x * unit - means[:, None, :, None, None]) * inverse_stds.view(-1, 1, 1, 1, 1)
        inputs = torch.trunc(normed * s_scale)
    else:
        inputs = torch.round(x).mul_(ALIGN) if kind == WEIGHT_UNITS else torch.trunc(x * s_scale)
    held = None if bias is None else bias.view(-1, *[1] * (x.dim() - 3))
    currents = _currents(inputs, u, i_keep, held)
    u_end = currents[-1].clone() if len(currents) else u
    spikes, charged = empty(x.shape, order, x), empty(x.shape, order, x)
    voltages = empty(x.shape, order, x) if keeps_voltages else x.new_empty(0)
    for t, u_step in enumerate(currents):
        added = u_step + (v if v_keep == UNITY else _decayed(v, v_keep))
        v = charged[t].copy_(added).clamp_(1 - HALF_RANGE, HALF_RANGE - 1)
        torch.gt(v, threshold, out=spikes[t])
        v = torch.where(v > threshold, 0.0, v)
        if keeps_voltages:
            torch.div(v, s_scale, out=voltages[t])
    kept = empty(x.shape, order, x).copy_(currents / s_scale) if keeps_currents else x.new_empty(0)
    last = [empty(x.shape[1:], order, x).copy_(state / s_scale) for state in (u_end, v)]
    return spikes, charged, *last, kept, voltages


def _currents(inputs: torch.Tensor, u: torch.Tensor, keep: int, bias: torch.Tensor | None) -> torch.Tensor:
    """The synaptic current of every step, and the bias where there is one, ``[T, N, *]``; may be ``inputs`` itself."""
    if bias is not None:  # There is none where currents are kept. The register wraps what comes from the synapse alone.
        return _wrapped(inputs - bias) + bias
    if keep == 0:
        return _wrapped(inputs)
    currents = torch.empty_like(inputs)
    for x_step, u_step in zip(inputs, currents, strict=True):
        u = _wrapped(_decayed(u, keep) + x_step)
        u_step.copy_(u)
    return currents


def _decayed(state: torch.Tensor, keep: int) -> torch.Tensor:
    """``state * keep / 4096`` rounded toward zero; the product needs up to 37 bits, which float64 holds exactly."""
    return state.to(torch.float64, copy=True).mul_(keep / UNITY).trunc_()


def _wrapped(u: torch.Tensor) -> torch.Tensor:
    """Wrap a current that left the 24-bit range once, as the register does."""
    if u.numel() == 0:
        return u
    low, high = u.aminmax()
    if low > -HALF_RANGE and high <= HALF_RANGE:  # nearly always, and cheaper to see than to wrap
        return u
    u = torch.where(u > HALF_RANGE, u - 2 * HALF_RANGE, u)
    return torch.where(u <= -HALF_RANGE, u + 2 * HALF_RANGE, u)


def backward_in_torch(
    slopes: torch.Tensor,
    grad_spikes: torch.Tensor,
    charged: torch.Tensor,
    currents: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    keeps: tuple[int, int],
    given: tuple[_Optional, _Optional, _Optional, _Optional],
    inverse_stds: torch.Tensor | None,
    s_scale: float,
    threshold: int,
    gain: float,
    through_reset: bool,
    learns: tuple[bool, bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Backpropagate ``u = i_keep u' + x``, ``v = v_keep v' + u``, ``s = surrogate(v - threshold)``, ``v' = v (1 - s)``."""
    i_keep, v_keep = (keep / UNITY for keep in keeps)
    grad_last_current, grad_last_voltage, grad_currents, grad_voltages = given
    order = order_of(charged)
    # With respect to the voltage after the reset, and what later steps want of the current.
    after = torch.zeros_like(voltage) if grad_last_voltage is None else grad_last_voltage
    kept = torch.zeros_like(current) if grad_last_current is None else grad_last_current
    sums = torch.zeros(2, dtype=torch.float64, device=charged.device)
    grad_x = empty(charged.shape, order, charged)
    for t in range(len(charged) - 1, -1, -1):
        if grad_voltages is not None:
            after = after + grad_voltages[t]
        if grad_currents is not None:
            kept = kept + grad_currents[t]
        through = torch.where(charged[t] > threshold, 0.0, after)
        if through_reset:
            through = through - slopes[t] * (charged[t] / s_scale) * after
        grad_v = slopes[t] * grad_spikes[t] + through
        kept = kept + grad_v
        torch.mul(kept, gain if inverse_stds is None else gain * inverse_stds[t], out=grad_x[t])
        if learns[1]:
            left = torch.where(charged[t - 1] > threshold, 0.0, charged[t - 1] / s_scale) if t else voltage
            sums[1] += (grad_v.double() * left).sum()
        if learns[0]:
            sums[0] += (kept.double() * (currents[t - 1] if t else current)).sum()
        after = grad_v * v_keep
        kept = kept * i_keep if i_keep else torch.zeros_like(kept)
    grad_current, grad_voltage = (empty(charged.shape[1:], order, charged).copy_(each) for each in (kept, after))
    return grad_x, grad_current, grad_voltage, sums
