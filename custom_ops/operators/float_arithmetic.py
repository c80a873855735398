"""The float neurons in NumPy, written for reading: each operation rounds to float32, in the order written."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["FloatResult", "float_neuron"]


class FloatResult(NamedTuple):
    """What a float neuron gives.

    Attributes:
        s: spikes, float32 of 0 and 1, ``[T, N, *]``.
        v: membrane potential after the last step, float32, ``[N, *]``.
        h_seq: membrane potential of every step before the reset, float32, ``[T, N, *]``.
    """

    s: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]
    h_seq: npt.NDArray[np.float32]


def float_neuron(
    x: npt.ArrayLike,
    charge: Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    v_threshold: float,
    v_reset: float | None,
    initial_v: npt.ArrayLike | None,
) -> FloatResult:
    """A float neuron over all time steps of its input.

    Args:
        x: input current, ``[T, N, *]``.
        charge: what makes the potential before the reset of that after the last one, ``[N, *]``, and of the input of a step.
        v_threshold: membrane potential from which on the neuron fires.
        v_reset: membrane potential after a spike; None for a soft reset, which subtracts the threshold.
        initial_v: membrane potential before the first step, ``[N, *]``; by default ``v_reset``, or 0 with a soft reset.

    Raises:
        ValueError: ``x`` has fewer than two dimensions.
    """
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
