"""What a network costs, against a count of every single spike at every single synapse."""

import json
from math import ceil

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx2lava import Conv, ConvTranspose, CubaNeuron, Dense, Sparse, estimate, to_onnx
from onnx2lava.errors import ConversionError
from onnx2lava.estimation import ENERGY, EnergyFigures, activity
from onnx2lava.network import INPUT
from onnx2lava.network.fan_out import fan_out
from onnx2lava.network.unrolling import unrolled
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.commands import run
from tests.onnx2lava.networks import IF, LEAKY, RunningSum, build, graphs, loops, networks, spikes, unusual_chains, weights


def _sparse(rng, *shape):
    """Weights of which a third are 0."""
    return weights(rng, *shape) * rng.integers(0, 3, shape).astype(bool)


RNG = np.random.default_rng(0)
BORDERS = build(
    (4, 7, 6),
    [
        (Conv(_sparse(RNG, 6, 2, 3, 2), stride=(2, 1), pads=(1, 0, 2, 1), dilation=(1, 2), groups=2), IF, True),
        (Conv(_sparse(RNG, 4, 6, 2, 2), stride=(2, 3)), LEAKY, False),  # steps over some of its input
        (Dense(_sparse(RNG, 5, 16)), IF, True),
    ],
)
EXAMPLES = {"borders": BORDERS} | graphs() | loops() | unusual_chains()


def _synapses(map_, shape):
    """Every synapse as a pair of flat indices, source and target, by the definition of each map."""
    out = map_.output_shape(shape)
    if isinstance(map_, Dense):
        return [(j, i) for i in range(out[0]) for j in range(np.prod(shape)) if map_.weight[i, j]]
    if isinstance(map_, Sparse):
        return [(j, i) for i, k in np.ndindex(*map_.weight.shape) if map_.weight[i, k] for j in [map_.columns[i, k]]]
    if isinstance(map_, RunningSum):
        return [(j, i) for i in range(out[0]) for j in range(i + 1) if map_.weight[j]]
    found = []
    transposed = isinstance(map_, ConvTranspose)
    inputs, outputs = shape[0] // map_.groups, out[0] // map_.groups
    for a, b, i, j in np.ndindex(*map_.weight.shape):
        if not map_.weight[a, b, i, j]:
            continue
        # The channels of its first axis, and those of its second within their group.
        into, onto = (a, b + a // inputs * outputs) if transposed else (b + a // outputs * inputs, a)
        for y, x in np.ndindex(*(shape if transposed else out)[1:]):
            other = (
                y * map_.stride[0] + i * map_.dilation[0] - map_.pads[0],
                x * map_.stride[1] + j * map_.dilation[1] - map_.pads[1],
            )
            size = (out if transposed else shape)[1:]
            if 0 <= other[0] < size[0] and 0 <= other[1] < size[1]:
                source, target = ((y, x), other) if transposed else (other, (y, x))
                found.append((np.ravel_multi_index((into, *source), shape), np.ravel_multi_index((onto, *target), out)))
    return found


def _events(network, x, population, edge):
    """One after the other."""
    everything = {**x, **simulate(network, x)}
    leaving = {}
    for source, _ in _synapses(edge.map, network.reads(edge)):
        leaving[source] = leaving.get(source, 0) + 1
    steps, samples = next(iter(x.values())).shape[:2]
    return sum(
        leaving.get(neuron, 0)
        for t in range(steps)
        for n in range(samples)
        if t + edge.delay < steps
        for neuron in np.flatnonzero(everything[edge.source][t, n])
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_spike_at_every_synapse(name):
    network = EXAMPLES[name]
    x = spikes(network, 6, 2)
    counted = activity(network, {**x, **simulate(network, x)})
    edges = [(each, edge) for each in network.populations for edge in each.edges]
    assert [(each.source, each.target) for each in counted.traffic] == [(edge.source, each.name) for each, edge in edges]
    for found, (population, edge) in zip(counted.traffic, edges, strict=True):
        pairs = _synapses(edge.map, network.reads(edge))
        assert len(set(pairs)) == len(pairs) == found.synapses
        assert found.axons == len({source for source, _ in pairs})
        assert found.events == _events(network, x, population, edge)
    assert sum(each.events for each in counted.traffic) > 0
    for name, values in simulate(network, x).items():
        assert counted.spikes[name] == values.sum()


@given(networks())
@settings(max_examples=40, deadline=None)
def test_fan_out_is_what_the_columns_of_the_matrix_hold(network):
    for population in network.populations:
        for edge in population.edges:
            shape = network.reads(edge)
            found = fan_out(edge.map, shape)
            assert found.shape == tuple(shape)
            assert (found.reshape(-1) == np.count_nonzero(unrolled(edge.map, shape), axis=0)).all()


@given(st.integers(1, 4))
@settings(max_examples=4, deadline=None)
def test_samples_add_up(first):
    x = spikes(BORDERS, 5, 5)
    every = {**x, **simulate(BORDERS, x)}
    one, other = ({name: values[:, part] for name, values in every.items()} for part in (slice(first), slice(first, 5)))
    assert activity(BORDERS, one) + activity(BORDERS, other) == activity(BORDERS, every)


def test_what_it_costs():
    x = spikes(BORDERS, 6, 3)
    figures = EnergyFigures(synaptic=1.0, idle=1000.0, active=3000.0, spike=1e-3, source="", limits="")
    found = estimate(BORDERS, x, figures=figures)
    fired = simulate(BORDERS, x)
    assert (found.samples, found.steps, found.latency) == (3, 6, 9)
    assert found.inputs == {INPUT: x[INPUT].sum() / 3}
    before = INPUT
    for layer, population in zip(found.layers, BORDERS.populations, strict=True):
        events = _events(BORDERS, x, population, population.edges[0]) / 3
        assert layer.synaptic_events == events
        assert layer.spikes == fired[layer.name].sum() / 3
        assert layer.rate == pytest.approx(fired[layer.name].mean())
        assert layer.updates == population.neurons * 6
        assert layer.cores == (1, 1)
        assert layer.axons[0] == layer.axons[1]
        leaving = fan_out(population.edges[0].map, BORDERS.shapes[before]).reshape(-1) > 0
        arrived = np.count_nonzero({**x, **fired}[before].reshape(18, -1)[:, leaving]) / 3
        assert layer.messages == (arrived, arrived)
        rest = events + arrived * 1e-3
        assert layer.joules == pytest.approx((rest + layer.updates * 1000, rest + layer.updates * 3000))
        before = layer.name
    assert found.joules == pytest.approx(tuple(np.sum([layer.joules for layer in found.layers], axis=0)))
    assert (fan_out(BORDERS.populations[1].edges[0].map, BORDERS.populations[0].shape) == 0).any(), "all are read: weaker"


def test_a_layer_on_several_cores_gets_each_spike_more_often():
    rng = np.random.default_rng(1)
    network = build((300,), [(Dense(_sparse(rng, 1000, 300)), CubaNeuron(4096, 0, 300), False)])
    (layer,) = estimate(network, spikes(network, 3, 2)).layers
    cores = ceil(300 * 1000 / 2**17)
    assert layer.cores == (cores, cores) == (3, 3)
    assert layer.messages == (layer.spikes_in, 3 * layer.spikes_in)
    assert layer.axons == (300, 900)


def test_figures_are_the_published_ones():
    assert (ENERGY.synaptic, ENERGY.idle, ENERGY.active, ENERGY.spike) == (23.6e-12, 52e-12, 81e-12, 1.7e-12)
    assert "Davies" in ENERGY.source
    assert "none for Loihi 2." in ENERGY.limits


def test_the_command(tmp_path):
    onnx.save(to_onnx(BORDERS), tmp_path / "in.onnx")
    x = spikes(BORDERS, 6, 40)
    np.save(tmp_path / "x.npy", x[INPUT])
    found = json.loads(run("estimate", "in.onnx", "--input", "x.npy", "--json", "-", folder=tmp_path, code=0))
    expected = estimate(BORDERS, x)
    assert (found["model"]["name"], found["steps"], found["samples"]) == ("in.onnx", 6, 40)
    assert [each["synaptic_events"] for each in found["layers"]] == [each.synaptic_events for each in expected.layers]
    assert found["total"]["joules"] == pytest.approx(list(expected.joules))
    assert found["total"]["joules"][0] > 0
    shown = run("estimate", "in.onnx", "--input", "x.npy", folder=tmp_path, code=0, environment={"COLUMNS": "200"})
    assert all(each in shown for each in (f"{expected.synaptic_events:,.0f}", "Davies", "exact for this input"))
    assert "no such" in run("estimate", "in.onnx", "--input", "no.npy", folder=tmp_path, code=2).lower()
    assert "is also an input" in run("estimate", "in.onnx", "--input", "x.npy", "--json", "x.npy", folder=tmp_path, code=2)


def test_nothing_to_count():
    with pytest.raises(ConversionError, match="nothing to"):
        estimate(BORDERS, np.zeros((0, 1, 4, 7, 6), np.float32))
    with pytest.raises(ConversionError, match="no samples"):
        estimate(BORDERS, iter([]))
