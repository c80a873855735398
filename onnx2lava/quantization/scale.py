"""Which scale a population should have: the numbers that 8-bit weights can say are few, and a scale decides where they lie."""

from math import floor, inf

import numpy as np
import numpy.typing as npt

from custom_ops.loihi import BIAS_RANGE, THRESHOLD_MAX, WEIGHT_RANGE

from ..network import Array, FloatNeuron, Population
from .integers import integer_bias, integer_threshold, integer_weights

__all__ = ["candidates", "expected_error"]

_LARGEST_THRESHOLD = 2**14
"""Voltages are clipped at 2**17 weight units; a threshold up to here leaves room for eight times as much inhibition."""
_STEPS = range(-4, 9)
"""Scales that are considered, in steps of a quarter octave from the one at which the largest weight just fits."""
_JUST_ABOVE = 1 + 2.0**-16
_SAMPLE = 2**15
"""Weights that errors are estimated from."""
_GRID_SAMPLE = 32
_GRID_SCALES = np.arange(1, 4097)
_GRID_TOLERANCE = 1e-6
_INPUTS_PER_SPIKE = 1.0
_STEPS_PER_SPIKE = 8.0


def candidates(population: Population[FloatNeuron]) -> list[float]:
    """Scales for a population of float neurons, the one with the smallest expected error first.

    If there is a whole number that turns all weights into even whole numbers, and bias and threshold into whole ones, it is the
    only candidate of a neuron without decay: nothing is lost. (With a decay, the largest such number comes first.)

    Otherwise they are a quarter of an octave apart, from one that leaves the largest weights unused bits to one that clips them
    to a quarter: with few large weights, clipping them can cost less than rounding all others coarsely. Each is moved so
    that the threshold loses nothing in rounding.
    """
    weight = population.weights()
    neuron = population.neuron
    exact = _exact_scales(weight, population.bias, neuron.v_threshold)
    if exact and not _leaks(neuron):
        return exact[:1]
    full = min(_largest_unclipped(weight), _LARGEST_THRESHOLD / neuron.v_threshold)
    scales = [_with_whole_threshold(full * 2 ** (step / 4), neuron) for step in _STEPS]
    within = [scale for scale in dict.fromkeys(scales) if scale * neuron.v_threshold <= _LARGEST_THRESHOLD + 1]
    return exact[-1:] + sorted(within, key=lambda scale: expected_error(population, scale))


def expected_error(population: Population[FloatNeuron], scale: float) -> float:
    """Mean square error of the membrane potential when a neuron fires, relative to the threshold, as far as a population alone
    shows.

    Between two spikes of a neuron, each of its inputs is taken to fire once, and its bias to come in eight times. Errors of
    single weights are taken as independent.
    """
    bias, neuron = population.bias, population.neuron
    error = 0.0
    for edge in population.edges:
        flat = edge.map.weight.reshape(-1)
        flat = flat[:: -(-flat.size // _SAMPLE)].astype(np.float64)
        rounding = _mean_square(integer_weights(flat, scale) / scale - flat)
        error += edge.map.fan_in * _INPUTS_PER_SPIKE * _peak(neuron) ** 2 * rounding
    if bias is not None:
        error += _STEPS_PER_SPIKE**2 * _mean_square(integer_bias(bias, scale) / scale - bias)
    # Sums of even weights are even: without decay and bias a spike comes at the first even number above the threshold.
    lattice = 1.0 if _leaks(neuron) or bias is not None else 2.0
    threshold = integer_threshold(neuron.v_threshold, scale, neuron.strict)
    crossing = threshold if _leaks(neuron) else lattice * (floor(threshold / lattice) + 0.5)
    error += float(crossing / scale - neuron.v_threshold) ** 2
    return float(error / neuron.v_threshold**2)


def _leaks(neuron: FloatNeuron) -> bool:
    """Whether sums of whole weights are no whole voltages."""
    return neuron.v_decay != 0 or neuron.i_decay != 1


def _peak(neuron: FloatNeuron) -> float:
    """The largest voltage that one spike brings through a weight of 1, within the steps that lie between two spikes."""
    u, v, peak = 1.0, 0.0, 0.0
    for _ in range(round(_STEPS_PER_SPIKE)):
        v = v * (1 - neuron.v_decay) + u
        u *= 1 - neuron.i_decay
        peak = max(peak, v)
    return peak


def _mean_square(values: npt.NDArray[np.float64]) -> float:
    return float(np.square(values).mean())


def _largest_unclipped(weight: Array) -> float:
    low, high = float(weight.min()), float(weight.max())
    return min(WEIGHT_RANGE[1] / high if high > 0 else inf, WEIGHT_RANGE[0] / low if low < 0 else inf)


def _with_whole_threshold(scale: float, neuron: FloatNeuron) -> float:
    """A scale near ``scale`` that puts the threshold just above a whole number, which then is the mantissa itself.

    Without decay it is an odd one, half way between the even sums of which the lower does not reach the threshold.
    """
    mantissa = scale * neuron.v_threshold
    if mantissa <= 1:  # any input that is left after rounding reaches it
        return scale
    whole = max(round(mantissa), 1) if _leaks(neuron) else 2 * floor(mantissa / 2) + 1
    return whole * _JUST_ABOVE / neuron.v_threshold


def _exact_scales(weight: Array, bias: Array | None, threshold: float) -> list[float]:
    """Whole scales at which nothing is rounded or clipped, ascending; at most the smallest one and its largest multiple."""
    numbers = [weight[weight != 0] / 2, np.array([threshold])] + ([] if bias is None else [bias[bias != 0]])
    few = np.concatenate([each[:: max(1, each.size // _GRID_SAMPLE)] for each in numbers]).astype(np.float64)
    possible = _GRID_SCALES[_whole(few * _GRID_SCALES[:, None]).all(axis=1)]
    unclipped = _largest_unclipped(weight)
    if bias is not None and bias.any():
        unclipped = min(unclipped, BIAS_RANGE[1] / float(np.abs(bias).max()))
    smallest = next((int(scale) for scale in possible[:4] if all(_whole(each * scale).all() for each in numbers)), None)
    # Nothing is better than exact numbers, also where they leave less room for inhibition; their multiples shall leave it.
    if smallest is None or smallest > min(unclipped, (THRESHOLD_MAX + 1) / threshold) * (1 + _GRID_TOLERANCE):
        return []
    most = min(unclipped, _LARGEST_THRESHOLD / threshold)
    return [float(smallest), float(smallest * max(1, floor(most * (1 + _GRID_TOLERANCE) / smallest)))]


def _whole(values: Array) -> npt.NDArray[np.bool_]:
    """Which numbers are whole but for what float32 rounded off; none of them is zero."""
    nearest = np.rint(values)
    whole: npt.NDArray[np.bool_] = (np.abs(values - nearest) <= _GRID_TOLERANCE * np.abs(values)) & (nearest != 0)
    return whole
