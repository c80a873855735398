"""Any network in NumPy, one time step after the other, in whole numbers or in float64."""

from collections.abc import Callable

import numpy as np

from custom_ops.reference import heterogeneous_cuba_lif

from ...network import Array, FloatNeuron, Network, Neuron, Population
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
                    sums += edge.map.sums(incoming).reshape(sums.shape)
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
