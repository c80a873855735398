"""``torch.ops.sj2onnx.cuba_lif`` and its gradient: CUBA neurons for who traces, as ``torch.compile`` and ``torch.export`` do."""

from typing import Any

import torch

from .cuba_by_library import backward_in_library, forward_in_library, runs_in_library
from .cuba_by_torch import backward_in_torch, forward_in_torch
from .cuba_memory import (
    ALIGN,
    NORMED,
    REAL_VALUES,
    UNITY,
    WEIGHT_UNITS,
    empty,
    order_of,
    require_fitting,
    require_forward,
    whole_decay,
)

__all__ = ["gain_of", "grad_decays", "grad_means"]


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
    require_forward(x, current, voltage, means, inverse_stds, bias, kind)
    run = forward_in_library if runs_in_library(x) else forward_in_torch
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
    order = order_of(x)
    wanted = (True, True, None, None, keeps_currents, keeps_voltages)
    return tuple(
        empty(x.shape[1:] if each is None else x.shape, order, x) if each or each is None else x.new_empty(0) for each in wanted
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
        gain_of(kind, s_scale, unit),
        through_reset,
        learns[0],
        learns[1],
    )
    of_means = grad_means(grad_x, unit) if ctx.needs_input_grad[5] else None
    return grad_x, grad_current, grad_voltage, *grad_decays(sums, learns), of_means, *[None] * 9


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
    sequence, state = charged.shape, charged.shape[1:]
    require_fitting(
        charged=(charged, sequence),
        slopes=(slopes, sequence),
        grad_spikes=(grad_spikes, sequence),
        currents=(currents if learns_i else None, sequence),
        current=(current, state),
        voltage=(voltage, state),
        grad_last_current=(grad_last_current, state),
        grad_last_voltage=(grad_last_voltage, state),
        grad_currents=(grad_currents, sequence),
        grad_voltages=(grad_voltages, sequence),
        inverse_stds=(inverse_stds, sequence[:1]),
    )
    return (backward_in_library if runs_in_library(charged) else backward_in_torch)(
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
    order = order_of(charged)
    states = (empty(charged.shape[1:], order, charged) for _ in range(2))
    return empty(charged.shape, order, charged), *states, charged.new_empty(2, dtype=torch.float64)


def gain_of(kind: int, s_scale: float, unit: float) -> float:
    """Real values in 1 of the input."""
    return {WEIGHT_UNITS: ALIGN / s_scale, REAL_VALUES: 1.0, NORMED: unit}[kind]


def grad_decays(sums: torch.Tensor, learns: tuple[bool, bool]) -> list[torch.Tensor | None]:
    return [(sums[index] / -UNITY).to(torch.float32) if wanted else None for index, wanted in enumerate(learns)]


def grad_means(grad_x: torch.Tensor, unit: float) -> torch.Tensor:
    return grad_x.sum((1, 3, 4)) / -unit
