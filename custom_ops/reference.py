"""The operators in NumPy, written for reading: what they mean, one line a sentence of the definition."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "CubaLIFResult",
    "FloatResult",
    "RecurrentCubaLIFResult",
    "cuba_lif",
    "heterogeneous_cuba_lif",
    "if_",
    "lif",
    "recurrent_cuba_lif",
]

_ALIGN = 6  # Loihi aligns weights, biases and thresholds with the 24-bit state by a shift of 6 bits.
_UNITY = 4096  # Decays are fractions of 2**12.
_HALF_RANGE = 2**23  # The state has 24 bits with sign.


class CubaLIFResult(NamedTuple):
    """What :func:`cuba_lif` gives.

    Attributes:
        s: spikes, float32 of 0 and 1, ``[T, N, *]``.
        u: synaptic current after the last step, int32, ``[N, *]``.
        v: membrane potential after the last step, int32, ``[N, *]``.
        u_seq: synaptic current after every step, int32, ``[T, N, *]``.
        v_seq: membrane potential of every step before the reset, int32, ``[T, N, *]``.
    """

    s: npt.NDArray[np.float32]
    u: npt.NDArray[np.int32]
    v: npt.NDArray[np.int32]
    u_seq: npt.NDArray[np.int32]
    v_seq: npt.NDArray[np.int32]


class RecurrentCubaLIFResult(NamedTuple):
    """What :func:`recurrent_cuba_lif` gives.

    Attributes:
        s: spikes, float32 of 0 and 1, ``[T, N, F]``.
        u: synaptic current after the last step, int32, ``[N, F]``.
        v: membrane potential after the last step, int32, ``[N, F]``.
        last_s: spikes of the last step, float32 of 0 and 1, ``[N, F]``.
    """

    s: npt.NDArray[np.float32]
    u: npt.NDArray[np.int32]
    v: npt.NDArray[np.int32]
    last_s: npt.NDArray[np.float32]


class FloatResult(NamedTuple):
    """What :func:`if_` and :func:`lif` give.

    Attributes:
        s: spikes, float32 of 0 and 1, ``[T, N, *]``.
        v: membrane potential after the last step, float32, ``[N, *]``.
        h_seq: membrane potential of every step before the reset, float32, ``[T, N, *]``.
    """

    s: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]
    h_seq: npt.NDArray[np.float32]


def cuba_lif(
    x: npt.ArrayLike,
    i_decay: int,
    v_decay: int,
    v_threshold: int,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
) -> CubaLIFResult:
    """Loihi's current-based LIF neuron: the arithmetic of the operator ``snn.CubaLIF`` in words.

    Formula: ``PyLifModelBitAcc`` in ``lava/proc/lif/models.py`` of lava-nc 0.10.0.

    Args:
        x: synaptic sums in weight units, ``[T, N, *]``; float (whole numbers within ±2**24; others are rounded, ties to
            even) or int32.
        i_decay: current decay, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: voltage decay, 0 ... 4096, in units of 1/4096 per time step.
        v_threshold: threshold mantissa, 0 ... 131071.
        bias: bias mantissa, broadcast to ``[N, *]``, whole numbers.
        initial_u: current before the first step, int32 ``[N, *]``, in units of 1/64 of a weight unit; 0 by default.
        initial_v: voltage before the first step, likewise.

    Raises:
        ValueError: an attribute is out of its range, or ``x`` has fewer than two dimensions.
    """
    for name, value, high in (
        ("i_decay", i_decay, _UNITY),
        ("v_decay", v_decay, _UNITY),
        ("v_threshold", v_threshold, 131071),
    ):
        if not 0 <= value <= high:
            raise ValueError(f"{name} is {value}, outside 0 ... {high}")
    return heterogeneous_cuba_lif(x, i_decay, v_decay, v_threshold, bias, initial_u, initial_v)


def heterogeneous_cuba_lif(
    x: npt.ArrayLike,
    i_decay: npt.ArrayLike,
    v_decay: npt.ArrayLike,
    v_threshold: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
) -> CubaLIFResult:
    """:func:`cuba_lif` of neurons that differ: ``snn.HeterogeneousCubaLIF``, whose parameters broadcast to ``[N, *]``.

    Args:
        v_threshold: threshold mantissas from 0 on; from 131072 on a neuron never fires, as v ends at 2**23 - 1.

    Raises:
        ValueError: ``x`` has fewer than two dimensions.
    """
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"x has the shape {x.shape}, but needs time and batch axes first: [T, N, *]")
    i_decay, v_decay = np.asarray(i_decay, np.int64), np.asarray(v_decay, np.int64)
    threshold = np.left_shift(np.asarray(v_threshold, np.int64), _ALIGN)
    a = _whole(x)
    state_shape = x.shape[1:]
    u = np.zeros(state_shape, np.int32) if initial_u is None else np.array(initial_u, np.int32)
    v = np.zeros(state_shape, np.int32) if initial_v is None else np.array(initial_v, np.int32)
    shifted_bias = np.left_shift(_cut(np.asarray(0 if bias is None else bias)), _ALIGN)

    s_seq = np.empty(x.shape, np.float32)
    u_seq = np.empty(x.shape, np.int32)
    v_seq = np.empty(x.shape, np.int32)
    for t in range(x.shape[0]):
        u = _wrap24(_decayed(u, i_decay) + np.left_shift(a[t], _ALIGN))
        v = np.clip(_decayed(v, v_decay) + u + shifted_bias, -(_HALF_RANGE - 1), _HALF_RANGE - 1)
        fired = v > threshold
        s_seq[t], u_seq[t], v_seq[t] = fired, u, v
        v = np.where(fired, np.int32(0), v)
    return CubaLIFResult(s_seq, u, v, u_seq, v_seq)


def recurrent_cuba_lif(
    x: npt.ArrayLike,
    recurrent_weight: npt.ArrayLike,
    i_decay: int,
    v_decay: int,
    v_threshold: int,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
    initial_s: npt.ArrayLike | None = None,
) -> RecurrentCubaLIFResult:
    """A dense layer of CUBA neurons that hear each other: the arithmetic of the operator ``snn.RecurrentCubaLIF`` in words.

    Formula: ``RecurrentDense`` in ``lava/lib/dl/netx/blocks/process.py`` of lava-dl 0.6.0; the neuron is that of
    :func:`cuba_lif`, whose other arguments mean the same here.

    Args:
        x: synaptic sums from outside in weight units, ``[T, N, F]``; float (rounded, ties to even) or int32.
        recurrent_weight: weight from each neuron (row) to each neuron (column), ``[F, F]``; rounded likewise.
        initial_s: spikes of the step before the first one, ``[N, F]``; whatever is not 0 is a spike. None by default.

    Raises:
        ValueError: an attribute is out of its range, ``x`` is not ``[T, N, F]``, or ``recurrent_weight`` not ``[F, F]``.
    """
    x, w = _whole(np.asarray(x)), _whole(np.asarray(recurrent_weight)).astype(np.int64)
    if x.ndim != 3:
        raise ValueError(f"x has the shape {x.shape}, but needs three dimensions: [T, N, F]")
    if w.shape != (x.shape[2], x.shape[2]):
        raise ValueError(f"recurrent_weight has the shape {w.shape}, but {x.shape[2]} neurons need {(x.shape[2], x.shape[2])}")
    neurons = x.shape[1:]
    fired = np.zeros(neurons, bool) if initial_s is None else np.asarray(initial_s) != 0
    layer = cuba_lif(x[:0], i_decay, v_decay, v_threshold, bias, initial_u, initial_v)
    s_seq = np.empty(x.shape, np.float32)
    for t in range(x.shape[0]):
        a = (x[t] + fired.astype(np.int64) @ w).astype(np.int32)
        layer = cuba_lif(a[np.newaxis], i_decay, v_decay, v_threshold, bias, layer.u, layer.v)
        s_seq[t] = layer.s[0]
        fired = s_seq[t] != 0
    return RecurrentCubaLIFResult(s_seq, layer.u, layer.v, fired.astype(np.float32))


def _whole(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Rounded to the nearest whole numbers, ties to even."""
    return _cut(values if values.dtype.kind in "iu" else np.rint(values))


def _cut(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Cut to whole numbers; what is none, or has more than 32 bits, becomes the smallest, as the kernels say on any processor."""
    if values.dtype.kind in "iu":
        return values.astype(np.int32)
    return np.where(np.abs(values) < 2**31, values, -(2**31)).astype(np.int32)


def _decayed(state: npt.NDArray[np.int32], decay: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """``state * (4096 - decay) / 4096``, rounded toward zero; the product needs more than 32 bits."""
    product = state.astype(np.int64) * (_UNITY - decay)
    kept: npt.NDArray[np.int64] = np.sign(product) * (np.abs(product) >> 12)
    return kept.astype(np.int32)


def _wrap24(u: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Wrap a value that left the 24-bit range by less than one turn back into it, as the register does."""
    u = np.where(u > _HALF_RANGE, u - np.int32(2 * _HALF_RANGE), u)
    return np.where(u <= -_HALF_RANGE, u + np.int32(2 * _HALF_RANGE), u)


def if_(
    x: npt.ArrayLike, v_threshold: float, v_reset: float | None = None, initial_v: npt.ArrayLike | None = None
) -> FloatResult:
    """SpikingJelly's IF neuron: the arithmetic of the operator ``snn.IF`` in words, each operation in float32.

    Formula: ``IFNode`` of SpikingJelly 2.0.0, ``_ops/if_/reference.py``.

    Args:
        x: input current, ``[T, N, *]``.
        v_threshold: membrane potential from which on the neuron fires.
        v_reset: membrane potential after a spike; None for a soft reset, which subtracts the threshold.
        initial_v: membrane potential before the first step, ``[N, *]``; by default ``v_reset``, or 0 with a soft reset.

    Raises:
        ValueError: ``x`` has fewer than two dimensions.
    """
    return _float_neuron(x, lambda v, x_t: v + x_t, v_threshold, v_reset, initial_v)


def lif(
    x: npt.ArrayLike,
    v_threshold: float,
    v_reset: float | None = None,
    *,
    tau: float | None = None,
    decay: float | None = None,
    decay_input: bool = True,
    initial_v: npt.ArrayLike | None = None,
) -> FloatResult:
    """SpikingJelly's LIF neuron: the arithmetic of the operator ``snn.LIF`` in words, each operation in float32.

    Formula: ``LIFNode`` (with ``tau``) and ``ParametricLIFNode`` (with ``decay``) of SpikingJelly 2.0.0,
    ``_ops/lif/reference.py`` and ``_ops/plif/reference.py``.

    Args:
        x: input current, ``[T, N, *]``.
        v_threshold: membrane potential from which on the neuron fires.
        v_reset: membrane potential after a spike, and that to which it leaks; None for a soft reset and a leak to 0.
        tau: membrane time constant in time steps, at least 1. Give either this or ``decay``.
        decay: its inverse, 0 ... 1; the neuron multiplies by it, which rounds differently from dividing by ``tau``.
        decay_input: whether the input leaks as well.
        initial_v: membrane potential before the first step, ``[N, *]``; by default ``v_reset``, or 0 with a soft reset.

    Raises:
        ValueError: both or neither of ``tau`` and ``decay`` are given, or ``x`` has fewer than two dimensions.
    """
    if (tau is None) == (decay is None):
        raise ValueError("give either tau or decay")
    rest = np.float32(0 if v_reset is None else v_reset)

    def leak(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return y * np.float32(decay) if tau is None else y / np.float32(tau)

    def charge(v: npt.NDArray[np.float32], x_t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return v + leak(x_t - (v - rest)) if decay_input else v - leak(v - rest) + x_t

    return _float_neuron(x, charge, v_threshold, v_reset, initial_v)


def _float_neuron(
    x: npt.ArrayLike,
    charge: Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    v_threshold: float,
    v_reset: float | None,
    initial_v: npt.ArrayLike | None,
) -> FloatResult:
    x = np.asarray(x, np.float32)
    if x.ndim < 2:
        raise ValueError(f"x has the shape {x.shape}, but needs time and batch axes first: [T, N, *]")
    threshold = np.float32(v_threshold)
    reset = np.float32(0 if v_reset is None else v_reset)
    v = np.full(x.shape[1:], reset) if initial_v is None else np.array(initial_v, np.float32)

    s_seq, h_seq = np.empty_like(x), np.empty_like(x)
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite potential is the caller's business
        for t in range(x.shape[0]):
            h = charge(v, x[t])
            s = (h >= threshold).astype(np.float32)
            s_seq[t], h_seq[t] = s, h
            v = h - s * threshold if v_reset is None else s * reset + (np.float32(1) - s) * h
    return FloatResult(s_seq, v, h_seq)
