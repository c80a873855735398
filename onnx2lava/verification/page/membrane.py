"""The membrane potentials of a few neurons, from what they read; whoever fired for it."""

from collections.abc import Mapping
from math import prod

import numpy as np

from custom_ops.reference import heterogeneous_cuba_lif

from ...network import Array, Conv, CubaNeuron, Dense, Edge, Network

__all__ = ["potentials", "thresholds"]

_ALIGN = 6  # bits that Loihi's states have below a weight unit


def potentials(network: Network[CubaNeuron], name: str, neurons: Array, sources: Mapping[str, Array]) -> Array:
    """What is compared with the threshold at each step, before the reset, in weight units, rounded down.

    Args:
        network: in Loihi's integers.
        name: of a population.
        neurons: which of its neurons, ``[k]``, indices in the flattened population.
        sources: what it reads, ``[T, *shape]``, by the name of the input or population.

    Returns:
        ``[T, k]``, int32.
    """
    population = network[name]
    steps = len(next(iter(sources.values())))
    sums = np.zeros((steps, len(neurons)))
    for edge in population.edges:
        numbers = edge.source in network.inputs and network.inputs[edge.source].numbers  # of which products are rounded
        given = sources[edge.source].reshape(steps, *network.reads(edge)).astype(np.float32 if numbers else np.float64)
        sums[edge.delay :] += _sums(network, edge, neurons, population.shape, given[: steps - edge.delay])
    i_decay, v_decay, threshold, bias = (
        np.broadcast_to(values, population.shape).reshape(-1)[neurons]
        for values in (*map(population.parameter, ("i_decay", "v_decay", "v_threshold")), population.bias_column())
    )
    run = heterogeneous_cuba_lif(np.rint(sums)[:, None].astype(np.int32), i_decay, v_decay, threshold, bias)
    return np.asarray(run.v_seq[:, 0] >> _ALIGN)


def thresholds(network: Network[CubaNeuron], name: str, neurons: Array) -> Array:
    """Those of the neurons, in weight units, ``[k]``."""
    population = network[name]
    return np.asarray(np.broadcast_to(population.parameter("v_threshold"), population.shape).reshape(-1)[neurons])


def _sums(network: Network[CubaNeuron], edge: Edge, neurons: Array, shape: tuple[int, ...], given: Array) -> Array:
    """``[T, k]``: for each neuron only what it sees, so that a few of a large layer cost little."""
    if isinstance(edge.map, Dense):
        return np.asarray(given.reshape(len(given), -1) @ edge.map.weight[neurons].T)
    if isinstance(edge.map, Conv):
        sums_shape = edge.map.output_shape(network.reads(edge))
        seen = [_seen(edge.map, given, *map(int, np.unravel_index(each, sums_shape))) for each in neurons]
        return np.stack(seen, axis=1)
    rows, columns, weights = edge.map.entries(network.reads(edge))
    flat = given.reshape(len(given), -1)
    return np.stack([flat[:, columns[rows == each]] @ weights[rows == each] for each in neurons], axis=1)


def _seen(conv: Conv, given: Array, channel: int, row: int, column: int) -> Array:
    """The sums ``[T]`` of one place of a convolution."""
    outputs, per_group, *kernel = conv.weight.shape
    group = channel // (outputs // conv.groups)
    inputs = given[:, group * per_group : (group + 1) * per_group]
    places = [
        start * conv.stride[axis] - conv.pads[axis] + conv.dilation[axis] * np.arange(kernel[axis])
        for axis, start in enumerate((row, column))
    ]
    inside = [(place >= 0) & (place < given.shape[2 + axis]) for axis, place in enumerate(places)]
    rows, columns = (place[within] for place, within in zip(places, inside, strict=True))
    weight = conv.weight[channel][:, inside[0]][:, :, inside[1]]
    window = inputs[:, :, rows][:, :, :, columns]
    return np.asarray(window.reshape(len(given), prod(weight.shape)) @ weight.reshape(-1))
