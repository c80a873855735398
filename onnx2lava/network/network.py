"""A network for Loihi as a typed graph: populations of neurons, and edges that bring them the spikes of others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Generic, TypeGuard, TypeVar

import numpy as np
import onnx

from ..errors import ConversionError, NetworkError
from .maps import Array, Conv, Map, Shape
from .neurons import CubaNeuron, Neuron

__all__ = ["INPUT", "OUTPUT", "Edge", "Input", "Network", "Population", "is_loihi", "require_loihi"]

INPUT = "input"
"""The name of the input of a network that has one; also the input of its ONNX graph."""
OUTPUT = "output"
"""The output of its ONNX graph, if the network has one."""

_LARGEST_NUMBER = 2**16
"""Of images: with any weight, float32 still holds the product's unit."""

N_co = TypeVar("N_co", bound=Neuron, covariant=True)


@dataclass(frozen=True)
class Input:
    """What comes in from outside.

    Args:
        shape: ``(C, H, W)`` or ``(F,)`` of one sample at one time step.
        bits: 0 where it is spikes, 0 and 1; else it is counts of events below ``2 ** bits`` (graded spikes).
        origin: behind an encoder, the name of the value in the ONNX file that holds what the encoder gives; else None.
        numbers: whether any numbers come in, such as images, in place of spikes. One population reads them, each neuron one of
            them, and their products with the weight are rounded to whole numbers (ties to even): NetX's ``Input`` block.
        repeats: the time steps for which the network was given one array ``[N, *]``, which it repeated itself; 0 where it was
            given one for each. Loihi reads one for each.
    """

    shape: Shape
    bits: int = 0
    origin: str | None = None
    numbers: bool = False
    repeats: int = 0

    @property
    def largest(self) -> int:
        """The largest number that comes in, of either sign."""
        return _LARGEST_NUMBER if self.numbers else 2**self.bits - 1 if self.bits else 1


@dataclass(frozen=True, eq=False)
class Edge:
    """How the spikes of a source reach a population. Edges may share one map: spikes may then be added before it.

    Args:
        source: the name of an input, of a population, or of the edge's own population (feedback, with a delay of at least 1).
        map: turns spikes into sums; what it gives is arranged as the population, element by element in row-major order.
        delay: time steps that the spikes take; those that are on their way when the input ends are lost.
        reads: the shape in which ``map`` reads the source's spikes, in row-major order, ``(C, H, W)``; None for that of the
            source itself.
    """

    source: str
    map: Map
    delay: int = 0
    reads: Shape | None = None


@dataclass(frozen=True, eq=False)
class Population(Generic[N_co]):
    """Neurons of one kind, and the edges whose sums they add up.

    Args:
        name: module path in the network it was trained as.
        shape: ``(C, H, W)`` or ``(F,)``.
        neuron: what turns sums into spikes; all neurons of a population are of one kind.
        edges: at least one.
        bias: added to the voltage at every step, ``[C]`` (one per channel) or of the shape ``shape``; for Loihi a mantissa with
            exponent 6.
        origin: name of the value in the ONNX file that holds its spikes, or of those that hold one time step each; None where it
            was not read from one.
    """

    name: str
    shape: Shape
    neuron: N_co
    edges: tuple[Edge, ...]
    bias: Array | None = None
    origin: str | tuple[str, ...] | None = None

    @cached_property
    def neurons(self) -> int:
        """How many."""
        return prod(self.shape)

    @property
    def feedback(self) -> tuple[Edge, ...]:
        """The edges that bring it its own spikes."""
        return tuple(edge for edge in self.edges if edge.source == self.name)

    @property
    def fan_in(self) -> int:
        """How many spikes one sum can add up, over all edges."""
        return sum(edge.map.fan_in for edge in self.edges)

    @property
    def maps(self) -> tuple[Map, ...]:
        """Of all edges, each once: edges may share one."""
        return tuple({id(edge.map): edge.map for edge in self.edges}.values())

    def weights(self) -> Array:
        """The weights of all maps, one after the other, flat."""
        return np.concatenate([each.weight.reshape(-1) for each in self.maps])

    def bias_column(self) -> Array:
        """The bias with as many axes as ``shape``, broadcast to it: ``[C, 1, 1]``, ``[C, H, W]`` or ``[F]``; zeros if there is
        none."""
        return self._column(np.zeros(1, np.int32) if self.bias is None else self.bias)

    def parameter(self, name: str) -> Array:
        """A parameter of its CUBA neurons, likewise."""
        return self._column(np.atleast_1d(getattr(self.neuron, name)))

    def _column(self, values: Array) -> Array:
        return values if values.ndim == len(self.shape) else values.reshape(-1, *[1] * (len(self.shape) - 1))

    def flat_bias(self) -> Array | None:
        """The bias of each neuron, ``[F]``, in row-major order; None if there is none."""
        return None if self.bias is None else np.broadcast_to(self.bias_column(), self.shape).reshape(-1)


@dataclass(frozen=True, eq=False)
class Network(Generic[N_co]):
    """Populations in an order in which each stands behind the sources of its edges without delay.

    ``Network[CubaNeuron]`` is made of Loihi's integers; ``Network[Neuron]`` may have neurons of real numbers among them.

    Args:
        name: for the reader.
        inputs: by name; :data:`INPUT` where there is one.
        populations: at least one.
        outputs: names of the populations whose spikes go out.
        metadata: what the producer says about itself (ONNX metadata).
        encoder: what stays on the host and makes spikes of images: a model from ``input`` ``[T, N, *]`` to the network's inputs,
            ``[T, N, *shape]``, named as they are, or ``output`` where there is one. None where spikes go in as they are.
        readout: what stays on the host behind the last spikes: from the network's outputs, named as they are, or ``input`` where
            there is one, to ``output``; None if nothing.

    Raises:
        NetworkError: the parts do not fit together; the message names the population.
    """

    name: str
    inputs: Mapping[str, Input]
    populations: tuple[Population[N_co], ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    encoder: onnx.ModelProto | None = None
    readout: onnx.ModelProto | None = None

    def __post_init__(self) -> None:
        _validate(self)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Of all inputs and populations, by name."""
        return {name: given.shape for name, given in self.inputs.items()} | {each.name: each.shape for each in self.populations}

    def __repr__(self) -> str:
        """A line per population; weights would fill the screen."""
        given = ", ".join(f"{name} {each.shape}" for name, each in self.inputs.items())
        lines = [f"Network {self.name!r}: {given} -> {', '.join(self.outputs)}"]
        for each in self.populations:
            edges = ", ".join(f"{type(edge.map).__name__} of {edge.source!r}" for edge in each.edges)
            lines.append(f"    {each.name!r} {each.shape}: {edges}; {each.neuron}")
        return "\n".join(lines)

    def __getitem__(self, name: str) -> Population[N_co]:
        """The population ``name``."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Population[N_co]]:
        return {each.name: each for each in self.populations}

    def reads(self, edge: Edge) -> Shape:
        """The shape in which the map of ``edge`` reads its source."""
        return self.shapes[edge.source] if edge.reads is None else edge.reads

    def connections(self, population: Population[Neuron]) -> int:
        """Synaptic operations per time step at most, over all edges of ``population``."""
        return sum(edge.map.connections(self.reads(edge)) for edge in population.edges)


def is_loihi(network: Network[Neuron]) -> TypeGuard[Network[CubaNeuron]]:
    """Whether all neurons are Loihi's, and so all numbers whole."""
    return all(isinstance(each.neuron, CubaNeuron) for each in network.populations)


def require_loihi(network: Network[Neuron]) -> Network[CubaNeuron]:
    """The network, if it is made of Loihi's integers.

    Raises:
        ConversionError: a population has neurons of real numbers.
    """
    if is_loihi(network):
        return network
    real = next(each.name for each in network.populations if not isinstance(each.neuron, CubaNeuron))
    raise ConversionError(
        f"The population {real!r} has neurons of real numbers: quantise the network first (onnx2lava.quantize)."
    )


def _validate(network: Network[Any]) -> None:
    """The one place where a network is checked: names, sources, shapes and numbers."""
    if not network.populations:
        raise NetworkError(f"The network {network.name!r} has no spiking layer: there is nothing to convert.")
    if not network.name.isprintable():
        raise NetworkError(f"The network's name {network.name!r} has characters that cannot be shown: rename it.")
    if not network.inputs:
        raise NetworkError(f"The network {network.name!r} has no input.")
    shapes: dict[str, Shape] = {}
    for name, given in network.inputs.items():
        _check_name(name, shapes)
        _check_shape(given.shape, f"the input {name!r}")
        if not 0 <= given.bits <= 24:
            raise NetworkError(f"The input {name!r} has counts of {given.bits} bits, but float32 holds at most 24.")
        shapes[name] = given.shape
    all_shapes = shapes | {each.name: each.shape for each in network.populations}
    for each in network.populations:
        _check_name(each.name, shapes)
        _check_population(each, shapes, all_shapes)
        shapes[each.name] = each.shape
    for name, given in network.inputs.items():
        if given.numbers:
            _check_one_to_one(name, [(each, edge) for each in network.populations for edge in each.edges if edge.source == name])
    names = {each.name for each in network.populations}
    if not network.outputs or any(name not in names for name in network.outputs):
        raise NetworkError(f"The outputs {list(network.outputs)} are not all populations of the network {network.name!r}.")
    # The output of the ONNX graph may have the name of the population whose spikes it is, and no other.
    if OUTPUT in names and network.outputs != (OUTPUT,):
        raise NetworkError(f"The name {OUTPUT!r} is reserved for the network's only output: give every layer a name of its own.")


def _check_one_to_one(name: str, edges: list[tuple[Population[Neuron], Edge]]) -> None:
    """Where any numbers come in, only one product is rounded for each neuron: sums of them would depend on their order."""
    if len(edges) == 1:
        population, edge = edges[0]
        map_ = edge.map
        plain = isinstance(map_, Conv) and map_.weight.shape[1:] == (1, 1, 1) and map_.groups == len(map_.weight)
        if plain and len(population.edges) == 1 and not edge.delay and isinstance(population.neuron, CubaNeuron):
            return
    raise NetworkError(f"The input {name!r} holds any numbers: only one population of CUBA neurons can read it, one to one.")


def _check_name(name: str, taken: Mapping[str, Shape]) -> None:
    if not name.isprintable():
        raise NetworkError(f"The name {name!r} has characters that cannot be shown: rename the layer.")
    if not name or name in taken:
        raise NetworkError(f"The name {name!r} is empty or taken: give every layer a name of its own.")


def _check_population(population: Population[Neuron], before: Mapping[str, Shape], everything: Mapping[str, Shape]) -> None:
    where = f"the population {population.name!r}"
    _check_shape(population.shape, where)
    if not population.edges:
        raise NetworkError(f"In {where}: no edge leads to it.")
    for edge in population.edges:
        if edge.delay < 0:
            raise NetworkError(f"In {where}: its spikes are {edge.delay} steps late, which is below 0.")
        if edge.source not in (everything if edge.delay else before):
            raise NetworkError(
                f"In {where}: it reads {edge.source!r}, which is neither an input nor a population before it: only spikes with a "
                "delay of at least 1 can come from behind."
            )
        source = everything[edge.source]
        reads = source if edge.reads is None else edge.reads
        if prod(reads) != prod(source):
            raise NetworkError(f"In {where}: it reads {edge.source!r} as {reads}, but that has the shape {source}.")
        try:
            sums = edge.map.output_shape(reads)
        except NetworkError as error:
            raise NetworkError(f"In {where}: {error}.") from error
        if prod(sums) != population.neurons:
            raise NetworkError(f"In {where}: {edge.source!r} gives it sums of the shape {sums}, but it is {population.shape}.")
        _check_numbers(edge.map.weight, f"the weight of {where}", isinstance(population.neuron, CubaNeuron))
    if isinstance(population.neuron, CubaNeuron):
        for name, values in population.neuron.parameters():
            if isinstance(values, np.ndarray):
                if values.shape not in (population.shape, population.shape[:1]):
                    raise NetworkError(f"In {where}: {name} has the shape {values.shape}, but needs {population.shape[:1]}.")
                _check_numbers(values, f"{name} of {where}", whole=True)
    if population.bias is not None:
        if population.bias.shape not in (population.shape, population.shape[:1]):
            raise NetworkError(f"In {where}: the bias has the shape {population.bias.shape}, but needs {population.shape[:1]}.")
        _check_numbers(population.bias, f"the bias of {where}", isinstance(population.neuron, CubaNeuron))


def _check_shape(shape: Shape, where: str) -> None:
    if len(shape) not in (1, 3) or min(shape) < 1 or prod(shape) >= 2**31:
        raise NetworkError(f"The shape of {where} is {shape}, but spikes come as (C, H, W) or (F,), 1 to 2**31 of them.")


def _check_numbers(values: Array, where: str, whole: bool) -> None:
    if values.dtype.kind not in ("iu" if whole else "iuf"):
        kind = "whole numbers, which Loihi's neurons add up" if whole else "numbers"
        raise NetworkError(f"In {where} there are values of the type {values.dtype}, not {kind}.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NetworkError(f"In {where} there is a value that is not finite: train again or repair the file.")
