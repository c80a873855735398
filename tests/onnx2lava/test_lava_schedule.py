"""When populations run on Lava, and what brings spikes to them in time; no Lava is needed to know."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from custom_ops.loihi import MAX_DELAY
from onnx2lava.errors import LimitError
from onnx2lava.network import INPUT, Conv, CubaNeuron, Dense, Edge, Input, Network, Population
from onnx2lava.targets import TARGETS
from onnx2lava.targets.lava import Relay, Schedule, plan, schedule
from onnx2lava.targets.lava.forms import Form, form, legalised
from onnx2lava.verification.tables import relay_table

from .networks import IF, build, examples, looping_networks, loops, networks, weights

RNG = np.random.default_rng(0)
SAME = Conv(weights(RNG, 2, 2, 3, 3), pads=(1, 1, 1, 1))
SHAPE = (2, 4, 4)
NEURONS = 32


def population(name: str, *edges: Edge) -> Population[CubaNeuron]:
    return Population(name, SHAPE, IF, edges)


def network(*populations: Population[CubaNeuron], bits: int = 0) -> Network[CubaNeuron]:
    return Network("test", {INPUT: Input(SHAPE, bits)}, populations, (populations[-1].name,))


def conv(source: str, delay: int = 0) -> Edge:
    return Edge(source, Conv(SAME.weight, pads=(1, 1, 1, 1)), delay)


def sew_blocks(count: int) -> Network[CubaNeuron]:
    """Residual blocks that add spikes: what a block reads is the sum of what all blocks before it gave."""
    populations = [population("stem", conv(INPUT))]
    summands = ["stem"]
    for block in range(count):
        shared = Conv(SAME.weight, pads=(1, 1, 1, 1))
        populations.append(population(f"block{block}.first", *(Edge(source, shared) for source in summands)))
        populations.append(population(f"block{block}.second", conv(f"block{block}.first")))
        summands.append(f"block{block}.second")
    shared = Conv(SAME.weight, pads=(1, 1, 1, 1))
    return network(*populations, population("last", *(Edge(source, shared) for source in summands)))


def relays(given_network: Network[CubaNeuron]) -> list[Relay]:
    planned = plan(given_network)
    assert planned is not None
    return planned.relays


def arrivals(planned: Schedule) -> dict[str, Counter[tuple[int, str, int]]]:
    """For each population what reaches it: map, source and the network time that it takes, relays followed back to sources."""
    stages = {stage.name: stage for stage in planned.stages}

    def origins(source: str) -> Counter[tuple[str, int]]:
        """What a source carries, each with its delay in network time."""
        stage = stages.get(source)
        if stage is None or stage.population is not None:
            return Counter([(source, 0)])
        found: Counter[tuple[str, int]] = Counter()
        for synapse in stage.synapses:
            assert synapse.map is None
            for each in synapse.sources:
                for (name, delay), count in origins(each).items():
                    found[name, delay + synapse.delay] += count
        return found

    found = {}
    for stage in planned.stages:
        reached: Counter[tuple[int, str, int]] = Counter()
        for synapse in stage.synapses:
            for source in synapse.sources:
                depth = stages[source].depth if source in stages else 0
                assert depth == synapse.depth
                assert synapse.waits == stage.depth - 1 - depth + synapse.delay, "it comes at another time"
                assert 0 <= synapse.waits <= MAX_DELAY
                for (name, delay), count in origins(source).items():
                    reached[id(synapse.map), name, delay + synapse.delay] += count
            assert synapse.waits == 0 or form(synapse.map, synapse.reads, delayed=True) is not Form.CONV
        if stage.population is not None:
            found[stage.name] = reached
    return found


def check(planned: Schedule, given_network: Network[CubaNeuron]) -> None:
    found = arrivals(planned)
    for each in given_network.populations:
        assert found[each.name] == Counter((id(edge.map), edge.source, edge.delay) for edge in each.edges)


@settings(max_examples=100, deadline=None)
@given(st.one_of(networks(), looping_networks()), st.sampled_from([1, 1, 30, 100]))
@example(sew_blocks(5), 1)
def test_every_spike_arrives_once_and_in_time(given_network, slower):
    """Delays far above those that a synapse has are among them."""
    legal = legalised(
        replace(
            given_network,
            populations=tuple(
                replace(each, edges=tuple(replace(edge, delay=edge.delay * slower) for edge in each.edges))
                for each in given_network.populations
            ),
        )
    )
    if TARGETS["lava"].check(legal):
        with pytest.raises(LimitError):
            schedule(legal)
        return
    check(schedule(legal), legal)


def test_chains_need_no_relays():
    for name, each in examples().items():
        depths = schedule(legalised(each)).depths
        if all(edge.source != INPUT and len(edges.edges) == 1 for edges in each.populations[1:] for edge in edges.edges):
            assert all(depths[population.name] <= index + 1 for index, population in enumerate(each.populations)), name
    assert relays(build((2, 5, 5), [(SAME, IF, False), (SAME, IF, True), (Dense(weights(RNG, 3, 50)), IF, False)])) == []


@pytest.mark.parametrize("blocks", [1, 2, 6])
def test_a_relay_for_each_residual_block(blocks):
    """Each carries what the one before has, and the spikes since; a relay for each source would make quadratically many."""
    found = relays(sew_blocks(blocks))
    assert [relay.neurons for relay in found] == [NEURONS] * blocks
    assert [relay.graded for relay in found] == [False] + [True] * (blocks - 1)
    assert found[0].sources == {"stem": 2}
    for block in range(1, blocks):
        assert found[block].sources == {found[block - 1].name: 2, f"block{block - 1}.second": 2}


def test_a_skip_that_costs_nothing():
    """Matrices, and maps with a synapse for each neuron, hold spikes back themselves."""
    identity = Conv(np.full((2, 1, 1, 1), 64, np.int32), groups=2)
    skipped = [
        network(population("a", conv(INPUT)), population("b", conv("a")), population("c", conv("b"), Edge("a", identity))),
        network(
            population("a", conv(INPUT)),
            population("b", conv("a")),
            population("c", conv("b"), Edge(INPUT, Dense(weights(RNG, 32, 32)))),
        ),
    ]
    for each in skipped:
        assert relays(each) == []
        check(schedule(each), each)


def test_populations_share_relays():
    each = network(
        population("a", conv(INPUT)),
        population("b", conv("a")),
        population("c", conv("b"), conv(INPUT)),
        population("d", conv("b"), conv(INPUT)),
    )
    (relay,) = relays(each)
    assert (relay.sources, relay.neurons, relay.graded) == ({INPUT: 2}, NEURONS, False)
    check(schedule(each), each)


def test_counts_are_relayed_as_counts():
    each = network(population("a", conv(INPUT)), population("b", conv("a"), conv(INPUT)), bits=5)
    (relay,) = relays(each)
    assert relay.graded
    (stage,) = (stage for stage in schedule(each).stages if stage.population is None)
    assert [synapse.bits for synapse in stage.synapses] == [5]


def test_the_steps_that_lava_takes_count_as_delay():
    """Populations side by side, one of which reads the other's spikes a step late: nothing waits for anything."""
    each = network(
        population("a", conv(INPUT)), population("b", conv(INPUT), conv("a", 1)), population("c", conv("b"), conv("a"))
    )
    assert relays(each) == []
    assert schedule(each).depths == {"a": 1, "b": 1, "c": 2}


def test_a_delay_longer_than_any_synapse_has():
    each = network(population("a", Edge(INPUT, Dense(weights(RNG, 32, 32)), 200)), population("b", conv("a", 150)))
    found = relays(each)
    assert max(steps for relay in found for steps in relay.sources.values()) == MAX_DELAY + 1
    check(schedule(each), each)


@pytest.mark.parametrize("late", [8_000, 8_100, 2**31 - 1])
def test_no_delay_is_too_long_to_be_said(late):
    given_network = network(population("a", conv(INPUT)), population("b", conv("a", late)))
    if late > 8_000:
        (finding,) = TARGETS["lava"].check(given_network)
        assert f"reads spikes that wait {late - 2:,} steps, which takes more than 128 relays" in finding.message
        assert plan(given_network) is None
    else:
        assert not TARGETS["lava"].check(given_network)
        assert len(relays(given_network)) == 127


def test_a_skip_over_thousands_of_layers():
    layers = [population(f"{index}", conv(f"{index - 1}" if index else INPUT)) for index in range(3_000)]
    given_network = network(*layers, population("last", conv("2999"), conv("0")))
    assert len(relays(given_network)) == -(-2_999 // (MAX_DELAY + 1))


def test_a_loop_needs_a_step_for_each_population():
    quick = loops()["a loop through two"]
    (finding,) = TARGETS["lava"].check(quick)
    assert (finding.population, finding.target) == ("first", "lava")
    assert "through 'second', that takes fewer steps than it has populations (2)" in finding.message
    assert plan(quick) is None
    first, second = quick.populations
    slow = replace(first, edges=(first.edges[0], replace(first.edges[1], delay=2)))
    assert TARGETS["lava"].check(replace(quick, populations=(slow, second))) == []


@pytest.mark.parametrize("late_first", [True, False])
def test_populations_move_to_where_relays_are_small(late_first):
    """A short branch beside a long one waits where its spikes are few, or where a matrix holds them back."""
    few = Conv(weights(RNG, 1, 2, 4, 4))
    many = Conv(weights(RNG, 1, 2, 3, 3), pads=(1, 1, 1, 1))
    wide, narrow = Edge("wide", Conv(weights(RNG, 2, 1, 3, 3), pads=(1, 1, 1, 1))), Edge("narrow", Dense(weights(RNG, 32, 1)))
    short = (
        [Population("narrow", (1,), IF, (Edge(INPUT, Dense(weights(RNG, 1, 32))),)), population("short", narrow)]
        if late_first
        else [Population("wide", (1, 4, 4), IF, (Edge(INPUT, many),)), population("short", wide)]
    )
    each = network(
        population("a", conv(INPUT)),
        population("b", conv("a")),
        population("c", conv("b")),
        population("d", conv("c")),
        *short,
        population("last", conv("d"), conv("short")),
        Population("few", (1, 1, 1), IF, (Edge("last", few),)),
    )
    found = relays(each)
    assert sum(relay.neurons for relay in found) == (0 if late_first else 16)
    check(schedule(each), each)


def test_inspect_lists_relays():
    sheet = relay_table(sew_blocks(2))
    assert sheet is not None
    assert list(sheet.rows) == [
        ["block1.first.relay", "stem 2 steps later", "spikes", "32"],
        ["last.relay", "block0.second 2 steps later, block1.first.relay 2 steps later", "sums", "32"],
    ]
    assert relay_table(sew_blocks(0)) is None
    assert relay_table(loops()["a loop through two"]) is None
