"""One population in Loihi's integers, for a given scale."""

from dataclasses import replace
from math import floor

import numpy as np

from custom_ops.loihi import BIAS_RANGE, DECAY_UNIT, WEIGHT_RANGE

from ..network import Array, CubaNeuron, FloatNeuron, Map, Population

__all__ = ["integer_bias", "integer_population", "integer_threshold", "integer_weights", "weight_bits"]

_FLOAT32 = 2.0**-22
"""Relative distance from a whole number that a product of two float32 numbers may have just because they are float32."""


def integer_population(population: Population[FloatNeuron], scale: float) -> Population[CubaNeuron]:
    """``population`` with everything multiplied by ``scale`` and rounded: one scale for all its edges, bias and threshold.

    * weights: ``2 * round(w * scale / 2)``, clamped to -256 ... 254, as Lava-DL's ``quantize_8bit`` does;
    * bias: ``round(b * scale)``, clamped to -4096 ... 4095;
    * threshold: ``ceil(v_threshold * scale) - 1`` where the float neurons fire at ``>=``, because Loihi's fire at ``>``, and
      ``floor(v_threshold * scale)`` where they are strict;
    * decays: ``round(4096 * v_decay)``, and ``round(4096 * i_decay)``.

    Where weights, bias and threshold times ``scale`` are such whole numbers already and nothing decays but the current, at once,
    the spikes stay the same.
    Edges that share a map share its integers.

    Args:
        population: one with float neurons.
        scale: above 0.
    """
    neuron = CubaNeuron(
        i_decay=round(DECAY_UNIT * population.neuron.i_decay),
        v_decay=round(DECAY_UNIT * population.neuron.v_decay),
        v_threshold=integer_threshold(population.neuron.v_threshold, scale, population.neuron.strict),
    )
    integers: dict[int, Map] = {}
    for edge in population.edges:
        if id(edge.map) not in integers:
            integers[id(edge.map)] = replace(edge.map, weight=integer_weights(edge.map.weight, scale))
    return Population(
        name=population.name,
        shape=population.shape,
        neuron=neuron,
        edges=tuple(replace(edge, map=integers[id(edge.map)]) for edge in population.edges),
        bias=None if population.bias is None else integer_bias(population.bias, scale),
        origin=population.origin,
    )


def integer_weights(weight: Array, scale: float) -> Array:
    """Even whole numbers of the shape of ``weight``, int32."""
    low, high = WEIGHT_RANGE
    halves = weight.astype(np.result_type(weight, np.float32)) * np.float32(scale / 2)
    np.clip(np.rint(halves, out=halves), low // 2, high // 2, out=halves)
    return 2 * halves.astype(np.int32)


def integer_bias(bias: Array, scale: float) -> Array:
    """Whole numbers of the shape of ``bias``, int32."""
    return np.clip(np.rint(bias.astype(np.float64) * scale), *BIAS_RANGE).astype(np.int32)


def integer_threshold(threshold: float, scale: float, strict: bool = False) -> int:
    """A mantissa; a threshold that was stored as float32 counts as the whole number that it was before."""
    scaled = threshold * scale
    nearest = round(scaled)
    if abs(scaled - nearest) <= _FLOAT32 * scaled:
        return nearest - (not strict)
    return floor(scaled)


def weight_bits(weight: Array) -> int:
    """Bits with sign that hold the halves of even weights: 8 for -256 ... 254, 1 for zeros alone."""
    halves = max(int(weight.max()) // 2, -int(weight.min()) // 2 - 1, 0)
    return 1 + halves.bit_length()
