"""From what happens in a network to what it costs on a chip: cores, axons, operations, and their energy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..conversion import quantize
from ..errors import ConversionError
from ..host import encode
from ..network import Array, CubaNeuron, Network
from ..targets import TARGETS, Target
from ..verification.chip import estimate as cores_of
from ..verification.model import Subject, opened
from ..verification.source import Given, source
from ..verification.tables import depths
from .activity import Activity, activity

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..read.onnx_file import InputKind

__all__ = ["ENERGY", "Cost", "EnergyFigures", "Estimate", "estimate"]

_RUNTIMES = ("ort-native", "ort", "numpy")
"""Where the spikes come from: the first that is here and holds the network. All give the same."""
_CHUNK_BYTES = 2**25
"""What the spikes of the samples that run together may take."""


@dataclass(frozen=True)
class EnergyFigures:
    """Joules of one operation.

    Args:
        synaptic: one synapse passed by a spike, at least.
        idle, active: one neuron updated in one time step: with nothing to do, and with.
        spike: one spike brought to a core of the same tile.
        source: where the figures were published.
        limits: what they do not say.
    """

    synaptic: float
    idle: float
    active: float
    spike: float
    source: str
    limits: str


ENERGY = EnergyFigures(
    synaptic=23.6e-12,
    idle=52e-12,
    active=81e-12,
    spike=1.7e-12,
    source="Davies et al., Loihi: A Neuromorphic Manycore Processor with On-Chip Learning, IEEE Micro 38(1), 2018, table 2",
    limits="They are of the first Loihi (14 nm), from simulations of its circuits; we know of none for Loihi 2. They leave out "
    "what the chip takes while it does nothing, hops of spikes between tiles, its x86 cores, and the host.",
)
"""Published figures, and their source."""


@dataclass(frozen=True)
class Cost:
    """One population, for one sample.

    Args:
        name: of the population.
        neurons: how many.
        spikes: that it gives.
        rate: spikes per neuron and time step.
        spikes_in: that come to it over all edges.
        synaptic_events: synapses that these pass.
        updates: of its neurons, each in every time step.
        axons: that lead to its cores: at least one from each neuron that it reads, at most one to each core.
        cores: the fewest and the most neuro-cores that it takes.
        messages: spikes brought to its cores, at least one for each of ``spikes_in``, at most one for each core.
        joules: the least, with neurons that have nothing to do and few messages, and the most.
    """

    name: str
    neurons: int
    spikes: float
    rate: float
    spikes_in: float
    synaptic_events: float
    updates: int
    axons: tuple[int, int]
    cores: tuple[int, int]
    messages: tuple[float, float]
    joules: tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """What :func:`estimate` found; everything is for one sample, a mean over all.

    Args:
        samples: that ran.
        steps: time steps of a sample.
        latency: time steps from its first input to its last output, where each layer takes one to hand on its spikes, as in Lava.
        runtime: where they ran.
        inputs: spikes that come in, by the name of each input.
        layers: one entry per population.
        figures: what ``joules`` were made with.
    """

    samples: int
    steps: int
    latency: int
    runtime: str
    inputs: Mapping[str, float]
    layers: tuple[Cost, ...]
    figures: EnergyFigures

    @property
    def synaptic_events(self) -> float:
        """Over all layers."""
        return sum(each.synaptic_events for each in self.layers)

    @property
    def spikes(self) -> float:
        """That all layers give."""
        return sum(each.spikes for each in self.layers)

    @property
    def joules(self) -> tuple[float, float]:
        """The least and the most, over all layers."""
        return sum(each.joules[0] for each in self.layers), sum(each.joules[1] for each in self.layers)

    @property
    def cores(self) -> tuple[int, int]:
        """The fewest and the most, over all layers; they share none."""
        return sum(each.cores[0] for each in self.layers), sum(each.cores[1] for each in self.layers)


def estimate(
    model: Subject,
    x: Given,
    *,
    scale: Literal["auto"] | float = "auto",
    calibration: Array | Mapping[str, Array] | None = None,
    input: "InputKind | None" = None,
    output: str | None = None,
    figures: EnergyFigures = ENERGY,
    progress: "Callable[[str, int, int | None], None] | None" = None,
) -> Estimate:
    """Run the network's integers on some input, count what happens, and estimate what that takes on Loihi.

    Operations are counted exactly, spike by spike; cores are those of ``inspect``; energy is a sum of counts times ``figures``.

    Args:
        model: what ``verify`` takes.
        x: likewise, input ``[T, N, *]``; a few hundred typical samples are enough.
        scale, calibration: for ``quantize``.
        input: what a file is fed with, see ``load``; by default what the exporter saw, else spikes.
        output: which of a file's outputs is the network's.
        figures: joules of each operation; by default those of the first Loihi.
        progress: called with the name of the runtime, the samples that it has done, and how many there are, if that is known.

    Raises:
        ConversionError: input and network do not fit; or anything that ``load`` and ``quantize`` raise.
    """
    given = opened(model, input, output).network
    network = quantize(given, scale=scale, calibration=calibration)
    found = source(given, x, None, None)
    target = _runtime(network)
    neurons = sum(each.neurons for each in network.populations)
    together = max(1, _CHUNK_BYTES // (8 * neurons * (found.steps or 32)))
    counted: Activity | None = None
    for chunk in found.chunks(together, 0, None):
        fed = encode(network, chunk.x)
        part = activity(network, {**fed, **target.run(network, fed)})
        counted = part if counted is None else counted + part
        if progress is not None:
            progress(target.name, counted.samples, found.samples)
    if counted is None:
        raise ConversionError("The input has no samples: there is nothing to count.")
    return _costs(network, counted, figures, target.name)


def _runtime(network: Network[CubaNeuron]) -> Target:
    for name in _RUNTIMES:
        target = TARGETS[name]
        if target.available() is None and not any(finding.target in (name, "loihi") for finding in target.check(network)):
            return target
    return TARGETS[_RUNTIMES[-1]]  # which says what is wrong


def _costs(network: Network[CubaNeuron], counted: Activity, figures: EnergyFigures, runtime: str) -> Estimate:
    layers = tuple(_cost(network, counted, each.name, figures) for each in network.populations)
    found = depths(network)
    latest = max(found[name] for name in network.outputs)
    inputs = {name: counted.spikes[name] / counted.samples for name in network.inputs}
    return Estimate(counted.samples, counted.steps, counted.steps + latest, runtime, inputs, layers, figures)


def _cost(network: Network[CubaNeuron], counted: Activity, name: str, figures: EnergyFigures) -> Cost:
    population = network[name]
    samples, steps = counted.samples, counted.steps
    edges = [each for each in counted.traffic if each.target == name]
    spikes_in = sum(each.spikes for each in edges) / samples
    events = sum(each.events for each in edges) / samples
    axons = sum(each.axons for each in edges)
    cores = cores_of(network, population)
    spikes = counted.spikes[name] / samples
    updates = population.neurons * steps
    messages = spikes_in, spikes_in * cores.most
    return Cost(
        name=name,
        neurons=population.neurons,
        spikes=spikes,
        rate=spikes / updates,
        spikes_in=spikes_in,
        synaptic_events=events,
        updates=updates,
        axons=(axons, axons * cores.most),
        cores=(cores.fewest, cores.most),
        messages=messages,
        joules=(
            events * figures.synaptic + updates * figures.idle + messages[0] * figures.spike,
            events * figures.synaptic + updates * figures.active + messages[1] * figures.spike,
        ),
    )
