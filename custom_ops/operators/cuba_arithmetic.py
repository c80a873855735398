"""The neurons in Loihi's integers in NumPy, written for reading: what they mean, one line a sentence of the definition."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["CubaLIFResult", "RecurrentCubaLIFResult", "fed_back", "heterogeneous_cuba_lif"]

_ALIGN = 6  # Loihi aligns weights, biases and thresholds with the 24-bit state by a shift of 6 bits.
_UNITY = 4096  # Decays are fractions of 2**12.
_HALF_RANGE = 2**23  # The state has 24 bits with sign.


class CubaLIFResult(NamedTuple):
    """What :func:`heterogeneous_cuba_lif` and ``cuba_lif`` give.

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
    """What neurons that hear each other give.

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


def heterogeneous_cuba_lif(
    x: npt.ArrayLike,
    i_decay: npt.ArrayLike,
    v_decay: npt.ArrayLike,
    v_threshold: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
) -> CubaLIFResult:
    """``cuba_lif`` of neurons that differ: ``snn.HeterogeneousCubaLIF``, whose parameters broadcast to ``[N, *]``.

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


def fed_back(
    neuron: Callable[..., CubaLIFResult],
    x: npt.ArrayLike,
    recurrent_weight: npt.ArrayLike,
    *,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
    initial_s: npt.ArrayLike | None = None,
    **parameters: npt.ArrayLike,
) -> RecurrentCubaLIFResult:
    """A dense layer of neurons that hear each other's spikes one time step later: the arithmetic of ``snn.RecurrentCubaLIF``.

    Formula: ``RecurrentDense`` in ``lava/lib/dl/netx/blocks/process.py`` of lava-dl 0.6.0.

    Args:
        neuron: the arithmetic of the neuron, such as :func:`heterogeneous_cuba_lif`.
        x: synaptic sums from outside in weight units, ``[T, N, F]``; float (rounded, ties to even) or int32.
        recurrent_weight: weight from each neuron (row) to each neuron (column), ``[F, F]``; rounded likewise.
        initial_u: current before the first step, int32 ``[N, F]``; 0 by default.
        initial_v: voltage before the first step, likewise.
        initial_s: spikes of the step before the first one, ``[N, F]``; whatever is not 0 is a spike. None by default.
        parameters: the neuron's others, by its names: bias, decays and threshold.

    Raises:
        ValueError: ``x`` is not ``[T, N, F]``, ``recurrent_weight`` not ``[F, F]``, or a parameter is out of its range.
    """
    x, w = _whole(np.asarray(x)), _whole(np.asarray(recurrent_weight)).astype(np.int64)
    if x.ndim != 3:
        raise ValueError(f"x has the shape {x.shape}, but needs three dimensions: [T, N, F]")
    if w.shape != (x.shape[2], x.shape[2]):
        raise ValueError(f"recurrent_weight has the shape {w.shape}, but {x.shape[2]} neurons need {(x.shape[2], x.shape[2])}")
    neurons = x.shape[1:]
    fired = np.zeros(neurons, bool) if initial_s is None else np.asarray(initial_s) != 0
    layer = neuron(x[:0], initial_u=initial_u, initial_v=initial_v, **parameters)
    s_seq = np.empty(x.shape, np.float32)
    for t in range(x.shape[0]):
        a = (x[t] + fired.astype(np.int64) @ w).astype(np.int32)
        layer = neuron(a[np.newaxis], initial_u=layer.u, initial_v=layer.v, **parameters)
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
