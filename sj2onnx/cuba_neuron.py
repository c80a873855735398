"""The current-based LIF neuron of Loihi, trainable: SpikingJelly's CubaLIFNode with the chip's exact arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import lava_exchange, surrogate
from torch.autograd.function import once_differentiable

from . import native_training as native
from .cuba_memory import UNITY, whole_decay
from .cuba_steps import Input, Neuron, Steps, cuba_steps
from .errors import BlockError
from .quantised_norm import FoldedNorm, fold

__all__ = ["CubaLIFNode"]

_ALIGN = 64  # State registers count in 2**-6 of a weight unit.
_HIGHEST_MANTISSA = 131071  # The threshold register has 17 bits.
_HIGHEST_SCALE = 2**18  # Above it, float32 could not hold the number of state units in 1.0.

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
        store_v_seq: keep the membrane potential after the reset of every step in ``v_seq``, ``[T, N, *]``.
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
        i_decay, v_decay = (whole_decay(d) for d in (self.current_decay, self.voltage_decay))
        if i_decay == 0:
            raise BlockError(
                f"current_decay = {self.current_decay.detach().item() / UNITY:g} rounds to 0 / 4096, a current that never "
                "decays, which NetX cannot express: use at least 1 / 4096."
            )
        if self.norm is not None and i_decay != UNITY:
            raise BlockError(
                f"current_decay is {i_decay} / {UNITY}, and there is a norm: SpikingJelly keeps the current that has passed it, "
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
        if threshold % 1 and (folded.exponent > 0 or self.device_params["v_decay"] not in (0, UNITY)):
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
        weight, step = weight.to(torch.float32), 2 / self.scale
        if native.serves_weights(weight):
            whole: torch.Tensor = _WholeWeight.apply(weight, step)  # type: ignore[no-untyped-call]
            return whole
        halves: torch.Tensor = lava_exchange.step_quantize(weight / step)
        return halves.clamp(-128, 127) * 2

    def whole_bias(self, bias: torch.Tensor) -> torch.Tensor:
        """``bias`` in weight units, rounded to a whole number in -4096 … 4095, float32; gradients pass straight through."""
        whole: torch.Tensor = lava_exchange.step_quantize(bias.to(torch.float32) * self.scale)
        return whole.clamp(-4096, 4095)

    def quantize_8bit(self, x: torch.Tensor, descale: bool = False) -> torch.Tensor:
        """``x`` on the grid of 8-bit weights: in real values, or with ``descale`` in weight units."""
        whole = self.whole_weight(x)
        return whole if descale else whole / self.scale

    def forward(
        self, x: torch.Tensor, weight_units: bool = False, disposable: bool = False, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Spikes, float32, for an input ``[N, *]`` (step mode ``"s"``) or ``[T, N, *]`` (``"m"``).

        Args:
            x: real-valued input, truncated to whole state units as Lava-DL does; with ``weight_units`` synaptic sums in weight
                units, rounded to whole ones, which is what a block hands over.
            disposable: whether the memory of ``x`` may be written over, since nobody reads it any more: saves a pass over memory.
            bias: what ``x`` in weight units holds that Loihi adds to the voltage and not to the current, whole, ``[C]``.
        """
        options = {"weight_units": weight_units, "disposable": disposable, "bias": bias}
        spikes: torch.Tensor = super().forward(x.to(torch.float32), **options)
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
        """Spikes ``[T, N, *]``; states of every step are left in ``v_seq`` and ``i_seq`` where they are wanted."""
        sequences = self.store_v_seq or self.store_i_seq
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        steps = self._steps(x_seq, states, sequences=sequences, **kwargs)
        for name, state in zip(list(self._memories)[-2:], (steps.current, steps.voltage), strict=True):
            self._memories[name] = state
        if self.store_v_seq:
            self.v_seq = steps.voltages
        if self.store_i_seq:
            self.i_seq = steps.currents
        return steps.spikes

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: _States, **kwargs: Any
    ) -> tuple[tuple[torch.Tensor, ...], _States]:
        """One step of :meth:`multi_step_functional_forward`, without the time axis."""
        (spikes,), states = self.multi_step_functional_forward((inputs[0].unsqueeze(0),), states, **kwargs)
        return (spikes.squeeze(0),), states

    def multi_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: _States, **kwargs: Any
    ) -> tuple[tuple[torch.Tensor, ...], _States]:
        """All steps with explicit states: ``((spikes,), states)``; the last two states are current and voltage."""
        steps = self._steps(inputs[0], states, **kwargs)
        return (steps.spikes,), (*states[:-2], steps.current, steps.voltage)

    def _steps(
        self,
        x: torch.Tensor,
        states: _States,
        weight_units: bool = False,
        disposable: bool = False,
        bias: torch.Tensor | None = None,
        sequences: bool = False,
    ) -> Steps:
        if not getattr(self.surrogate_function, "spiking", True):
            raise BlockError("The surrogate function is not in spiking mode, but Loihi sends spikes: set spiking=True.")
        x = x.to(torch.float32)
        s_scale, threshold = float(self.s_scale), _ALIGN * self.threshold_mantissa
        arrives = Input(weight_units, disposable=disposable, bias=None if bias is None else _ALIGN * bias.detach())
        if self.norm is not None:
            x, arrives = self._normed(x, weight_units)
            if weight_units and not self.training:
                folded = self.folded_norm
                assert folded is not None
                s_scale, threshold = s_scale * 2.0**folded.state_exponent, _ALIGN * folded.v_threshold
        current, voltage = (torch.as_tensor(state).to(x).expand(x.shape[1:]) for state in states[-2:])
        neuron = Neuron(s_scale, threshold, self.surrogate_function, self.detach_reset)
        decays = self.current_decay.clamp(0, UNITY), self.voltage_decay.clamp(0, UNITY)
        return cuba_steps(x, current, voltage, *decays, neuron, arrives, sequences=sequences)

    def _normed(self, x: torch.Tensor, weight_units: bool) -> tuple[torch.Tensor, Input]:
        """Whole numbers ``[T, N, C, H, W]``, and what the norm makes of them, for an input as :meth:`forward` takes it.

        Formula: ``BatchNorm2d.forward`` in ``spikingjelly/activation_based/lava_exchange.py``, step by step in training; with the
        same float operations, in which the power of two between real values and whole numbers counts for nothing.
        """
        norm = self.norm
        if x.dim() != 5:
            raise BlockError(
                f"The norm normalises images, but got neurons of the shape {list(x.shape[2:])}: put it behind a Conv2d, or use "
                "norm=None."
            )
        if not torch.compiler.is_compiling():  # the value of a tensor would break the graph in two
            self.device_params  # noqa: B018  (refuses a current that is kept, which would have to pass the norm again)
        whole = _Whole.apply(x, None if weight_units else self.s_scale)  # type: ignore[no-untyped-call]
        unit = 1 / (self.scale if weight_units else self.s_scale)
        if norm.training and norm.track_running_stats and len(x):
            means = _StepMeans.apply(whole) * unit  # type: ignore[no-untyped-call]
            with torch.no_grad():
                variances = torch.stack([torch.var(step, unbiased=False) for step in whole]) * unit**2
                self._track(means, variances, x[0].numel() / norm.num_features)
        else:
            means = norm.running_mean.view(1, -1).expand(len(x), x.shape[2])
            variances = norm.running_var.expand(len(x))
        with torch.no_grad():
            exponents = torch.ceil(torch.log2(torch.sqrt(variances + norm.eps)))
            inverse_stds = 1 / torch.pow(2.0, exponents.clamp(-norm.weight_exp_bits, norm.weight_exp_bits))
        bias = None
        if weight_units and not self.training:
            folded = self.folded_norm
            assert folded is not None
            held = (_ALIGN * folded.bias).to(torch.float32).expand(x.shape[2])
            bias = None if (held % 1).any() else held  # else the block cannot be exported, but may still be evaluated
        return whole, Input(weight_units, self.quantize_8bit(means), inverse_stds, unit, bias)

    def _track(self, means: torch.Tensor, variances: torch.Tensor, numel: float) -> None:
        """The norm's running statistics, step after step."""
        norm = self.norm
        mean, var, momentum = norm.running_mean, norm.running_var, norm.momentum
        for step_mean, step_var in zip(means, variances, strict=True):
            mean = (1.0 - momentum) * mean + momentum * step_mean
            var = (1.0 - momentum) * var + momentum * step_var * numel / (numel + 1)
        norm.running_mean, norm.running_var = mean, var


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


class _WholeWeight(torch.autograd.Function):
    """Weights in weight units, in one pass of the native library forward and one backward."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, step: float) -> torch.Tensor:
        """``step`` is the real value of two weight units."""
        ctx.save_for_backward(weight)
        ctx.step = step
        return native.whole_weights(weight, step)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Straight through inside of the range."""
        (weight,) = ctx.saved_tensors
        return native.whole_weights(weight, ctx.step, grad), None


class _Whole(torch.autograd.Function):
    """An input in whole weight or state units; its gradient passes straight through."""

    @staticmethod
    def forward(x: torch.Tensor, s_scale: float | None) -> torch.Tensor:
        """``x`` rounded, or ``x`` in state units truncated."""
        return torch.round(x) if s_scale is None else torch.trunc(x * s_scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, float | None], output: torch.Tensor) -> None:
        """Keep the factor."""
        ctx.s_scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The factor's part is left."""
        return (grad if ctx.s_scale is None else grad * ctx.s_scale), None


class _StepMeans(torch.autograd.Function):
    """The mean of each step and channel, ``[T, N, C, H, W]`` → ``[T, C]``, each by the sum that SpikingJelly forms."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        """One step after the other, which stays in the caches."""
        return torch.stack([torch.mean(step, dim=(0, 2, 3)) for step in x])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        """Keep the shape."""
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """The same for all elements of a step and channel."""
        T, N, C, H, W = ctx.shape
        spread: torch.Tensor = (grad / (N * H * W)).view(T, 1, C, 1, 1).expand(ctx.shape)
        return spread
