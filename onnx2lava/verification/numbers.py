"""A network in numbers, for programs: what its table says, and the sentences below it."""

from typing import Any

import numpy as np

from ..network import Network, Neuron, Population
from ..quantization import layer_scales
from .chip import estimate
from .tables import network_notes

__all__ = ["network_numbers"]


def network_numbers(network: Network[Neuron]) -> dict[str, Any]:
    """Inputs, layers, outputs and notes; of parameters that differ from neuron to neuron the smallest and the largest."""
    scales = layer_scales(network)
    return {
        "name": network.name,
        "inputs": {name: {"shape": list(given.shape), "largest": given.largest} for name, given in network.inputs.items()},
        "outputs": list(network.outputs),
        "encoder": network.encoder is not None,
        "readout": network.readout is not None,
        "layers": [{**_layer(network, each), "scale": scales.get(each.name)} for each in network.populations],
        "notes": network_notes(network),
    }


def _layer(network: Network[Neuron], population: Population[Neuron]) -> dict[str, Any]:
    cores = estimate(network, population)
    bias = population.bias
    return {
        "name": population.name,
        "shape": list(population.shape),
        "neuron": {
            "type": type(population.neuron).__name__,
            **{each: _range(population.parameter(each)) for each in ("i_decay", "v_decay", "v_threshold")},
        },
        "bias": None if bias is None else [float(bias.min()), float(bias.max())],
        "edges": [
            {
                "source": edge.source,
                "type": type(edge.map).__name__,
                "weight": list(edge.map.weight.shape),
                "smallest": float(edge.map.weight.min()),
                "largest": float(edge.map.weight.max()),
                "delay": edge.delay,
            }
            for edge in population.edges
        ],
        "neurons": population.neurons,
        "synapses": network.connections(population),
        "fan_in": population.fan_in,
        "cores": [cores.fewest, cores.most],
    }


def _range(values: Any) -> float | list[float]:
    low, high = float(np.min(values)), float(np.max(values))
    return low if low == high else [low, high]
