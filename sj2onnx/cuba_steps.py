"""All time steps of a layer of CUBA neurons as one operator of torch: whole numbers forward, straight-through gradients backward.

The operator is ``torch.ops.sj2onnx.cuba_lif``, with its gradient, and with a form without data for ``torch.compile`` and
``torch.export``. On a CPU it runs in the native library; without that, and on other devices, in torch's own operators, with the
same spikes.

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
from .errors import BlockError

__all__ = ["UNITY", "Input", "Neuron", "Steps", "cuba_steps", "whole_decay"]

UNITY = 4096
"""Decays are fractions of 2**12."""

_ALIGN = 64  # State registers count in 2**-6 of a weight unit.
_HALF_RANGE = 2**23  # The state has 24 bits with sign.
_WEIGHT_UNITS, _REAL_VALUES, _NORMED = 0, 1, 2  # TrainingInput in custom_ops/native/kernels/tile.h
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
        function = self.surrogate_function
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
        return _NORMED if self.means is not None else _WEIGHT_UNITS if self.weight_units else _REAL_VALUES


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


def whole_decay(decay: torch.Tensor) -> int:
    """A decay as the chip has it, 0 … 4096.

    Raises:
        BlockError: it is NaN.
    """
    value = decay.detach().item()
    if value != value:
        raise BlockError("A learned decay has become NaN: train again with a smaller learning rate.")
    return min(max(round(value), 0), UNITY)


def _runs_native(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and native.available()


def _order(x: torch.Tensor) -> list[int]:
    """The axes of a sequence as they lie in memory, time first; as they are named where gaps, or time, lie in between."""
    order = [0, *sorted(range(1, x.dim()), key=lambda axis: -x.stride(axis))]
    return order if x.permute(order).is_contiguous() else list(range(x.dim()))


def _rows(x: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A sequence as ``[T, M]``, without a copy where it lies like that."""
    return x.permute(order).reshape(len(x), x[0].numel() if len(x) else x.shape[1:].numel())


def _row(state: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A state ``[N, *]`` as ``[M]``, in the order of its sequence."""
    return state.permute([axis - 1 for axis in order[1:]]).reshape(-1)


def _empty(shape: torch.Size, order: list[int], like: torch.Tensor) -> torch.Tensor:
    """Memory for a sequence, or for a state where ``shape`` has no time, whose axes lie in that order."""
    if len(shape) < len(order):
        order = [axis - 1 for axis in order[1:]]
    back = sorted(range(len(order)), key=order.__getitem__)
    return like.new_empty([shape[axis] for axis in order]).permute(back)


def _channels(x: torch.Tensor, order: list[int]) -> tuple[int, int]:
    """Channels of ``[T, N, C, *]``, and neurons in a row that belong to one of them."""
    after = order[order.index(2) + 1 :]
    inner = 1
    for axis in after:
        inner *= x.shape[axis]
    return x.shape[2], max(1, inner)


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


# ---------------------------------------------------------------- in the native library


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
        potentials = torch.zeros(3, dtype=torch.float64)
        spikes, charged, last_current, last_voltage, currents, voltages = _forward_native(
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
        """See :func:`_backward_torch` for the equations."""
        charged, current, voltage, current_decay, voltage_decay, currents = ctx.saved_tensors
        neuron, arrives = ctx.neuron, ctx.arrives
        grad_spikes, grad_last_current, grad_last_voltage, grad_currents, grad_voltages = grads
        if grad_spikes is None:
            grad_spikes = charged.new_zeros(1).expand(charged.shape)
        learns = ctx.needs_input_grad[3:5]
        potentials = _potentials(ctx.potentials, neuron, charged.numel())
        slopes = _slopes(neuron, charged if potentials is None else potentials)
        grad_x, grad_current, grad_voltage, sums = _backward_native(
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
            _gain(arrives.kind, neuron.s_scale, arrives.unit),
            not neuron.detach_reset,
            learns,
            table=None if potentials is None else ctx.potentials,
        )
        grad_means = _grad_means(grad_x, arrives.unit) if ctx.needs_input_grad[5] else None
        return grad_x, grad_current, grad_voltage, *_grad_decays(sums, learns), grad_means, None, None, None, None


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
    """The surrogate's derivative at every potential, of the same shape, made in parts that fit into the processor's cache."""
    slopes = torch.empty_like(charged)
    part = 1 + _CACHED_ELEMENTS // max(1, charged[0].numel()) if len(charged) else 1
    for v, slope in zip(torch.split(charged, part), torch.split(slopes, part), strict=True):
        with torch.enable_grad():
            distance = neuron.distance(v).requires_grad_()
            slope.copy_(torch.autograd.grad(neuron.surrogate_function(distance).sum(), distance)[0])
    return slopes


def _gain(kind: int, s_scale: float, unit: float) -> float:
    """Real values in 1 of the input."""
    return {_WEIGHT_UNITS: _ALIGN / s_scale, _REAL_VALUES: 1.0, _NORMED: unit}[kind]


def _grad_decays(sums: torch.Tensor, learns: tuple[bool, bool]) -> list[torch.Tensor | None]:
    return [(sums[index] / -UNITY).to(torch.float32) if wanted else None for index, wanted in enumerate(learns)]


def _grad_means(grad_x: torch.Tensor, unit: float) -> torch.Tensor:
    return grad_x.sum((1, 3, 4)) / -unit


def _forward_native(
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
    *,
    wants_charged: bool = True,
    disposable: bool = False,
    potentials: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """All outputs of the operator.

    Args:
        wants_charged: whether the potential before the reset is wanted.
        disposable: whether that may be written over the input.
        potentials: a place for the lowest, the highest and the step between those that occur, float64 ``[3]``.
    """
    order = _order(x)
    rows = _rows(x.detach(), order)
    spikes = _empty(x.shape, order, x)
    over = disposable and rows.data_ptr() == x.data_ptr()
    charged = x.new_empty(0) if not wants_charged else x.detach() if over else _empty(x.shape, order, x)
    currents = _empty(x.shape, order, x) if keeps_currents else x.new_empty(0)
    voltages = _empty(x.shape, order, x) if keeps_voltages else x.new_empty(0)
    last = [_empty(x.shape[1:], order, x) for _ in range(2)]
    first = [_row(state.detach(), order) for state in (current, voltage)]
    channels, inner = _channels(x, order) if kind == _NORMED or bias is not None else (0, 0)
    norm = [None if each is None else each.detach().contiguous() for each in (means, inverse_stds, bias)]
    native.forward(
        steps=len(x),
        neurons=first[0].numel(),
        input=kind,
        i_keep=UNITY - i_decay,
        v_keep=UNITY - v_decay,
        threshold=threshold,
        s_scale=s_scale,
        x=_pointer(rows),
        current=_pointer(first[0]),
        voltage=_pointer(first[1]),
        spikes=_pointer(spikes),
        charged=_pointer(charged),
        currents=_pointer(currents),
        voltages=_pointer(voltages),
        last_current=_pointer(last[0]),
        last_voltage=_pointer(last[1]),
        unit=unit,
        channels=channels,
        inner=inner,
        means=_pointer(norm[0]),
        inverse_stds=_pointer(norm[1]),
        bias=_pointer(norm[2]),
        potentials=_pointer(potentials),
    )
    return spikes, charged, *last, currents, voltages


# ---------------------------------------------------------------- the operator, with its gradient, for who traces


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


@torch.library.custom_op("sj2onnx::cuba_lif", mutates_args=())
def _cuba_lif(
    x: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    i_decay: torch.Tensor,
    v_decay: torch.Tensor,
    means: torch.Tensor | None,
    inverse_stds: torch.Tensor | None,
    bias: torch.Tensor | None,
    s_scale: float,
    threshold: int,
    unit: float,
    kind: int,
    keeps_currents: bool,
    keeps_voltages: bool,
    through_reset: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Spikes, potential before the reset in state units, current and voltage after the last step, currents, voltages.

    As the gradient of the second output it wants the surrogate's slopes.
    """
    run = _forward_native if _runs_native(x) else _forward_torch
    found = run(
        x,
        current,
        voltage,
        whole_decay(i_decay),
        whole_decay(v_decay),
        means,
        inverse_stds,
        bias,
        s_scale,
        threshold,
        unit,
        kind,
        keeps_currents,
        keeps_voltages,
    )
    spikes, charged, last_current, last_voltage, currents, voltages = found
    return spikes, charged, last_current, last_voltage, currents, voltages


@_cuba_lif.register_fake
def _(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    keeps_currents, keeps_voltages, _ = rest[-3:]
    order = _order(x)
    wanted = (True, True, None, None, keeps_currents, keeps_voltages)
    return tuple(
        _empty(x.shape[1:] if each is None else x.shape, order, x) if each or each is None else x.new_empty(0) for each in wanted
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    _, current, voltage, i_decay, v_decay, _, inverse_stds, _, s_scale, threshold, unit, kind, _, _, through_reset = inputs
    ctx.save_for_backward(output[1], output[4], current, voltage, i_decay, v_decay, inverse_stds)
    ctx.numbers = s_scale, threshold, unit, kind, through_reset
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    charged, currents, current, voltage, i_decay, v_decay, inverse_stds = ctx.saved_tensors
    s_scale, threshold, unit, kind, through_reset = ctx.numbers
    grad_spikes, slopes, grad_last_current, grad_last_voltage, grad_currents, grad_voltages = grads
    learns = ctx.needs_input_grad[3:5]
    zeros = torch.zeros_like(charged) if grad_spikes is None or slopes is None else None
    grad_x, grad_current, grad_voltage, sums = torch.ops.sj2onnx.cuba_lif_backward(
        zeros if slopes is None else slopes,
        zeros if grad_spikes is None else grad_spikes,
        charged,
        currents,
        current,
        voltage,
        i_decay,
        v_decay,
        grad_last_current,
        grad_last_voltage,
        grad_currents if grad_currents is not None and grad_currents.numel() else None,
        grad_voltages if grad_voltages is not None and grad_voltages.numel() else None,
        inverse_stds,
        s_scale,
        threshold,
        _gain(kind, s_scale, unit),
        through_reset,
        learns[0],
        learns[1],
    )
    grad_means = _grad_means(grad_x, unit) if ctx.needs_input_grad[5] else None
    return grad_x, grad_current, grad_voltage, *_grad_decays(sums, learns), grad_means, *[None] * 9


_cuba_lif.register_autograd(_autograd, setup_context=_setup)


@torch.library.custom_op("sj2onnx::cuba_lif_backward", mutates_args=())
def _cuba_lif_backward(
    slopes: torch.Tensor,
    grad_spikes: torch.Tensor,
    charged: torch.Tensor,
    currents: torch.Tensor,
    current: torch.Tensor,
    voltage: torch.Tensor,
    i_decay: torch.Tensor,
    v_decay: torch.Tensor,
    grad_last_current: torch.Tensor | None,
    grad_last_voltage: torch.Tensor | None,
    grad_currents: torch.Tensor | None,
    grad_voltages: torch.Tensor | None,
    inverse_stds: torch.Tensor | None,
    s_scale: float,
    threshold: int,
    gain: float,
    through_reset: bool,
    learns_i: bool,
    learns_v: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of input, current and voltage before the first step, and minus those of the decays times 4096, ``[2]``."""
    return (_backward_native if _runs_native(charged) else _backward_torch)(
        slopes,
        grad_spikes,
        charged,
        currents,
        current,
        voltage,
        (UNITY - whole_decay(i_decay), UNITY - whole_decay(v_decay)),
        (grad_last_current, grad_last_voltage, grad_currents, grad_voltages),
        inverse_stds,
        s_scale,
        threshold,
        gain,
        through_reset,
        (learns_i, learns_v),
    )


@_cuba_lif_backward.register_fake
def _(slopes: torch.Tensor, grad_spikes: torch.Tensor, charged: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    order = _order(charged)
    states = (_empty(charged.shape[1:], order, charged) for _ in range(2))
    return _empty(charged.shape, order, charged), *states, charged.new_empty(2, dtype=torch.float64)


_Optional = torch.Tensor | None


def _backward_native(
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
    *,
    table: list[float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """All outputs of the operator; with ``table``, slopes are those of all potentials from its first number on, by its third."""
    order = _order(charged)
    neurons = current.numel()
    sums = torch.zeros(2, dtype=torch.float64)
    grad_x, grad_current, grad_voltage = (
        _empty(shape, order, charged) for shape in (charged.shape, charged.shape[1:], charged.shape[1:])
    )
    arriving = _rows(grad_spikes, order)
    if len(arriving) > 1 and arriving.stride() not in ((0, 1), (neurons, 1)):
        arriving = arriving.contiguous()
    sequences = {"charged": charged, "currents": currents, "grad_currents": given[2], "grad_voltages": given[3]}
    states = {"current": current, "voltage": voltage, "grad_last_current": given[0], "grad_last_voltage": given[1]}
    if table is None:
        sequences["slopes"] = slopes
    # They have to live until the library has read them.
    flat = {name: _rows(each, order).contiguous() for name, each in sequences.items() if each is not None and each.numel()}
    flat |= {name: _row(each, order).contiguous() for name, each in states.items() if each is not None and each.numel()}
    flat |= {"grad_x": grad_x, "grad_current": grad_current, "grad_voltage": grad_voltage, "grad_spikes": arriving}
    if inverse_stds is not None:
        flat["gains"] = inverse_stds.contiguous()
    if table is not None:
        flat["table"] = slopes
    native.backward(
        steps=len(charged),
        neurons=neurons,
        grad_spikes_stride=neurons if arriving.stride(0) else 0,
        i_keep=keeps[0],
        v_keep=keeps[1],
        threshold=threshold,
        through_reset=int(through_reset),
        s_scale=s_scale,
        gain=gain,
        table_size=0 if table is None else len(slopes),
        table_from=0.0 if table is None else table[0],
        table_step=0.0 if table is None else table[2],
        i_sum=sums[:1].data_ptr() if learns[0] else None,
        v_sum=sums[1:].data_ptr() if learns[1] else None,
        **{name: _pointer(each) for name, each in flat.items()},
    )
    return grad_x, grad_current, grad_voltage, sums


# ---------------------------------------------------------------- without the library


def _forward_torch(
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
    order = _order(x)
    # In float64 the product comes nearer than 0.5 to the whole number that float32 had to round when it was divided.
    u, v = (torch.round(state.to(torch.float64) * s_scale).to(torch.float32) for state in (current, voltage))
    if kind == _NORMED:
        assert means is not None
        assert inverse_stds is not None
        normed = (x * unit - means[:, None, :, None, None]) * inverse_stds.view(-1, 1, 1, 1, 1)
        inputs = torch.trunc(normed * s_scale)
    else:
        inputs = torch.round(x).mul_(_ALIGN) if kind == _WEIGHT_UNITS else torch.trunc(x * s_scale)
    held = None if bias is None else bias.view(-1, *[1] * (x.dim() - 3))
    currents = _currents(inputs, u, i_keep, held)
    u_end = currents[-1].clone() if len(currents) else u
    spikes, charged = _empty(x.shape, order, x), _empty(x.shape, order, x)
    voltages = _empty(x.shape, order, x) if keeps_voltages else x.new_empty(0)
    for t, u_step in enumerate(currents):
        added = u_step + (v if v_keep == UNITY else _decayed(v, v_keep))
        v = charged[t].copy_(added).clamp_(1 - _HALF_RANGE, _HALF_RANGE - 1)
        torch.gt(v, threshold, out=spikes[t])
        v = torch.where(v > threshold, 0.0, v)
        if keeps_voltages:
            torch.div(v, s_scale, out=voltages[t])
    kept = _empty(x.shape, order, x).copy_(currents / s_scale) if keeps_currents else x.new_empty(0)
    last = [_empty(x.shape[1:], order, x).copy_(state / s_scale) for state in (u_end, v)]
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
    if low > -_HALF_RANGE and high <= _HALF_RANGE:  # nearly always, and cheaper to see than to wrap
        return u
    u = torch.where(u > _HALF_RANGE, u - 2 * _HALF_RANGE, u)
    return torch.where(u <= -_HALF_RANGE, u + 2 * _HALF_RANGE, u)


def _backward_torch(
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
    order = _order(charged)
    # With respect to the voltage after the reset, and what later steps want of the current.
    after = torch.zeros_like(voltage) if grad_last_voltage is None else grad_last_voltage
    kept = torch.zeros_like(current) if grad_last_current is None else grad_last_current
    sums = torch.zeros(2, dtype=torch.float64, device=charged.device)
    grad_x = _empty(charged.shape, order, charged)
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
    states = [_empty(charged.shape[1:], order, charged).copy_(each) for each in (kept, after)]
    return grad_x, *states, sums
