"""Graphs as Lava processes: every spike of every population is that of the NumPy reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.utils.weightutils import SignMode, clip_weights, truncate_weights
from scipy.sparse import csr_matrix

from onnx2lava.errors import LimitError
from onnx2lava.lava_runtime import simulate
from onnx2lava.network import INPUT, Conv, CubaNeuron, Dense, Edge, Input, Network, Population
from onnx2lava.targets import TARGETS, run_lava, to_lava
from tests.onnx2lava.networks import IF, LEAKY, build, examples, looping_networks, loops, networks, spikes, weights
from tests.onnx2lava.test_lava_schedule import relays, sew_blocks

LAVA, NUMPY = TARGETS["lava"], TARGETS["numpy"]
EXAMPLES = examples() | {"late feedback": loops()["late feedback"]}


def check(network, steps=6, samples=3):
    """Several samples in one run, so that what one leaves behind would reach the next."""
    x = spikes(network, steps, samples)
    found, expected = LAVA.run(network, x), NUMPY.run(network, x)
    assert list(found) == [each.name for each in network.populations]
    for name, wanted in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == wanted.shape
        assert (found[name] == wanted).all(), name
    return expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_spike_is_the_same(name):
    check(EXAMPLES[name])


@seed(1)
@settings(max_examples=8, deadline=None)
@given(networks())
def test_random_graphs(network):
    check(network, 5)


@seed(2)
@settings(max_examples=6, deadline=None)
@given(looping_networks())
def test_random_loops(network):
    if LAVA.check(network):
        with pytest.raises(LimitError, match="fewer steps than it has populations"):
            run_lava(network, spikes(network, 2, 1))
        return
    check(network, 5)


def test_residual_blocks_that_add_spikes():
    network = sew_blocks(3)
    assert [relay.graded for relay in relays(network)] == [False, True, True]
    rates = {name: found.mean() for name, found in check(network).items()}
    assert all(0 < rate < 1 for rate in rates.values()), rates


def test_residual_blocks_that_multiply_spikes():
    """AND, and AND of one with the negation of the other: neurons with two edges, one to one."""
    rng = np.random.default_rng(3)
    shape = (2, 4, 4)

    def one_to_one(sign):
        return Conv(np.full((2, 1, 1, 1), 2 * sign, np.int32), groups=2)

    def conv(source):
        return Edge(source, Conv(weights(rng, 2, 2, 3, 3), pads=(1, 1, 1, 1)))

    def product(name, first, second, sign, threshold):
        edges = (Edge(first, one_to_one(1)), Edge(second, one_to_one(sign)))
        return Population(name, shape, CubaNeuron(4096, 4096, threshold), edges)

    populations = [
        Population("stem", shape, IF, (conv(INPUT),)),
        Population("left", shape, IF, (conv("stem"),)),
        Population("right", shape, LEAKY, (conv("left"),)),
        product("and", "stem", "right", 1, 2),
        product("iand", "left", "right", -1, 0),
    ]
    network = Network("products", {INPUT: Input(shape)}, tuple(populations), ("and", "iand"))
    assert relays(network) == []
    expected = check(network, 8)
    assert (expected["and"] == expected["stem"] * expected["right"]).all()
    assert (expected["iand"] == expected["left"] * (1 - expected["right"])).all()
    assert all(found.any() for found in expected.values())


def test_beyond_what_lavas_conv_can_count():
    """Its int8 has no 130 groups and no kernel of 130; there a Sparse stands in."""
    rng = np.random.default_rng(0)
    groups = Conv(weights(rng, 260, 1, 2, 2), groups=130)
    wide = Conv(weights(rng, 1, 1, 1, 130))
    network = Network(
        "wide",
        {"many": Input((130, 2, 2)), "long": Input((1, 2, 131))},
        (
            Population("groups", (260, 1, 1), CubaNeuron(4096, 0, 100), (Edge("many", groups),)),
            Population("kernel", (1, 2, 2), CubaNeuron(4096, 0, 900), (Edge("long", wide),)),
        ),
        ("groups", "kernel"),
    )
    assert all(found.any() for found in check(network, 4, 2).values())


@pytest.mark.parametrize("value", [0, -2, -256, 254])
def test_weights_that_netx_would_change(value):
    """All-zero ones, negated powers of two and the ends of the range, in each kind of synapse, at once and held back."""
    matrix = Dense(np.full((3, 4), value, np.int32))
    transposed = np.full((1, 1, 2, 2), value, np.int32)
    image = (1, 2, 2)
    populations = [
        Population("dense", (3,), CubaNeuron(4096, 0, 0), (Edge(INPUT, matrix), Edge(INPUT, matrix, 2)), np.int32([700] * 3)),
        Population(
            "conv",
            image,
            CubaNeuron(4096, 0, 0),
            (Edge(INPUT, Conv(transposed, pads=(1, 0, 0, 1)), reads=image),),
            np.int32([700]),
        ),
    ]
    network = Network("weights", {INPUT: Input((4,), 3)}, tuple(populations), ("dense", "conv"))
    check(network, 5, 2)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=6))
def test_no_even_weight_is_clipped_or_truncated(halves):
    """Lava reads the weights of Dense and Sparse as it is told to here: eight bits, mixed signs."""
    weight = 2 * np.array([halves], np.int32)
    for form in (np.asarray, csr_matrix):
        read = truncate_weights(clip_weights(form(weight), SignMode.MIXED, num_bits=8), SignMode.MIXED, 8)
        assert ((read.toarray() if form is csr_matrix else read) == weight).all()


def test_a_process_like_any_other():
    """It runs by Lava's own means, without our player and recorder, and forgets what is late when its samples end."""
    network = EXAMPLES["recurrent"]
    x = spikes(network, 5, 2)
    graph = to_lava(network, reset_interval=5, reset_offset=1)
    assert [layer.name for layer in graph.layers] == [each.name for each in network.populations]
    assert len(graph) == 3
    assert graph.inp.shape == (5, 4, 1)
    assert graph.out.shape == (6,)
    assert list(graph.inputs) == [INPUT]
    assert list(graph.outputs) == ["conv_fc.2"]

    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    stream = x[INPUT].swapaxes(0, 1).reshape(10, 1, 4, 5).transpose(3, 2, 1, 0).astype(np.int32)
    source, sink = Source(data=stream), Sink(shape=graph.out.shape, buffer=10 + graph.layers[-1].depth)
    source.s_out.connect(graph.inp)
    graph.out.connect(sink.a_in)
    graph.run(condition=RunSteps(num_steps=10 + graph.layers[-1].depth), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    record = sink.data.get()[:, graph.layers[-1].depth :]
    graph.stop()
    found = record.reshape(6, 2, 5).transpose(2, 1, 0)
    assert (found == NUMPY.run(network, x)["conv_fc.2"]).all()


def test_a_stream_without_end():
    """Without resets, samples are one long one."""
    network = EXAMPLES["delayed"]
    x = spikes(network, 12, 1)
    graph = to_lava(network)
    last = graph.layers[-1]
    (record,) = simulate(graph, [(graph.inp, x[INPUT][:, 0].astype(np.uint8))], [last.out], 12 + last.depth)
    assert (record[last.depth :, None] == NUMPY.run(network, x)["conv_fc.1"]).all()


def test_outputs_by_name():
    network = EXAMPLES["two inputs and two outputs"]
    x = spikes(network, 4, 2)
    found, expected = run_lava(network, x), NUMPY.run(network, x)
    assert list(found) == ["last", "heard"]
    assert all((found[name] == expected[name]).all() for name in found)
    done = []
    one = EXAMPLES["dense"]
    x = spikes(one, 4, 3)
    alone = run_lava(one, x[INPUT], progress=lambda *each: done.append(each))
    assert (alone == NUMPY.run(one, x)["conv_fc.1"]).all()
    assert done[:3] == [(1, 3), (2, 3), (3, 3)]
    assert run_lava(one, np.zeros((0, 3, 5))).shape == (0, 3, 4)


@pytest.mark.parametrize(("steps", "samples"), [(1, 4), (2, 3)])
def test_fewer_steps_than_layers(steps, samples):
    for network in (EXAMPLES["sums of synapses and concatenation"], sew_blocks(2), EXAMPLES["a delayed convolution"]):
        check(network, steps, samples)


def test_convolutions_that_would_wrap_are_refused():
    network = build((4000,), [(Dense(weights(np.random.default_rng(0), 2, 4000)), IF, False)], bits=6)
    assert LAVA.check(network) == []
    wide = Conv(np.full((1, 4000, 1, 1), 254, np.int32))
    network = Network(
        "wide", {INPUT: Input((4000, 1, 1), 4)}, (Population("conv", (1, 1, 1), IF, (Edge(INPUT, wide),)),), ("conv",)
    )
    (finding,) = LAVA.check(network)
    assert "2**23" in finding.message
    with pytest.raises(LimitError, match="wraps around"):
        run_lava(network, spikes(network, 1, 1))
    assert LAVA.check(replace(network, inputs={INPUT: Input((4000, 1, 1), 3)})) == []
