"""When each population of a graph runs on Lava, and what brings spikes to it in time.

On Lava every synapse takes a step. A population of the depth k sees the time step t of its input in the step t + k, so spikes
from the depth s that the network itself delays by d have to arrive k + d - s steps after they were sent. One of these the synapse
takes anyway. For the others

* Dense and Sparse synapses hold spikes back themselves, up to 62 steps;
* in front of a convolution stands a relay: neurons that fire one to one, behind a synapse that holds spikes back. Where several
  sources share the convolution (spikes added before it), one relay carries their sum as graded spikes.

So each convolution of late spikes costs one relay at most, and none where another population needed the same one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import prod

from custom_ops.loihi import MAX_DELAY

from ...errors import LimitError
from ...network import Edge, Map, Network, Neuron, Population, Shape
from .forms import Form, form

__all__ = ["Relay", "Schedule", "Stage", "Synapse", "schedule", "too_early_or_late"]

_RELAYS_IN_A_ROW = 128
_SEARCHED = 256  # populations: a search plans the whole network again for each, and a larger one is planned but once


@dataclass(frozen=True, eq=False)
class Synapse:
    """Spikes of some sources of one depth, added and sent through one map.

    Args:
        sources: names of inputs, populations and relays.
        depth: theirs.
        map: None for one to one.
        reads: the shape in which the map reads them.
        delay: steps by which the network itself delays them; those on their way at the end of a sample are lost.
        waits: steps that the synapse holds spikes back, beside the one that it takes.
        bits: those of the sum of the sources; 0 where it is spikes, 0 and 1.
    """

    sources: tuple[str, ...]
    depth: int
    map: Map | None
    reads: Shape
    delay: int
    waits: int
    bits: int


@dataclass(frozen=True, eq=False)
class Stage:
    """Neurons, and the synapses in front of them.

    Args:
        name: of the population or relay.
        shape: ``(C, H, W)`` or ``(F,)``.
        depth: it sees the time step t of its input in the step t + depth.
        synapses: at least one.
        population: None for a relay.
        graded: whether it sends sums instead of spikes.
    """

    name: str
    shape: Shape
    depth: int
    synapses: tuple[Synapse, ...]
    population: Population[Neuron] | None = None
    graded: bool = False


@dataclass(frozen=True)
class Relay:
    """What it costs that a graph's paths have different lengths.

    Args:
        name: of the relay.
        sources: the populations and inputs whose spikes it carries, each with the steps that it makes them later.
        neurons: how many it takes.
        graded: whether it carries the sum of its sources as graded spikes.
    """

    name: str
    sources: Mapping[str, int]
    neurons: int
    graded: bool


@dataclass(frozen=True, eq=False)
class Schedule:
    """All that runs, and when."""

    stages: tuple[Stage, ...]

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """By population and relay."""
        return {stage.name: stage.depth for stage in self.stages}

    @property
    def relays(self) -> list[Relay]:
        """In the order in which they run."""
        return [
            Relay(
                stage.name,
                {source: 1 + synapse.waits for synapse in stage.synapses for source in synapse.sources},
                prod(stage.shape),
                stage.graded,
            )
            for stage in self.stages
            if stage.population is None
        ]


def schedule(network: Network[Neuron]) -> Schedule:
    """When populations run so that the relays between them take as few neurons as a search finds.

    Args:
        network: legalised, of any neurons.

    Raises:
        LimitError: spikes would come too early or too late, see :func:`too_early_or_late`.
    """
    found = too_early_or_late(network)
    if found:
        raise LimitError(f"The population {found[0]!r} {found[1]}.")
    depths, _ = _depths(network)
    plan = _Planner(network, depths).planned()
    if not plan.relays or len(network.populations) > _SEARCHED:
        return plan
    return min((_improved(network, each) for each in (depths, _latest(network, depths))), key=_cost)


def _cost(plan: Schedule) -> tuple[int, int]:
    return sum(relay.neurons for relay in plan.relays), len(plan.relays)


def _improved(network: Network[Neuron], depths: Mapping[str, int]) -> Schedule:
    """From ``depths`` on, move one population after the other as early or as late as its neighbours allow, while that helps."""
    depths, plan, moved = dict(depths), _Planner(network, depths).planned(), True
    while moved:
        moved = False
        for each in network.populations:
            for depth in {_lowest(each, depths), _highest(network, each, depths)} - {depths[each.name]}:
                other = _Planner(network, depths | {each.name: depth}).planned()
                if _cost(other) < _cost(plan):
                    depths[each.name], plan, moved = depth, other, True
    return plan


def _lowest(population: Population[Neuron], depths: Mapping[str, int]) -> int:
    """The least depth in which all spikes have come."""
    return max(0, *(depths[edge.source] + 1 - edge.delay for edge in population.edges if edge.source != population.name))


def _highest(network: Network[Neuron], population: Population[Neuron], depths: Mapping[str, int]) -> int:
    """The largest depth from which spikes come in time; that of outputs, and of what nobody reads, stays as it is."""
    own = depths[population.name]
    waiting = [
        depths[each.name] - 1 + edge.delay
        for each in network.populations
        if each is not population
        for edge in each.edges
        if edge.source == population.name
    ]
    return own if population.name in network.outputs else min(waiting, default=own)


def _latest(network: Network[Neuron], depths: Mapping[str, int]) -> dict[str, int]:
    """All populations as late as possible without making the network as a whole later."""
    latest = dict(depths)
    for _ in network.populations:
        before = dict(latest)
        for each in reversed(network.populations):
            latest[each.name] = max(latest[each.name], _highest(network, each, latest))
        if latest == before:
            break
    return latest


def too_early_or_late(network: Network[Neuron]) -> tuple[str, str] | None:
    """The first population whose spikes Lava cannot bring in time, and what to say about it; None if there is none.

    Spikes pass each population of a loop in a step of its own, so that a loop of m populations takes m steps on Lava. Others wait
    in relays, up to 63 steps in each.
    """
    depths, loop = _depths(network)
    if loop:
        return loop[0].name, _quick(loop)
    for each in network.populations:
        latest = max((depths[each.name] - 1 - depths[edge.source] + edge.delay for edge in each.edges), default=0)
        if latest > _RELAYS_IN_A_ROW * (MAX_DELAY + 1):
            return each.name, (
                f"reads spikes that wait {latest:,} steps, which takes more than {_RELAYS_IN_A_ROW} relays one after the other "
                "on Lava: use a shorter delay, or a skip over fewer layers"
            )
    return None


def _quick(loop: list[Population[Neuron]]) -> str:
    others = ", ".join(repr(each.name) for each in loop[1:])
    return (
        f"is part of a loop, through {others}, that takes fewer steps than it has populations ({len(loop)}), but on Lava spikes "
        f"pass one population a step: delay the loop by {len(loop)} steps or more"
    )


def _depths(network: Network[Neuron]) -> tuple[dict[str, int], list[Population[Neuron]]]:
    """The longest path to each population, every edge being one step less its delay; or the loop that makes it endless."""
    depths = dict.fromkeys(network.shapes, 0)
    latest: dict[str, str] = {}
    for _ in range(len(network.populations) + 1):
        moved = ""
        for each in network.populations:
            for edge in each.edges:
                if depths[edge.source] + 1 - edge.delay > depths[each.name]:
                    depths[each.name] = depths[edge.source] + 1 - edge.delay
                    latest[each.name] = edge.source
                    moved = each.name
        if not moved:
            return depths, []
    for _ in network.populations:  # from behind the loop into it
        moved = latest[moved]
    loop = [moved]
    while latest[loop[-1]] != moved:
        loop.append(latest[loop[-1]])
    members = set(loop)
    return depths, [each for each in network.populations if each.name in members]


_Term = tuple[str, int]  # the source of spikes, and the network's delay


class _Planner:
    def __init__(self, network: Network[Neuron], depths: Mapping[str, int]) -> None:
        self._network = network
        self._depths = dict(depths)
        self._largest = {name: given.largest for name, given in network.inputs.items()}
        self._relays: dict[tuple[Shape, int], dict[str, frozenset[_Term]]] = {}
        self._stages: list[Stage] = []
        self._reader = ""

    def planned(self) -> Schedule:
        for each in sorted(self._network.populations, key=lambda population: self._depths[population.name]):
            self._reader = each.name
            synapses = [synapse for edges in _sharing(self._network, each) for synapse in self._of_map(each, edges)]
            self._stages.append(Stage(each.name, each.shape, self._depths[each.name], tuple(synapses), each))
        return Schedule(tuple(sorted(self._stages, key=lambda stage: stage.depth)))

    def _of_map(self, population: Population[Neuron], edges: list[Edge]) -> list[Synapse]:
        """The synapses of edges that share a map."""
        map_, reads, level = edges[0].map, self._network.reads(edges[0]), self._depths[population.name] - 1
        terms: list[_Term] = [(edge.source, edge.delay) for edge in edges]
        holds = form(map_, reads, delayed=True) is not Form.CONV
        late = [term for term in terms if self._waits(term, level) > (MAX_DELAY if holds else 0)]
        relays: list[_Term] = [(name, 0) for name in self._brought(frozenset(late), level, reads)]
        return self._synapses([*(term for term in terms if term not in late), *relays], level, map_, reads)

    def _waits(self, term: _Term, level: int) -> int:
        """Steps that spikes have left until they have to be sent at ``level``."""
        source, delay = term
        return level - self._depths[source] + delay

    def _synapses(self, terms: Iterable[_Term], level: int, map_: Map | None, reads: Shape) -> list[Synapse]:
        """One for each depth and delay of sources."""

        def kind(term: _Term) -> tuple[int, int]:
            return self._depths[term[0]], term[1]

        return [
            Synapse(
                sources := tuple(source for source, _ in of_kind),
                depth,
                map_,
                reads,
                delay,
                level - depth + delay,
                _bits(sum(self._value(source) for source in sources)),
            )
            for (depth, delay), of_kind in groupby(sorted(terms, key=lambda term: (*kind(term), term[0])), kind)
        ]

    def _value(self, source: str) -> int:
        return self._largest.get(source, 1)

    def _brought(self, terms: frozenset[_Term], level: int, reads: Shape) -> list[str]:
        """Relays of the depth ``level`` that carry ``terms`` together."""
        names, missing = _cover(terms, self._relays.get((reads, level), {}))
        return [*names, self._relay(missing, level, reads)] if missing else names

    def _relay(self, terms: frozenset[_Term], level: int, reads: Shape) -> str:
        """A new one, behind earlier ones that carry parts of it already."""
        feeds: list[_Term] = []
        missing = terms
        for depth in range(level - 1, level - 2 - MAX_DELAY, -1):
            names, missing = _cover(missing, self._relays.get((reads, depth), {}))
            feeds += [(name, 0) for name in names]
        for term in sorted(missing):
            if self._waits(term, level - 1) <= MAX_DELAY:
                feeds.append(term)
            else:
                feeds += [(name, 0) for name in self._brought(frozenset([term]), level - 1 - MAX_DELAY, reads)]
        name = self._free_name()
        self._depths[name] = level
        self._largest[name] = sum(self._value(source) for source, _ in terms)
        self._relays.setdefault((reads, level), {})[name] = terms
        synapses = self._synapses(feeds, level - 1, None, reads)
        self._stages.append(Stage(name, reads, level, tuple(synapses), graded=self._largest[name] > 1))
        return name

    def _free_name(self) -> str:
        """After the population that needs the relay first."""
        stem = f"{self._reader}.relay"
        name, count = stem, 1
        while name in self._depths:
            count += 1
            name = f"{stem}.{count}"
        return name


def _sharing(network: Network[Neuron], population: Population[Neuron]) -> list[list[Edge]]:
    """The edges of a population by their maps; a list has each source with each delay once."""
    shared: dict[tuple[Map, Shape, int], list[Edge]] = {}
    for edge in population.edges:
        copy = 0
        while any(
            (edge.source, edge.delay) == (other.source, other.delay)
            for other in shared.get((edge.map, network.reads(edge), copy), [])
        ):
            copy += 1
        shared.setdefault((edge.map, network.reads(edge), copy), []).append(edge)
    return list(shared.values())


def _cover(terms: frozenset[_Term], relays: Mapping[str, frozenset[_Term]]) -> tuple[list[str], frozenset[_Term]]:
    """Relays that carry parts of ``terms``, the largest first, and what is missing then."""
    names = []
    for name, carried in sorted(relays.items(), key=lambda item: -len(item[1])):
        if carried <= terms:
            names.append(name)
            terms -= carried
    return names, terms


def _bits(largest: int) -> int:
    """Of graded spikes up to ``largest``; 0 for spikes."""
    return largest.bit_length() if largest > 1 else 0
