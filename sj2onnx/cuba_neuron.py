"""The current-based LIF neuron of Loihi, trainable: SpikingJelly's CubaLIFNode with the chip's exact arithmetic."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import base, lava_exchange, surrogate
from torch.autograd.function import once_differentiable

from .errors import BlockError
from .quantised_norm import FoldedNorm, fold

__all__ = ["CubaLIFNode"]

_ALIGN = 64  # State registers count in 2**-6 of a weight unit.
_UNITY = 4096  # Decays are fractions of 2**12.
_HALF_RANGE = 2**23  # The state has 24 bits with sign.
_HIGHEST_MANTISSA = 131071  # The threshold register has 17 bits.
_HIGHEST_SCALE = 2**18  # Above it, float32 could not hold the number of state units in 1.0.
_CACHED_ELEMENTS = 2**16  # float32 values of which a few copies fit into a core's cache

_States = tuple[object, ...]


class CubaLIFNode(lava_exchange.CubaLIFNode):  # type: ignore[misc]
    """Loihi's current-based LIF neuron with surrogate gradients; its spikes are those of the chip.

    ::

        u[t] = wrap24(rtz(u[t-1] * (4096 - i_decay) / 4096) + x[t])
        v[t] = clip24(rtz(v[t-1] * (4096 - v_decay) / 4096) + u[t])
        s[t] = v[t] > 64 * int(v_threshold * scale);    v[t] = 0 where s[t]

    in whole numbers (see :func:`custom_ops.reference.cuba_lif`, whose spikes it equals), where one state unit is
    ``1 / s_scale`` with ``s_scale = 64 * scale``. Gradients pass straight through rounding, wrapping and clipping.

    It is SpikingJelly's ``lava_exchange.CubaLIFNode`` in name, arguments, state dict and memories (``current_state`` and
    ``voltage_state``, real values ``[N, *]``), and differs from it where that one differs from Lava-DL and Loihi: weights are
    clamped at 254, not 255; the threshold is truncated to a whole number of weight units, as Lava-DL does; ``v`` must exceed it
    exactly, with no epsilon to be lost in float32; decays are whole numbers in the forward pass; any whole ``scale`` is exact,
    not only powers of two; the 24-bit registers are modelled; all time steps run in one autograd node.

    With a ``norm``, ``(x[t] - mean) / 2**exponent`` takes the place of ``x[t]``: in training by the statistics of the step's
    batch, in evaluation by the running ones, in registers as the chip has them (see :mod:`sj2onnx.quantised_norm`).

    Args:
        current_decay: decay of the synaptic current per time step, 0 … 1; 1 for none of it kept.
        voltage_decay: decay of the membrane potential per time step, 0 … 1; 0 for no leak.
        v_threshold: threshold, such that ``int(v_threshold * scale)`` is in 0 … 131071.
        v_reset: 0, since Loihi resets to 0.
        scale: weight units in 1.0, a whole number in 1 … 2**18.
        requires_grad: whether the decays are learned.
        surrogate_function: SpikingJelly's surrogate of the spike function, in spiking mode; its argument is ``v`` minus
            threshold in real values.
        norm: SpikingJelly's quantised ``lava_exchange.BatchNorm2d``, for inputs of images. ``current_decay`` is 1 then, since
            SpikingJelly keeps the current behind the norm and Lava-DL the one before it, and ``scale`` a power of two.
        detach_reset: whether the reset is left out of the gradient.
        step_mode: ``"s"`` for inputs ``[N, *]``, ``"m"`` for ``[T, N, *]``.
        store_v_seq: keep the membrane potential after the reset of every step in ``v_seq``, ``[T, N, *]``; slow.
        store_i_seq: keep the synaptic current of every step in ``i_seq``, likewise, in step mode ``"m"``.

    Raises:
        BlockError: an argument is outside what is said here.
    """

    def __init__(
        self,
        current_decay: float | torch.Tensor,
        voltage_decay: float | torch.Tensor,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        scale: int = 1 << 6,
        requires_grad: bool = False,
        surrogate_function: Callable[[torch.Tensor], torch.Tensor] | None = None,
        norm: lava_exchange.BatchNorm2d | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        store_i_seq: bool = False,
    ) -> None:
        decays = [_checked_decay("current_decay", current_decay), _checked_decay("voltage_decay", voltage_decay)]
        if v_reset != 0.0:
            raise BlockError(f"v_reset is {v_reset}, but Loihi resets the membrane potential to 0: use v_reset=0.0.")
        if isinstance(scale, torch.Tensor) or scale % 1 != 0 or not 1 <= scale <= _HIGHEST_SCALE:
            raise BlockError(f"scale is {scale}, but weights are whole numbers: use a whole scale in 1 ... {_HIGHEST_SCALE}.")
        super().__init__(
            *decays,
            float(v_threshold),
            0.0,
            int(scale),
            requires_grad,
            surrogate.Sigmoid() if surrogate_function is None else surrogate_function,
            _checked_norm(norm, int(scale)),
            detach_reset,
            step_mode,
            store_v_seq,
            store_i_seq,
        )
        self.threshold_mantissa  # noqa: B018  (refuses a threshold that has none)

    @property
    def threshold_mantissa(self) -> int:
        """The threshold in weight units, truncated to a whole number as in ``lava.lib.dl.slayer.neuron.base.Neuron``.

        Raises:
            BlockError: it is outside 0 … 131071.
        """
        scaled = self.v_threshold * self.scale
        if not math.isfinite(scaled) or not 0 <= int(scaled) <= _HIGHEST_MANTISSA:
            raise BlockError(
                f"v_threshold = {self.v_threshold} at scale {self.scale} is {scaled:g} weight units, outside the "
                f"0 ... {_HIGHEST_MANTISSA} of Loihi's register: change the threshold or the scale."
            )
        return int(scaled)

    @property
    def device_params(self) -> dict[str, int]:
        """The chip's parameters: ``i_decay`` 1 … 4096, ``v_decay`` 0 … 4096 and ``v_threshold`` 0 … 131071 (the mantissa).

        Raises:
            BlockError: the current decay rounds to 0, which NetX turns into garbage, or to anything but 1 where there is a
                norm; or training made a decay NaN.
        """
        i_decay, v_decay = (_whole_decay(d) for d in (self.current_decay, self.voltage_decay))
        if i_decay == 0:
            raise BlockError(
                f"current_decay = {self.current_decay.detach().item() / _UNITY:g} rounds to 0 / 4096, a current that never "
                "decays, which NetX cannot express: use at least 1 / 4096."
            )
        if self.norm is not None and i_decay != _UNITY:
            raise BlockError(
                f"current_decay is {i_decay} / {_UNITY}, and there is a norm: SpikingJelly keeps the current that has passed it, "
                "which no neuron of Lava-DL or Loihi keeps; use current_decay=1.0, or norm=None."
            )
        return {"i_decay": i_decay, "v_decay": v_decay, "v_threshold": self.threshold_mantissa}

    @property
    def folded_norm(self) -> FoldedNorm | None:
        """Where the norm goes in Loihi's whole numbers, by its running statistics; None without a norm.

        Raises:
            BlockError: the norm's statistics are not finite, or the current does not decay at once.
        """
        if self.norm is None:
            return None
        params = self.device_params
        mean = self.whole_weight(self.norm.running_mean.detach())
        return fold(self.norm, mean, params["v_decay"], params["v_threshold"])

    def require_one_meaning(self, folded: FoldedNorm) -> None:
        """Refuse a norm of which SpikingJelly and Lava-DL make different spikes.

        Raises:
            BlockError: the threshold lies between weight units where that counts, or a mean at the end of its range.
        """
        threshold = self.v_threshold * self.scale
        if threshold % 1 and (folded.exponent > 0 or self.device_params["v_decay"] not in (0, _UNITY)):
            raise BlockError(
                f"v_threshold = {self.v_threshold} at scale {self.scale} is {threshold:g} weight units, which Lava-DL truncates "
                "and SpikingJelly does not, and with this norm or leak that counts: use a whole number of weight units."
            )
        highest = (self.norm.running_mean.detach() * self.scale).max()
        if highest >= 255:
            raise BlockError(
                f"The norm's running mean reaches {highest:g} weight units, where Lava-DL takes 254 and SpikingJelly 255: use a "
                "smaller scale."
            )

    def whole_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """``weight`` in weight units, rounded to an even number in -256 … 254, float32; gradients pass straight through.

        Formula: ``quantize_8bit`` of ``lava.lib.dl.slayer.neuron.base.Neuron``, with the same float operations.
        """
        halves: torch.Tensor = lava_exchange.step_quantize(weight.to(torch.float32) / (2 / self.scale))
        return halves.clamp(-128, 127) * 2

    def quantize_8bit(self, x: torch.Tensor, descale: bool = False) -> torch.Tensor:
        """``x`` on the grid of 8-bit weights: in real values, or with ``descale`` in weight units."""
        whole = self.whole_weight(x)
        return whole if descale else whole / self.scale

    def forward(self, x: torch.Tensor, weight_units: bool = False) -> torch.Tensor:
        """Spikes, float32, for an input ``[N, *]`` (step mode ``"s"``) or ``[T, N, *]`` (``"m"``).

        Args:
            x: real-valued input, truncated to whole state units as Lava-DL does; with ``weight_units`` synaptic sums in weight
                units, rounded to whole ones, which is what a block hands over.
        """
        spikes: torch.Tensor = super().forward(x.to(torch.float32), weight_units=weight_units)
        return spikes

    def materialize_states(self, inputs: tuple[torch.Tensor, ...], states: _States, step_mode: str) -> _States:
        """The states with current and voltage as float32 tensors ``[N, *]``: zeros where they do not fit the input's shape."""
        x = inputs[0]
        shape = x.shape[1:] if step_mode == "m" else x.shape
        fitting = (
            state.to(x) if isinstance(state, torch.Tensor) and state.shape == shape else x.new_zeros(shape)
            for state in states[-2:]
        )
        return (*states[:-2], *fitting)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Spikes ``[T, N, *]``; step by step only where the states of every step are wanted."""
        slow = self.store_v_seq or self.store_i_seq
        owner = lava_exchange.CubaLIFNode if slow else base.MemoryModule
        spikes: torch.Tensor = owner.multi_step_forward(self, x_seq, *args, **kwargs)
        return spikes

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: _States, **kwargs: Any
    ) -> tuple[tuple[torch.Tensor, ...], _States]:
        """One step of :meth:`multi_step_functional_forward`, without the time axis."""
        (spikes,), states = self.multi_step_functional_forward((inputs[0].unsqueeze(0),), states, **kwargs)
        return (spikes.squeeze(0),), states

    def multi_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: _States, weight_units: bool = False, **kwargs: Any
    ) -> tuple[tuple[torch.Tensor, ...], _States]:
        """All steps with explicit states: ``((spikes,), states)``; the last two states are current and voltage."""
        if not getattr(self.surrogate_function, "spiking", True):
            raise BlockError("The surrogate function is not in spiking mode, but Loihi sends spikes: set spiking=True.")
        x, registers = inputs[0], _Registers(self.s_scale, _ALIGN * self.threshold_mantissa)
        if self.norm is not None:
            if weight_units and not self.training:
                registers = self._folded_registers()
            x, weight_units = self._normed(x, weight_units), False
        spikes, current, voltage = _CubaLIFSteps.apply(  # type: ignore[no-untyped-call]
            x,
            *states[-2:],
            self.current_decay.clamp(0, _UNITY),
            self.voltage_decay.clamp(0, _UNITY),
            self,
            weight_units,
            registers,
        )
        return (spikes,), (*states[:-2], current, voltage)

    def _normed(self, x: torch.Tensor, weight_units: bool) -> torch.Tensor:
        """The current behind the norm, in real values ``[T, N, C, H, W]``, for an input as :meth:`forward` takes it."""
        if x.dim() != 5:
            raise BlockError(
                f"The norm normalises images, but got neurons of the shape {list(x.shape[2:])}: put it behind a Conv2d, or use "
                "norm=None."
            )
        self.device_params  # noqa: B018  (refuses a current that is kept, which would have to pass the norm again)
        if weight_units:
            real = (x + (torch.round(x) - x).detach()) / self.scale
        else:
            real = x + (torch.trunc(x * self.s_scale) / self.s_scale - x).detach()
        if self.training and len(x):
            return torch.stack([self.norm(step) for step in real])
        normed: torch.Tensor = self.norm(real.flatten(0, 1)).view_as(real)
        return normed

    def _folded_registers(self) -> "_Registers":
        folded = self.folded_norm
        assert folded is not None
        bias = _ALIGN * folded.bias.to(torch.float32).view(-1, 1, 1)
        whole = not (bias % 1).any()  # else the block cannot be exported, but may still be evaluated
        return _Registers(self.s_scale * 2.0**folded.state_exponent, _ALIGN * folded.v_threshold, bias if whole else None)


def _checked_decay(name: str, decay: float | torch.Tensor) -> float:
    if isinstance(decay, torch.Tensor) and decay.numel() != 1:
        raise BlockError(f"{name} has {decay.numel()} values, but the neurons of a block share one: give a single number.")
    value = float(decay)
    if not 0 <= value <= 1:
        raise BlockError(f"{name} is {value}, but it is the fraction lost in a time step: use a value in 0 ... 1.")
    return value


def _checked_norm(norm: lava_exchange.BatchNorm2d | None, scale: int) -> lava_exchange.BatchNorm2d | None:
    if norm is None:
        return None
    # By exact type: a subclass may do something else.
    if type(norm) is not lava_exchange.BatchNorm2d:
        raise BlockError(
            f"The norm is a {type(norm).__name__}, but the one that converts is lava_exchange.BatchNorm2d: use that."
        )
    if scale & (scale - 1):
        raise BlockError(f"The scale is {scale}, at which the norm would round its real numbers: use a power of two.")
    return norm


def _whole_decay(decay: torch.Tensor) -> int:
    value = decay.detach().item()
    if math.isnan(value):
        raise BlockError("A learned decay has become NaN: train again with a smaller learning rate.")
    return min(max(round(value), 0), _UNITY)


@dataclass(frozen=True)
class _Registers:
    """How the chip's registers hold a neuron's state.

    Args:
        s_scale: state units in 1.0.
        threshold: in state units; the neuron fires above it.
        bias: what the input holds already that the chip adds to the voltage, in state units, ``[C, 1, 1]``.
    """

    s_scale: float
    threshold: int
    bias: torch.Tensor | None = None


class _CubaLIFSteps(torch.autograd.Function):
    """All time steps of the neuron as one autograd node: whole numbers forward, the straight-through gradient backward.

    Whole numbers are carried as float32, which holds all that 24-bit registers hold; products and sums that may leave that range
    go through float64. Real values count only at the ends: states and gradients.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        current: torch.Tensor,
        voltage: torch.Tensor,
        current_decay: torch.Tensor,
        voltage_decay: torch.Tensor,
        neuron: CubaLIFNode,
        weight_units: bool,
        registers: _Registers,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``x`` ``[T, N, *]``, states ``[N, *]`` in real values, decays 0 … 4096 → spikes, current and voltage at the end."""
        i_keep, v_keep = _UNITY - _whole_decay(current_decay), _UNITY - _whole_decay(voltage_decay)
        threshold, s_scale = registers.threshold, registers.s_scale
        # In float64 the product comes nearer than 0.5 to the whole number that float32 had to round when it was divided.
        u, v = (torch.round(state.to(torch.float64) * s_scale).to(torch.float32) for state in (current, voltage))

        inputs = torch.round(x).mul_(_ALIGN) if weight_units else torch.trunc(x * s_scale)
        currents = _currents(inputs, u, i_keep, registers.bias)
        u_end = currents[-1].clone() if len(currents) else u
        learns_i_decay = ctx.needs_input_grad[3]
        voltages = currents.clone() if learns_i_decay else currents  # before the reset; made in place where currents may go
        spikes = torch.empty_like(voltages)
        for v_step, s_step in zip(voltages, spikes, strict=True):
            v_step.add_(v if v_keep == _UNITY else _decayed(v, v_keep)).clamp_(1 - _HALF_RANGE, _HALF_RANGE - 1)
            torch.gt(v_step, threshold, out=s_step)
            v = torch.where(s_step > 0, 0.0, v_step)

        ctx.save_for_backward(voltages, currents if learns_i_decay else None, current, voltage)
        ctx.neuron, ctx.registers, ctx.keep = neuron, registers, (i_keep / _UNITY, v_keep / _UNITY)
        ctx.gain = 1 / neuron.scale if weight_units else 1.0
        return spikes, u_end / s_scale, v / s_scale

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_s: torch.Tensor, grad_u_end: torch.Tensor, grad_v_end: torch.Tensor) -> tuple[Any, ...]:
        """Backpropagate ``u = i_keep u' + x``, ``v = v_keep v' + u``, ``s = surrogate(v - threshold)``, ``v' = v (1 - s)``."""
        voltages, currents, current, voltage = ctx.saved_tensors
        neuron, (i_keep, v_keep) = ctx.neuron, ctx.keep
        threshold, s_scale = ctx.registers.threshold, ctx.registers.s_scale
        steps = range(len(voltages) - 1, -1, -1)
        if not steps:
            return None, grad_u_end, grad_v_end, None, None, None, None, None
        slopes = _slopes(neuron.surrogate_function, voltages, threshold, s_scale)
        # Where the reset counts, slopes are needed again; else the gradient takes their place.
        grad_v = slopes.mul_(grad_s) if neuron.detach_reset else slopes * grad_s
        grad_after = grad_v_end  # with respect to the voltage after the reset
        for t in steps:
            through_reset = torch.where(voltages[t] > threshold, 0.0, grad_after)
            if not neuron.detach_reset:
                through_reset.addcmul_(slopes[t] * voltages[t], grad_after, value=-1 / s_scale)
            grad_after = grad_v[t].add_(through_reset) * v_keep
        grad_v_decay = grad_i_decay = None
        if ctx.needs_input_grad[4]:
            after_reset = torch.where(voltages > threshold, 0.0, voltages) / s_scale
            grad_v_decay = ((grad_v[1:] * after_reset[:-1]).sum() + (grad_v[0] * voltage).sum()) / -_UNITY

        grad_u = grad_v
        grad_u[-1] += grad_u_end
        if i_keep:
            for t in steps[1:]:
                grad_u[t].add_(grad_u[t + 1], alpha=i_keep)
        if currents is not None:
            grad_i_decay = ((grad_u[1:] * currents[:-1]).sum() / s_scale + (grad_u[0] * current).sum()) / -_UNITY
        return grad_u * ctx.gain, grad_u[0] * i_keep, grad_after, grad_i_decay, grad_v_decay, None, None, None


def _slopes(
    surrogate_function: Callable[[torch.Tensor], torch.Tensor], voltages: torch.Tensor, threshold: int, s_scale: float
) -> torch.Tensor:
    """The surrogate's derivative at every voltage, ``[T, N, *]``, made in parts that fit into the processor's cache."""
    slopes = torch.empty_like(voltages)
    part = 1 + _CACHED_ELEMENTS // max(1, voltages[0].numel())
    for v, slope in zip(torch.split(voltages, part), torch.split(slopes, part), strict=True):
        with torch.enable_grad():
            # Half a unit below the first voltage that fires, so that the surrogate's own step is where the chip's is.
            distance = ((v - (threshold + 0.5)) / s_scale).requires_grad_()
            slope.copy_(torch.autograd.grad(surrogate_function(distance).sum(), distance)[0])
    return slopes


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
    return state.to(torch.float64, copy=True).mul_(keep / _UNITY).trunc_()


def _wrapped(u: torch.Tensor) -> torch.Tensor:
    """Wrap a current that left the 24-bit range once, as the register does."""
    if u.numel() == 0:
        return u
    low, high = u.aminmax()
    if low > -_HALF_RANGE and high <= _HALF_RANGE:  # nearly always, and cheaper to see than to wrap
        return u
    u = torch.where(u > _HALF_RANGE, u - 2 * _HALF_RANGE, u)
    return torch.where(u <= -_HALF_RANGE, u + 2 * _HALF_RANGE, u)
