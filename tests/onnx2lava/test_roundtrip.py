"""A network written as ONNX reads back as itself, and onnxruntime agrees with NumPy in every spike."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import custom_ops
from onnx2lava import load, to_onnx
from onnx2lava.errors import LimitError
from onnx2lava.network import Conv, ConvTranspose, Dense, Edge, Kernel, Network
from onnx2lava.targets import TARGETS
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.networks import (
    IF,
    assert_same,
    build,
    chains,
    examples,
    float_networks,
    looping_networks,
    loops,
    networks,
    on_grid,
    random_chains,
    spikes,
    unusual_chains,
    weights,
)

EXAMPLES = examples()
READ_BACK = chains() | {name: each for name, each in unusual_chains().items() if "out of a matrix" not in name}


def assert_same_spikes(network, names=("ort", "ort-native"), steps=6, samples=2):
    x = spikes(network, steps, samples)
    expected = simulate(network, x)
    for name in names:
        found = TARGETS[name].run(network, x)
        assert list(found) == list(expected)
        for population, values in expected.items():
            np.testing.assert_array_equal(found[population], values, err_msg=f"{name}: {population}")
    return expected


@pytest.mark.parametrize("name", READ_BACK)
@pytest.mark.parametrize("outputs", ["last", "all"])
def test_a_written_chain_reads_back_as_itself(name, outputs):
    network = READ_BACK[name]
    found = load(to_onnx(network, outputs=outputs))
    assert_same(found, network)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_spike_equals_the_numpy_reference(name):
    for population, values in assert_same_spikes(EXAMPLES[name], steps=12, samples=3).items():
        assert 0 < values.mean() < 1, f"{population} never or always fires: this case tests nothing"


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_read_back_spikes_alike(name):
    network = EXAMPLES[name]
    found = load(to_onnx(network, outputs="all"))
    x = spikes(network, 6, 2)
    expected = simulate(network, x)
    for population, values in simulate(found, x).items():
        assert (values.reshape(expected[population].shape) == expected[population]).all()


@settings(max_examples=100, deadline=None)
@given(networks())
def test_random_graphs_spike_alike_and_read_back(network):
    expected = assert_same_spikes(network)
    found = simulate(load(to_onnx(network, outputs="all")), spikes(network, 6, 2))
    for population, values in found.items():
        assert (values.reshape(expected[population].shape) == expected[population]).all()


@settings(max_examples=40, deadline=None)
@given(random_chains())
def test_random_chains_read_back_as_themselves(network):
    assert_same(load(to_onnx(network)), network)


@seed(3)
@settings(max_examples=60, deadline=None)
@given(networks())
def test_graphs_of_real_numbers_on_a_grid(network):
    """Whose sums are exact in float32 as in float64, also through feedback."""
    floats = on_grid(network)
    model = to_onnx(floats, outputs="all")
    x = spikes(network, 5, 2)
    found = custom_ops.session(model, native=False).run(list(floats.shapes)[len(floats.inputs) :], x)
    for values, (population, expected) in zip(found, simulate(floats, x).items(), strict=True):
        if floats[population].neuron.v_decay in (0, 1):  # a leak is rounded in float32
            assert (values == expected).all(), population
        else:
            break  # and whatever reads it may differ as well


@settings(max_examples=30, deadline=None)
@given(looping_networks())
def test_loops_that_no_operator_can_run_are_findings(network):
    assert simulate(network, spikes(network, 5, 2))
    if TARGETS["ort"].check(network):
        with pytest.raises(LimitError, match="hears itself"):
            to_onnx(network)
    else:  # spikes that are late may come from a population behind that hears nothing of this one
        assert_same_spikes(network)


@pytest.mark.parametrize("name", loops())
def test_the_examples_of_loops_are_refused(name):
    with pytest.raises(LimitError, match="verify against numpy"):
        to_onnx(loops()[name])


@pytest.mark.parametrize(("steps", "samples"), [(1, 1), (3, 0)])
@pytest.mark.parametrize("name", EXAMPLES)
def test_any_number_of_steps_and_samples(name, steps, samples):
    network = EXAMPLES[name]
    for found in (target.run(network, spikes(network, steps, samples)) for target in (TARGETS["ort"], TARGETS["ort-native"])):
        assert [values.shape for values in found.values()] == [(steps, samples, *each.shape) for each in network.populations]


def test_weights_are_stored_once_as_int8():
    """Also those of a map that edges share, before which their spikes are added."""
    for name in ("conv, pool, dense", "spikes added before a synapse"):
        network = EXAMPLES[name]
        model = to_onnx(network)
        stored = {i.name: i for i in model.graph.initializer}
        for each in network.populations:
            assert stored[f"{each.name}.weight"].data_type == onnx.TensorProto.INT8
        big = [i for i in model.graph.initializer if np.prod(i.dims) > 8]
        maps = {edge.map for each in network.populations for edge in each.edges if edge.map.weight.size > 8}
        assert len(big) == len(maps)
        assert sum(node.op_type in ("Conv", "MatMul") for node in model.graph.node) == len(network.populations)


def test_a_population_that_hears_nothing_but_itself():
    """Its bias drives it."""
    rng = np.random.default_rng(0)
    chain = build((4,), [(Dense(weights(rng, 5, 4)), IF, True)])
    (first,) = chain.populations
    alone = replace(first, edges=(Edge(first.name, Dense(weights(rng, 5, 5)), 1),), bias=np.array([40, 90, 10, 5, 70]))
    (values,) = assert_same_spikes(replace(chain, populations=(alone,)), steps=12).values()
    assert 0 < values.mean() < 1


@pytest.mark.parametrize("pads", [(-1, 0, 0, 0), (1, -1, -2, 0), (0, 0, -1, -1), (-2, -1, -2, -1)])
@pytest.mark.parametrize("kind", [Conv, ConvTranspose])
def test_pads_below_zero(kind, pads):
    rng = np.random.default_rng(1)
    assert_same_spikes(build((2, 6, 7), [(kind(weights(rng, 2, 2, 2, 3), (2, 2), pads), IF, False)]))


def test_the_random_networks_have_everything_that_edges_can_say():
    """Or the tests above would prove nothing about it. What a seed gives depends on what else has been imported."""
    reached: set[str] = set()
    rates: list[float] = []

    @settings(max_examples=200, deadline=None, database=None)
    @given(networks())
    def collect(network):
        reached.update(_properties(network))
        rates.extend(values.mean() for values in simulate(network, spikes(network, 4, 2)).values())

    named = {f"populations {count}" for count in range(2, 9)} | {
        "Conv",
        "ConvTranspose",
        "Dense",
        "Sparse",
        "uneven pads",
        "counts",
    }
    named |= {
        "several inputs",
        "several outputs",
        "sum",
        "shared map",
        "feedback",
        "delay",
        "whole bias",
        "channel bias",
        "reads",
    }
    named |= {"image out of a matrix", "depths that differ", "several readers", "grouped", "strided", "dilated"}
    for number in range(6):
        seed(number)(collect)()
        if named <= reached:
            break
    assert named <= reached, sorted(named - reached)
    assert np.mean([0 < rate < 1 for rate in rates]) > 0.6


def _properties(network: Network):
    yield f"populations {len(network.populations)}"
    yield from ["several inputs"] * (len(network.inputs) > 1) + ["several outputs"] * (len(network.outputs) > 1)
    yield from ["counts"] * any(given_.bits for given_ in network.inputs.values())
    depths = dict.fromkeys(network.inputs, 0)
    read = [edge.source for each in network.populations for edge in each.edges if edge.source != each.name]
    yield from ["several readers"] * (len(read) > len(set(read)))
    for each in network.populations:
        sources = [edge for edge in each.edges if edge.source != each.name]
        depths[each.name] = 1 + max(depths[edge.source] for edge in sources)
        yield from ["sum"] * (len(sources) > 1) + ["shared map"] * (len({edge.map for edge in sources}) < len(sources))
        yield from ["depths that differ"] * (len({depths[edge.source] for edge in sources}) > 1)
        yield from ["feedback"] * bool(each.feedback)
        if each.bias is not None:
            yield "channel bias" if each.bias.ndim < len(each.shape) else "whole bias"
        for edge in each.edges:
            map_ = edge.map
            yield type(map_).__name__
            yield from ["delay"] * (edge.delay > 0) + ["reads"] * (edge.reads is not None)
            if isinstance(map_, Dense):
                yield from ["image out of a matrix"] * (len(each.shape) == 3)
            elif isinstance(map_, Kernel):
                yield from ["uneven pads"] * (map_.pads[:2] != map_.pads[2:]) + ["grouped"] * (map_.groups > 1)
                yield from ["strided"] * (map_.stride != (1, 1)) + ["dilated"] * (map_.dilation != (1, 1))


@st.composite
def _float_graphs(draw):
    return draw(float_networks(networks()))


@settings(max_examples=30, deadline=None)
@given(_float_graphs())
def test_graphs_of_real_numbers_are_written_and_read(network):
    """Also with integers among them; what float32 rounds differs at most where sums meet the threshold."""
    x = spikes(network, 5, 2)
    model = to_onnx(network, outputs="all")
    assert custom_ops.session(model, native=False).run(None, x)
    found = load(model)
    assert [each.name for each in found.populations] == [each.name for each in network.populations]
    assert [type(each.neuron) for each in found.populations] == [type(each.neuron) for each in network.populations]
