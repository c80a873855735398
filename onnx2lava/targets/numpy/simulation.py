"""Any network in NumPy, one time step after the other, in whole numbers or in float64."""

from collections.abc import Callable

import numpy as np

from custom_ops.reference import heterogeneous_cuba_lif

from ...network import Array, Conv, ConvTranspose, Dense, FloatNeuron, Map, Network, Neuron, Population
from ..base import Spikes

__all__ = ["simulate"]


def simulate(network: Network[Neuron], x: Spikes) -> dict[str, Array]:
    """The spikes of every population.

    Args:
        network: Loihi's integers, real numbers (computed in float64), or both; any loops.
        x: spikes or counts ``[T, N, *shape]`` of each input, by its name.

    Returns:
        Spikes ``[T, N, *shape]``, float32 of 0 and 1, by population.
    """
    steps, samples = next(iter(x.values())).shape[:2]
    spikes = {name: np.asarray(values, np.float32) for name, values in x.items()}
    spikes |= {each.name: np.zeros((steps, samples, *each.shape), np.float32) for each in network.populations}
    fires = {each.name: _neurons(each) for each in network.populations}
    for t in range(steps):
        for each in network.populations:
            sums = np.zeros((samples, *each.shape))
            for edge in each.edges:
                if t >= edge.delay:
                    incoming = spikes[edge.source][t - edge.delay].reshape(samples, *network.reads(edge))
                    numbers = edge.source in network.inputs and network.inputs[edge.source].numbers
                    # Sums are exact in float64; of any numbers there is one product, rounded as float32 rounds it.
                    incoming = incoming.astype(np.float32 if numbers else np.float64)
                    sums += _sums(edge.map, incoming).reshape(sums.shape)
            spikes[each.name][t] = fires[each.name](sums)
    return {each.name: spikes[each.name] for each in network.populations}


def _neurons(population: Population[Neuron]) -> Callable[[Array], Array]:
    """Takes the sums of one step after the other, and gives the spikes."""
    if isinstance(population.neuron, FloatNeuron):
        return _float_neurons(population.neuron, population.bias_column())
    return _integer_neurons(population)


def _integer_neurons(population: Population[Neuron]) -> Callable[[Array], Array]:
    i_decay, v_decay, threshold = (population.parameter(name) for name in ("i_decay", "v_decay", "v_threshold"))
    bias = population.bias_column()
    u = v = None

    def fires(a: Array) -> Array:
        nonlocal u, v
        # Whole numbers below 2**53 are exact in float64.
        s, u, v, *_ = heterogeneous_cuba_lif(np.rint(a[None]).astype(np.int32), i_decay, v_decay, threshold, bias, u, v)
        spikes: Array = s[0]
        return spikes

    return fires


def _float_neurons(neuron: FloatNeuron, bias: Array) -> Callable[[Array], Array]:
    u: Array | float = 0.0
    v: Array | float = 0.0

    def fires(a: Array) -> Array:
        nonlocal u, v
        u = u * (1 - neuron.i_decay) + a
        v = v * (1 - neuron.v_decay) + u + bias
        s: Array = v > neuron.v_threshold if neuron.strict else v >= neuron.v_threshold
        v = np.where(s, 0.0, v)
        return s

    return fires


def _sums(map_: Map, x: Array) -> Array:
    """What the map gives for ``[N, *]``."""
    if isinstance(map_, Dense):
        sums: Array = x.reshape(len(x), -1) @ map_.weight.astype(x.dtype).T
        return sums
    return _convolved(map_, x) if isinstance(map_, Conv) else _transposed(map_, x)


def _convolved(conv: Conv, x: Array) -> Array:
    """One strided slice of the padded input per place in the kernel."""
    outputs, per_group, kh, kw = conv.weight.shape
    shape = conv.output_shape(x.shape[1:])
    padded = _padded(x, *conv.pads)
    grouped = padded.reshape(len(x), conv.groups, per_group, *padded.shape[2:])
    kernels = conv.weight.astype(x.dtype).reshape(conv.groups, outputs // conv.groups, per_group, kh, kw)
    sums = np.zeros((len(x), conv.groups, outputs // conv.groups, shape[1] * shape[2]), x.dtype)
    for i, j in np.ndindex(kh, kw):
        seen = grouped[..., _every(i, shape[1], conv, 0), _every(j, shape[2], conv, 1)]
        sums += kernels[..., i, j] @ seen.reshape(*seen.shape[:3], -1)
    return sums.reshape(len(x), *shape)


def _transposed(transposed: ConvTranspose, x: Array) -> Array:
    """Each place in the kernel adds the input, spread by the strides, to the sums; pads are cut off at the end."""
    channels, per_group, kh, kw = transposed.weight.shape
    groups = transposed.groups
    _, height, width = transposed.output_shape(x.shape[1:])
    top, left, bottom, right = transposed.pads
    grouped = x.reshape(len(x), groups, channels // groups, -1)
    kernels = transposed.weight.astype(x.dtype).reshape(groups, channels // groups, per_group, kh, kw).swapaxes(1, 2)
    sums = np.zeros((len(x), groups, per_group, height + top + bottom, width + left + right), x.dtype)
    for i, j in np.ndindex(kh, kw):
        spread = (kernels[..., i, j] @ grouped).reshape(*sums.shape[:3], *x.shape[2:])
        sums[..., _every(i, x.shape[2], transposed, 0), _every(j, x.shape[3], transposed, 1)] += spread
    return _padded(sums.reshape(len(x), groups * per_group, *sums.shape[3:]), -top, -left, -bottom, -right)


def _every(place: int, count: int, map_: Conv | ConvTranspose, axis: int) -> slice:
    """Along one axis, where the windows have their element ``place``."""
    first, step = place * map_.dilation[axis], map_.stride[axis]
    return slice(first, first + (count - 1) * step + 1, step)


def _padded(x: Array, top: int, left: int, bottom: int, right: int) -> Array:
    """With zeros around height and width; negative numbers take away."""
    x = np.pad(x, ((0, 0), (0, 0), *((max(low, 0), max(high, 0)) for low, high in ((top, bottom), (left, right)))))
    return x[:, :, max(-top, 0) : x.shape[2] + min(bottom, 0), max(-left, 0) : x.shape[3] + min(right, 0)]
