"""All time steps of a layer of CUBA neurons as one operator of torch: whole numbers forward, straight-through gradients backward.

The operator is ``torch.ops.sj2onnx.cuba_lif``, with its gradient, and with a form without data for ``torch.compile`` and
``torch.export``. On a CPU it runs in the native library, on an NVIDIA GPU in that for GPUs, on torch's stream; without them in
torch's own operators, with the same spikes.

The derivative of the surrogate function is torch's own, whatever the function. Potentials are whole numbers, and of those a few
thousand at most occur in a usual layer: torch evaluates SpikingJelly's functions once at each of them, and the library looks its
results up. So memory is passed over once forward, where the input is read and spikes and potentials are written, and once
backward. Other functions, which may depend on more than one neuron's potential, are evaluated on the whole sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch.autograd.function import once_differentiable

from . import native_training as native
from .cuba_by_library import backward_in_library, forward_in_library
from .cuba_memory import NORMED, REAL_VALUES, UNITY, WEIGHT_UNITS, require_forward, whole_decay
from .cuba_operator import gain_of, grad_decays, grad_means

__all__ = ["Input", "Neuron", "Steps", "cuba_steps"]

_CACHED_ELEMENTS = 2**16  # float32 values of which a few copies fit into a core's cache
_SMALLEST_TABLE, _LARGEST_TABLE = 2**12, 2**20  # potentials: always worth it; more than which fit into no cache

# Of SpikingJelly's surrogate functions those whose slope depends on a neuron's potential alone.
_POINTWISE = frozenset(
    kind
    for kind in vars(surrogate).values()
    if isinstance(kind, type) and issubclass(kind, surrogate.SurrogateFunctionBase) and kind is not surrogate.PoissonPass
)

_Surrogate = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Neuron:
    """What the neurons of a layer have in common.

    Args:
        s_scale: state units in 1.0.
        threshold: in state units, 0 … 131071 * 64; the neuron fires above it.
        surrogate_function: of the spike function; its argument is the potential minus the threshold, in real values.
        detach_reset: whether the reset is left out of the gradient.
    """

    s_scale: float
    threshold: int
    surrogate_function: _Surrogate
    detach_reset: bool

    def distance(self, charged: torch.Tensor) -> torch.Tensor:
        """Potentials in state units, minus the threshold, in real values.

        Half a unit below the first potential that fires, so that the surrogate's own step is where the chip's is.
        """
        return (charged - (self.threshold + 0.5)) / self.s_scale

    @property
    def pointwise(self) -> bool:
        """Whether the surrogate's slope depends on a neuron's potential alone."""
        function: Any = self.surrogate_function
        return type(function) in _POINTWISE and all(isinstance(each, int | float) for each in function._sg_params.values())


@dataclass(frozen=True)
class Input:
    """What arrives at the neurons.

    Args:
        weight_units: whether the input is synaptic sums in weight units, rounded to whole ones, or real values, truncated to
            whole state units.
        means: with a norm, whose input is whole numbers: the mean of each step and channel in real values, ``[T, C]``.
        inverse_stds: one over the deviation of each step, ``[T]``.
        unit: the real value of 1 in a norm's input.
        bias: what the input holds that the register of the current does not, in state units, ``[C]``; whole, and without a norm
            whole weight units.
        disposable: whether the input's memory may be written over: nobody needs its values any more.
    """

    weight_units: bool
    means: torch.Tensor | None = None
    inverse_stds: torch.Tensor | None = None
    unit: float = 1.0
    bias: torch.Tensor | None = None
    disposable: bool = False

    @property
    def kind(self) -> int:
        """The native library's number for it."""
        return NORMED if self.means is not None else WEIGHT_UNITS if self.weight_units else REAL_VALUES


@dataclass(frozen=True)
class Steps:
    """What neurons do with an input ``[T, N, *]``, in float32.

    Args:
        spikes: ``[T, N, *]``.
        current: synaptic current after the last step, real values ``[N, *]``.
        voltage: potential after the last step and its reset, likewise.
        currents: of every step, ``[T, N, *]``; empty where they were not asked for.
        voltages: likewise.
    """

    spikes: torch.Tensor
    current: torch.Tensor
    voltage: torch.Tensor
    currents: torch.Tensor
    voltages: torch.Tensor


def cuba_steps(
    x: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    current_decay: torch.Tensor,
    voltage_decay: torch.Tensor,
    neuron: Neuron,
    arrives: Input,
    *,
    sequences: bool = False,
) -> Steps:
    """Run a layer of CUBA neurons; see :class:`sj2onnx.CubaLIFNode` for the equations.

    Args:
        x: input ``[T, N, *]``, float32.
        current: before the first step, real values ``[N, *]``, float32.
        voltage: likewise.
        current_decay: 0 … 4096, one value, rounded to a whole one.
        voltage_decay: likewise.
        neuron: threshold, scale and surrogate.
        arrives: what ``x`` means.
        sequences: whether current and voltage of every step are wanted.

    Raises:
        BlockError: a decay is NaN.
    """
    tensors = (x, current, voltage, current_decay, voltage_decay, arrives.means)
    gradient = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)
    if native.serves(x):
        return Steps(*_NativeSteps.apply(*tensors, neuron, arrives, sequences, gradient))  # type: ignore[no-untyped-call]
    keeps_currents = sequences or (gradient and current_decay.requires_grad)
    spikes, charged, *rest = torch.ops.sj2onnx.cuba_lif(
        *tensors,
        arrives.inverse_stds,
        arrives.bias,
        neuron.s_scale,
        neuron.threshold,
        arrives.unit,
        arrives.kind,
        keeps_currents,
        sequences,
        not neuron.detach_reset,
    )
    if gradient:
        distance = _Distance.apply(charged, neuron)  # type: ignore[no-untyped-call]
        spikes, *rest = _SeedSlopes.apply(neuron.surrogate_function(distance), spikes, *rest)  # type: ignore[no-untyped-call]
    last_current, last_voltage, currents, voltages = rest
    return Steps(spikes, last_current, last_voltage, currents, voltages)


class _NativeSteps(torch.autograd.Function):
    """One autograd node for all steps."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        current: torch.Tensor,
        voltage: torch.Tensor,
        current_decay: torch.Tensor,
        voltage_decay: torch.Tensor,
        means: torch.Tensor | None,
        neuron: Neuron,
        arrives: Input,
        sequences: bool,
        gradient: bool,
    ) -> tuple[torch.Tensor, ...]:
        """As :func:`cuba_steps`."""
        require_forward(x, current, voltage, means, arrives.inverse_stds, arrives.bias, arrives.kind)
        potentials = torch.zeros(3, dtype=torch.float64)
        spikes, charged, last_current, last_voltage, currents, voltages = forward_in_library(
            x,
            current,
            voltage,
            whole_decay(current_decay),
            whole_decay(voltage_decay),
            means,
            arrives.inverse_stds,
            arrives.bias,
            neuron.s_scale,
            neuron.threshold,
            arrives.unit,
            arrives.kind,
            sequences or (gradient and ctx.needs_input_grad[3]),
            sequences,
            wants_charged=gradient,
            disposable=arrives.disposable,
            potentials=potentials if gradient else None,
        )
        if gradient:
            ctx.save_for_backward(charged, current, voltage, current_decay, voltage_decay, currents)
            ctx.neuron, ctx.arrives, ctx.potentials = neuron, arrives, potentials.tolist()
            ctx.set_materialize_grads(False)
        if not sequences:
            currents = x.new_empty(0)
        return spikes, last_current, last_voltage, currents, voltages

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """See :func:`backward_in_torch` for the equations."""
        charged, current, voltage, current_decay, voltage_decay, currents = ctx.saved_tensors
        neuron, arrives = ctx.neuron, ctx.arrives
        grad_spikes, grad_last_current, grad_last_voltage, grad_currents, grad_voltages = grads
        if grad_spikes is None:
            grad_spikes = charged.new_zeros(1).expand(charged.shape)
        learns = ctx.needs_input_grad[3:5]
        potentials = _potentials(ctx.potentials, neuron, charged.numel())
        slopes = _slopes(neuron, charged if potentials is None else potentials)
        grad_x, grad_current, grad_voltage, sums = backward_in_library(
            slopes,
            grad_spikes,
            charged,
            currents,
            current,
            voltage,
            (UNITY - whole_decay(current_decay), UNITY - whole_decay(voltage_decay)),
            (grad_last_current, grad_last_voltage, grad_currents, grad_voltages),
            arrives.inverse_stds,
            neuron.s_scale,
            neuron.threshold,
            gain_of(arrives.kind, neuron.s_scale, arrives.unit),
            not neuron.detach_reset,
            learns,
            table=None if potentials is None else ctx.potentials,
        )
        of_means = grad_means(grad_x, arrives.unit) if ctx.needs_input_grad[5] else None
        return grad_x, grad_current, grad_voltage, *grad_decays(sums, learns), of_means, None, None, None, None


def _potentials(found: list[float], neuron: Neuron, elements: int) -> torch.Tensor | None:
    """All potentials that may have occurred, in state units; None where they are too many, or the surrogate needs to see more."""
    lowest, highest, step = found
    if step == 0 or not neuron.pointwise:
        return None
    size = round((highest - lowest) / step) + 1
    if size > min(_LARGEST_TABLE, max(_SMALLEST_TABLE, elements // 8)):
        return None
    return lowest + step * torch.arange(size, dtype=torch.float32)


def _slopes(neuron: Neuron, charged: torch.Tensor) -> torch.Tensor:
    """The surrogate's derivative at every potential, of the same shape; in parts that fit into caches where it may."""
    slopes = torch.empty_like(charged)
    in_parts = neuron.pointwise and charged.device.type == "cpu"
    part = 1 + _CACHED_ELEMENTS // max(1, charged.shape[1:].numel()) if in_parts else max(1, len(charged))
    for v, slope in zip(torch.split(charged, part), torch.split(slopes, part), strict=True):
        with torch.enable_grad():
            distance = neuron.distance(v).requires_grad_()
            slope.copy_(torch.autograd.grad(neuron.surrogate_function(distance).sum(), distance)[0])
    return slopes


class _Distance(torch.autograd.Function):
    """Potentials minus the threshold, of which the operator wants the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, charged: torch.Tensor, neuron: Neuron) -> torch.Tensor:
        """``[T, N, *]`` → the same in real values."""
        return neuron.distance(charged)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The surrogate's slopes."""
        return grad, None


class _SeedSlopes(torch.autograd.Function):
    """Passes outputs of the operator on; backward it asks the surrogate for its slope, which is the gradient for ones."""

    @staticmethod
    def forward(ctx: Any, fired: torch.Tensor, *outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``fired`` is what the surrogate made of the potentials."""
        return tuple(each.view_as(each) for each in outputs)

    @staticmethod
    def backward(ctx: Any, grad_spikes: torch.Tensor, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Ones for the surrogate, the rest for the operator."""
        return torch.ones_like(grad_spikes), grad_spikes, *grads
