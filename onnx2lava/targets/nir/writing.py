"""Write a network as a NIR graph: of real numbers or of Loihi's integers."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from custom_ops.errors import MissingPackageError
from custom_ops.files.atomic_write import replacing
from custom_ops.loihi import DECAY_UNIT

from ...errors import ConversionError, NetworkError
from ...network import OUTPUT, Array, Conv, CubaNeuron, Edge, Map, Network, Neuron, Population, Shape
from ...network.unrolling import unrolled
from ...read.nir.order import ranks
from ...read.nir.producers import DT

__all__ = ["save_nir", "to_nir"]

_FOREVER = 2.0**60
"""Steps of a time constant in which no float64 loses anything."""


def save_nir(network: Network[Neuron], path: str | os.PathLike[str], *, dt: float = DT) -> None:
    """Write :func:`to_nir` of ``network`` to ``path``; an old file there stays whole if anything goes wrong.

    Raises:
        MissingPackageError, ConversionError: as :func:`to_nir`.
        OSError: the file cannot be written.
    """
    graph = to_nir(network, dt=dt)
    import nir

    content = io.BytesIO()
    nir.write(content, graph)
    with replacing(path) as temporary:
        Path(temporary).write_bytes(content.getvalue())


def to_nir(network: Network[Neuron], *, dt: float = DT) -> Any:
    """The network as a ``nir.NIRGraph``.

    Neurons are ``IF``, ``LIF`` and ``CubaLIF`` nodes whose numbers mean the same steps in every tool that takes Euler's, such
    as SpikingJelly and snnTorch. What equations cannot say (numbers of Loihi that are whole, whether a neuron fires at its
    threshold or only above it) is in the metadata of the nodes, so that reading the graph again loses nothing. What NIR's
    Conv2d cannot say becomes a matrix. Feedback is a loop of edges, which takes one step.

    Args:
        network: real numbers, Loihi's integers, or both. What stays on the host is no part of the graph.
        dt: seconds of a time step.

    Raises:
        MissingPackageError: the package ``nir`` is not installed.
        ConversionError: a map is too large for a matrix, or NIR's loops cannot say which edges are late.
    """
    try:
        import nir
    except ImportError as error:
        raise MissingPackageError("The package nir is not installed: run `pip install sj2lava[nir]`.") from error
    plan = _Plan(network, dt)
    nodes = {name: _made(nir, kind, fields) for name, (kind, fields) in plan.nodes.items()}
    metadata = {"producer": "sj2lava", "dt": dt, "name": network.name}
    return nir.NIRGraph(nodes=nodes, edges=plan.edges, metadata=metadata)


def _made(nir: Any, kind: str, fields: dict[str, Any]) -> Any:
    """A node; its classes want their metadata apart."""
    metadata = fields.pop("metadata", {})
    node = getattr(nir, kind)(**fields)
    node.metadata = metadata
    return node


@dataclass
class _Way:
    """How the spikes of an edge come to the neurons: through ``nodes``, one after the other."""

    edge: Edge
    nodes: list[str]
    target: str
    late: int = 0


@dataclass
class _Plan:
    """Nodes and edges, by names that hdf5 can hold."""

    network: Network[Neuron]
    dt: float
    nodes: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        network = self.network
        self._names: dict[str, str] = {}
        self._shapes: dict[str, Shape] = {}
        for name, given in network.inputs.items():
            own = self._named(name)
            metadata = {"name": name, "bits": given.bits}
            self.nodes[own] = ("Input", {"input_type": {"input": np.array(given.shape)}, "metadata": metadata})
            self._shapes[name] = given.shape
        for each in network.populations:
            self._named(each.name)
            self._shapes[each.name] = self._shape(each)
        ways = [way for each in network.populations for way in self._population(each)]
        for name in network.outputs:
            own = self._free(OUTPUT if len(network.outputs) == 1 else f"{OUTPUT}_{self._names[name]}")
            self.nodes[own] = ("Output", {"output_type": {"output": np.array(self._shapes[name])}})
            self.edges.append((self._names[name], own))
        self._delay(ways)

    def _named(self, name: str) -> str:
        """A name without the separators of hdf5 and of subgraphs."""
        own = self._free(name.replace("/", "_").replace(".", "_"))
        self._names[name] = own
        return own

    def _free(self, name: str) -> str:
        taken = {*self.nodes, *self._names.values()}
        return next(each for each in (name, *(f"{name}_{i}" for i in range(len(taken) + 1))) if each not in taken)

    def _shape(self, population: Population[Neuron]) -> Shape:
        """As NIR's nodes give it: flat where one of its maps is a matrix."""
        maps = [self._is_conv(population, edge) for edge in population.edges]
        return population.shape if maps and all(maps) else (population.neurons,)

    def _is_conv(self, population: Population[Neuron], edge: Edge) -> bool:
        conv = edge.map
        # nir 1.0.8 takes every kernel for a square one where it checks shapes (nir/ir/utils.py, calculate_conv_output).
        square = isinstance(conv, Conv) and conv.weight.shape[2] == conv.weight.shape[3]
        even = isinstance(conv, Conv) and square and conv.pads[:2] == conv.pads[2:] and min(conv.pads) >= 0
        images = len(population.shape) == 3 and self.network.shapes[edge.source] == self.network.reads(edge)
        # The source may be one that comes later, whose shape is not known yet; its spikes are then read flat.
        read = self._shapes.get(edge.source)
        whole_bias = population.bias is not None and population.bias.ndim == 3 and self._bias_is_in_map(population)
        return even and images and read == self.network.reads(edge) and not whole_bias

    @staticmethod
    def _bias_is_in_map(population: Population[Neuron]) -> bool:
        """Whether the voltage takes what the current takes, so that the bias can be that of a map."""
        neuron = population.neuron
        return bool(np.all(neuron.i_decay == (DECAY_UNIT if isinstance(neuron, CubaNeuron) else 1)))

    def _population(self, population: Population[Neuron]) -> list[_Way]:
        own, ways = self._names[population.name], []
        biased = self._bias_is_in_map(population)
        bias = population.flat_bias() if biased else None
        self.nodes[own] = _neuron(population, self._shapes[population.name], self.dt)
        made: dict[tuple[Map, Shape], str] = {}
        # The bias is in a map outside of loops, if there is one.
        edges = sorted(population.edges, key=lambda edge: edge.source == population.name)
        for edge in edges:
            conv = self._shapes[population.name] == population.shape and self._is_conv(population, edge)
            before = [] if conv or len(self._shapes[edge.source]) == 1 else [self._flatten(own, self._shapes[edge.source])]
            key = (edge.map, self.network.reads(edge))
            if key not in made:
                made[key] = self._map(population, edge, conv, bias if conv is False or bias is None else population.bias)
                bias = None
            ways.append(_Way(edge, [*before, made[key]], own))
        return ways

    def _flatten(self, own: str, shape: Shape) -> str:
        name = self._free(f"{own}_flatten")
        self.nodes[name] = ("Flatten", {"input_type": {"input": np.array(shape)}, "start_dim": 0, "end_dim": -1})
        return name

    def _map(self, population: Population[Neuron], edge: Edge, conv: bool, bias: Array | None) -> str:
        name = self._free(f"{self._names[population.name]}_weight")
        map_ = edge.map
        if conv:
            assert isinstance(map_, Conv)
            self.nodes[name] = (
                "Conv2d",
                {
                    "input_shape": self.network.reads(edge)[1:],
                    "weight": _real(_in_one_group(map_)),
                    "stride": map_.stride,
                    "padding": map_.pads[:2],
                    "dilation": map_.dilation,
                    "groups": 1,
                    "bias": np.zeros(len(map_.weight)) if bias is None else _real(bias),
                },
            )
            return name
        try:
            weight = unrolled(map_, self.network.reads(edge))
        except NetworkError as error:
            raise ConversionError(
                f"The population {population.name!r} is nothing that NIR's Conv2d can say, and {error}."
            ) from error
        if bias is None:
            self.nodes[name] = ("Linear", {"weight": _real(weight)})
        else:
            self.nodes[name] = ("Affine", {"weight": _real(weight), "bias": _real(bias)})
        return name

    def _delay(self, ways: Sequence[_Way]) -> None:
        """Join all, with a Delay node where spikes are later than the edges that close loops make them."""
        paths = [[self._names[way.edge.source], *way.nodes, way.target] for way in ways]
        for number, (way, late) in enumerate(zip(ways, self._lateness(paths), strict=True)):
            steps = way.edge.delay - late
            if steps > 0:
                shape = self._shapes[way.edge.source]
                name = self._free(f"{way.target}_delay")
                self.nodes[name] = ("Delay", {"delay": np.full(shape, steps * self.dt)})
                paths[number].insert(1, name)
            way.late = max(steps, 0)
        for way, late in zip(ways, self._lateness(paths), strict=True):
            if late + way.late != way.edge.delay:
                raise ConversionError(
                    f"The population {way.target!r} hears {way.edge.source!r} {way.edge.delay} steps late in a loop of which NIR "
                    "would delay another edge: let one population have the loop as feedback."
                )
        self.edges += dict.fromkeys(pair for path in paths for pair in pairwise(path))

    def _lateness(self, paths: Sequence[Sequence[str]]) -> list[int]:
        """How many edges of each path close a loop, as reading sees it."""
        edges = [pair for path in paths for pair in pairwise(path)]
        outputs = [target for _, target in self.edges]
        inputs = [name for name, (kind, _) in self.nodes.items() if kind == "Input"]
        names = {name for path in paths for name in path} | set(outputs) | set(inputs)
        rank = ranks(names, list(dict.fromkeys([*edges, *self.edges])), inputs)
        return [sum(rank[a] >= rank[b] for a, b in pairwise(path)) for path in paths]


def _real(values: Array) -> Array:
    """Whole numbers as real ones, for NIR's readers."""
    return values.astype(np.float32) if values.dtype.kind in "iu" else values


def _in_one_group(conv: Conv) -> Array:
    """``[O, I, kh, kw]``: nir 1.0.8 checks shapes as if there were one group (``Conv2d.__post_init__`` in nir/ir/conv.py)."""
    outputs, per_group, *kernel = conv.weight.shape
    whole = np.zeros((conv.groups, outputs // conv.groups, conv.groups, per_group, *kernel), conv.weight.dtype)
    each = np.arange(conv.groups)
    whole[each, :, each] = conv.weight.reshape(conv.groups, outputs // conv.groups, per_group, *kernel)
    return whole.reshape(outputs, conv.groups * per_group, *kernel)


def _neuron(population: Population[Neuron], shape: Shape, dt: float) -> tuple[str, dict[str, Any]]:
    """The node of the neurons: as many numbers as neurons, and the exact ones in its metadata."""
    neuron = population.neuron
    names = ("v_decay", "i_decay", "v_threshold")
    metadata: dict[str, Any] = {"name": population.name}
    unit = 1
    if isinstance(neuron, CubaNeuron):
        unit = DECAY_UNIT
        each = {name: np.broadcast_to(population.parameter(name), population.shape).reshape(shape) for name in names}
        metadata["kind"] = "loihi"
        metadata |= {name: each[name].flat[0] if np.ndim(getattr(neuron, name)) == 0 else each[name] for name in names}
    else:
        each = {name: np.full(shape, getattr(neuron, name)) for name in names}
        metadata |= {"kind": "real", "strict": int(neuron.strict), **{name: getattr(neuron, name) for name in names}}
    v_decay, i_decay = each["v_decay"] / unit, each["i_decay"] / unit
    same = {"v_threshold": each["v_threshold"].astype(np.float64), "v_reset": np.zeros(shape), "metadata": metadata}
    at_once = bool((i_decay == 1).all())
    if at_once and not v_decay.any():
        return "IF", {"r": np.full(shape, 1 / dt), **same}
    steps = _steps(v_decay)
    leak = np.zeros(shape)
    if not at_once and population.bias is not None:
        bias = population.flat_bias()
        assert bias is not None
        leak = bias.reshape(shape) * steps
        metadata["bias"] = _real(bias.reshape(shape))
    membrane = {"r": steps, "v_leak": leak}
    if at_once:
        return "LIF", {"tau": steps * dt, **membrane, **same}
    current = _steps(i_decay)
    return "CubaLIF", {"tau_mem": steps * dt, "tau_syn": current * dt, "w_in": current, **membrane, **same}


def _steps(decay: Array) -> Array:
    """The time constant of a decay, in steps."""
    return np.where(decay > 0, 1 / np.where(decay > 0, decay, 1.0), _FOREVER)
