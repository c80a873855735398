"""slayer's modules of a network. Needs lava-dl, which it imports; imported only where a network is built."""

from functools import partial
from typing import Any, cast

import numpy as np
import torch

from custom_ops.loihi import DECAY_UNIT

from ...lava_machine import require_slayer
from ...network import Array, Conv, CubaNeuron, Dense, Edge, Kernel, Map, Network, Population, Shape
from ...network.unrolling import unrolled
from ..order import branches, forward, in_order

__all__ = ["SCALE", "Graph", "sequence"]

SCALE = 64
"""Lava-DL's weight scale. Whatever scale a network was trained with: only its integers count, and 1/64 of each is exact."""

_slayer = require_slayer()


def sequence(network: Network[CubaNeuron]) -> torch.nn.Sequential | None:
    """slayer's blocks of a chain, one after the other; None for other networks, and where feedback is not beside a matrix."""
    if any(branches(network)):
        return None
    if any(each.feedback and not isinstance(forward(each)[0].map, Dense) for each in network.populations):
        return None
    modules: list[torch.nn.Module] = []
    for each in in_order(network):
        (edge,) = forward(each)
        came = network.shapes[edge.source]
        if edge.delay:
            modules.append(_delay(came, edge.delay))
        reads = (edge.map.weight.shape[1],) if isinstance(edge.map, Dense) else network.reads(edge)
        modules += _arranged(came, reads)
        modules.append(_block(network, each, edge.map))
        modules += _arranged(edge.map.output_shape(reads), each.shape)
    return torch.nn.Sequential(*modules).eval()


class Graph(torch.nn.Module):
    """slayer's synapses and neurons of any network without loops, but feedback.

    Its forward takes the spikes ``[N, *shape, T]`` of each input of the network, and gives those of its output, or a tuple of
    those of its outputs, each in the network's order.
    """

    def __init__(self, network: Network[CubaNeuron]) -> None:
        super().__init__()
        self._network = network
        self.populations = torch.nn.ModuleDict()
        for index, each in enumerate(network.populations):
            self.populations[str(index)] = _Population(network, each)

    def forward(self, *inputs: torch.Tensor) -> Any:
        spikes = self.spikes(*inputs)
        outputs = tuple(spikes[name] for name in self._network.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def spikes(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Those of every input and population, by name."""
        spikes = dict(zip(self._network.inputs, inputs, strict=True))
        modules = dict(zip((each.name for each in self._network.populations), self.populations.values(), strict=True))
        for each in in_order(self._network):
            spikes[each.name] = modules[each.name](spikes)
        return spikes


class _Population(torch.nn.Module):
    """Edges that share a map add their spikes before it."""

    def __init__(self, network: Network[CubaNeuron], population: Population[CubaNeuron]) -> None:
        super().__init__()
        self._shape = population.shape
        shared: dict[Map, list[Edge]] = {}
        for edge in forward(population):
            shared.setdefault(edge.map, []).append(edge)
        self._sources = [[edge.source for edge in edges] for edges in shared.values()]
        self._reads = [
            (map_.weight.shape[1],) if isinstance(map_, Dense) else network.reads(edges[0]) for map_, edges in shared.items()
        ]
        self.delays = torch.nn.ModuleList(
            torch.nn.ModuleList(_delay(network.shapes[edge.source], edge.delay) for edge in edges) for edges in shared.values()
        )
        self.synapses = torch.nn.ModuleList(_synapse(map_) for map_ in shared)
        self.feedback = _synapse(Dense(_feedback(network, population))) if population.feedback else None
        flat = (population.neurons,)
        self.neuron = _neuron(population, flat if population.feedback else population.shape)

    def forward(self, spikes: dict[str, torch.Tensor]) -> torch.Tensor:
        some = next(iter(spikes.values()))
        samples, steps = some.shape[0], some.shape[-1]
        sums = some.new_zeros((samples, *self._shape, steps))
        for sources, reads, delays, synapse in zip(self._sources, self._reads, self.delays, self.synapses, strict=True):
            parts = zip(sources, cast(torch.nn.ModuleList, delays), strict=True)
            incoming = sum(delay(spikes[source]).reshape(samples, *reads, steps) for source, delay in parts)
            sums = sums + synapse(incoming).reshape(sums.shape)
        if self.feedback is None:
            return self.neuron(sums)  # type: ignore[no-any-return]
        _from_rest(self, None)
        fired = _slayer.utils.recurrent.custom_recurrent(sums.flatten(1, -2), self.neuron, self.feedback)
        return fired.reshape(sums.shape)  # type: ignore[no-any-return]


def _block(network: Network[CubaNeuron], population: Population[CubaNeuron], map_: Map) -> Any:
    """slayer's block of a population of a chain."""
    blocks, parameters = _slayer.block.cuba, _parameters(population)
    if isinstance(map_, Dense):
        kind = blocks.Recurrent if population.feedback else blocks.Dense
        module = kind(parameters, map_.weight.shape[1], map_.weight.shape[0], delay_shift=False)
    else:
        assert isinstance(map_, Kernel)  # of a legalised network
        kind = blocks.Conv if isinstance(map_, Conv) else blocks.ConvT
        module = kind(parameters, *_channels(map_), **_window(map_), delay_shift=False)
    if population.feedback:
        _fill(module.input_synapse, map_.weight)
        _fill(module.recurrent_synapse, _feedback(network, population))
        module.register_forward_pre_hook(_from_rest)
    else:
        _fill(module.synapse, map_.weight)
    flat = isinstance(map_, Dense)
    _finish(module.neuron, population, (population.neurons,) if flat else population.shape)
    return module


def _synapse(map_: Map) -> Any:
    synapses = _slayer.synapse
    if isinstance(map_, Dense):
        synapse = synapses.Dense(map_.weight.shape[1], map_.weight.shape[0])
    else:
        assert isinstance(map_, Kernel)
        kind = synapses.Conv if isinstance(map_, Conv) else synapses.ConvTranspose
        synapse = kind(*_channels(map_), **_window(map_))
    _fill(synapse, map_.weight)
    return synapse


def _channels(map_: Kernel) -> tuple[int, int]:
    """In and out."""
    first, second = map_.weight.shape[0], map_.weight.shape[1] * map_.groups
    return (second, first) if isinstance(map_, Conv) else (first, second)


def _window(map_: Kernel) -> dict[str, Any]:
    return {
        "kernel_size": map_.weight.shape[2:],
        "stride": map_.stride,
        "padding": map_.pads[:2],
        "dilation": map_.dilation,
        "groups": map_.groups,
    }


def _feedback(network: Network[CubaNeuron], population: Population[CubaNeuron]) -> Array:
    """The matrix of all edges to itself."""
    matrices = [unrolled(edge.map, network.reads(edge)) for edge in population.feedback]
    return sum(matrices[1:], start=matrices[0])


def _neuron(population: Population[CubaNeuron], shape: Shape) -> Any:
    neuron = _slayer.neuron.cuba.Neuron(**_parameters(population), persistent_state=bool(population.feedback))
    _finish(neuron, population, shape)
    return neuron


def _parameters(population: Population[CubaNeuron]) -> dict[str, Any]:
    neuron = population.neuron
    parameters = {
        "threshold": int(np.max(neuron.v_threshold)) / SCALE,
        "current_decay": int(np.max(neuron.i_decay)) / DECAY_UNIT,
        "voltage_decay": int(np.max(neuron.v_decay)) / DECAY_UNIT,
        "scale": SCALE,
    }
    if population.bias is not None:
        parameters["norm"] = _slayer.neuron.norm.MeanOnlyBatchNorm
    return parameters


def _finish(neuron: Any, population: Population[CubaNeuron], shape: Shape) -> None:
    """What slayer's constructors do not take. ``shape`` is that of the neurons in slayer."""
    for name, values in (("current_decay", population.neuron.i_decay), ("voltage_decay", population.neuron.v_decay)):
        if isinstance(values, np.ndarray):  # one for each channel
            getattr(neuron, name).data = torch.tensor(values, dtype=torch.float32)
    bias = population.bias
    if bias is not None:
        # slayer's bias is the negative mean of a batch norm, which would be rounded to even 8-bit numbers like a weight.
        each = bias.shape == population.shape or len(shape) < len(population.shape)
        values = np.broadcast_to(population.bias_column(), population.shape).reshape(-1) if each else bias
        neuron.norm.running_mean = -torch.tensor(values, dtype=torch.float32) / SCALE
        neuron.norm.num_features = len(values)
        neuron.norm.pre_hook_fx = partial(_unrounded, shape if each else (*shape[:1], *[1] * (len(shape) - 1)))
    # Loihi fires above the threshold, slayer from it on: one unit of the state more. Whole, since slayer's kernel for GPUs cuts
    # the threshold to whole units; slayer's own 0.01 units vanish there, and on the CPU in float32 at thresholds above about 40.
    neuron.threshold_eps = 1 / neuron.s_scale
    # The shapes are known; slayer itself finds them in a first forward pass, which `export_hdf5` would need otherwise.
    neuron.shape = torch.Size(shape)


def _fill(synapse: Any, weight: Array) -> None:
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor(weight, dtype=torch.float32).reshape(synapse.weight.shape) / SCALE)


def _delay(shape: Shape, steps: int) -> Any:
    if not steps:
        return torch.nn.Identity()
    module = _slayer.axon.Delay()
    module.delay = torch.nn.Parameter(torch.full(shape[:1], float(steps)), requires_grad=False)
    module.init = True  # or the first forward pass draws delays at random
    return module


def _arranged(came: Shape, wanted: Shape) -> list[torch.nn.Module]:
    """What turns spikes of one shape into another."""
    flat = [_slayer.block.cuba.Flatten()] if came != wanted and len(came) > 1 else []
    return flat + ([torch.nn.Unflatten(1, wanted)] if came != wanted and len(wanted) > 1 else [])


def _from_rest(module: torch.nn.Module, inputs: Any) -> None:
    """slayer's recurrent blocks go on from the states of the last sequence, unlike all other blocks."""
    neuron: Any = module.neuron
    neuron.current_state = neuron.current_state.new_zeros(1)
    neuron.voltage_state = neuron.voltage_state.new_zeros(1)


def _unrounded(shape: Shape, mean: torch.Tensor, descale: bool = False) -> torch.Tensor:
    """The mean as it is, in the shape of the neurons; for files, in whole units."""
    return mean * SCALE if descale else mean.reshape(1, *shape, 1)
