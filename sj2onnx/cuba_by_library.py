"""All steps of CUBA neurons in the native libraries: forward in one pass over memory, backward in another."""

import ctypes

import torch

from . import native_training as native
from .cuba_memory import NORMED, UNITY, channels_of, empty, order_of, row_of, rows_of

__all__ = ["backward_in_library", "forward_in_library", "runs_in_library"]

_Optional = torch.Tensor | None


def runs_in_library(x: torch.Tensor) -> bool:
    return native.library_for(x) is not None


def forward_in_library(
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
        potentials: a place for the lowest, the highest and the step between those that occur, float64 ``[3]``; a GPU leaves it.
    """
    library = native.library_for(x)
    assert library is not None
    order = order_of(x)
    rows = rows_of(x.detach(), order).contiguous()
    spikes = empty(x.shape, order, x)
    over = disposable and rows.data_ptr() == x.data_ptr()  # else they are a copy
    charged = x.new_empty(0) if not wants_charged else x.detach() if over else empty(x.shape, order, x)
    currents = empty(x.shape, order, x) if keeps_currents else x.new_empty(0)
    voltages = empty(x.shape, order, x) if keeps_voltages else x.new_empty(0)
    last = [empty(x.shape[1:], order, x) for _ in range(2)]
    first = [row_of(state.detach(), order) for state in (current, voltage)]
    channels, inner = channels_of(x, order) if kind == NORMED or bias is not None else (0, 0)
    norm = [None if each is None else each.detach().contiguous() for each in (means, inverse_stds, bias)]
    call = native.Forward(
        bytes=ctypes.sizeof(native.Forward),
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
        potentials=None if library.is_of_gpu else _pointer(potentials),
    )
    library.forward(call)
    return spikes, charged, *last, currents, voltages


def backward_in_library(
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
    library = native.library_for(charged)
    assert library is not None
    order = order_of(charged)
    neurons = current.numel()
    # On a GPU each neuron has a sum of its own: threads that add to one would do so in any order.
    sums = charged.new_zeros((2, neurons if library.is_of_gpu and any(learns) else 1), dtype=torch.float64)
    grad_x, grad_current, grad_voltage = (
        empty(shape, order, charged) for shape in (charged.shape, charged.shape[1:], charged.shape[1:])
    )
    arriving = rows_of(grad_spikes, order)
    if arriving.stride() != (0, 1):  # else the same gradient at every step, as means over time have it
        arriving = arriving.contiguous()
    sequences = {"charged": charged, "currents": currents, "grad_currents": given[2], "grad_voltages": given[3]}
    states = {"current": current, "voltage": voltage, "grad_last_current": given[0], "grad_last_voltage": given[1]}
    if table is None:
        sequences["slopes"] = slopes
    # They have to live until the library has read them.
    flat = {name: rows_of(each, order).contiguous() for name, each in sequences.items() if each is not None and each.numel()}
    flat |= {name: row_of(each, order) for name, each in states.items() if each is not None and each.numel()}
    flat |= {"grad_x": grad_x, "grad_current": grad_current, "grad_voltage": grad_voltage, "grad_spikes": arriving}
    if inverse_stds is not None:
        flat["gains"] = inverse_stds.contiguous()
    if table is not None:
        flat["table"] = slopes
    call = native.Backward(
        bytes=ctypes.sizeof(native.Backward),
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
        i_sum=sums[0].data_ptr() if learns[0] else None,
        v_sum=sums[1].data_ptr() if learns[1] else None,
        **{name: _pointer(each) for name, each in flat.items()},
    )
    library.backward(call)
    return grad_x, grad_current, grad_voltage, sums.sum(1)


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None or tensor.numel() == 0 else tensor.data_ptr()
