"""Quantisation: exact where integers can say it, near where they cannot, and never silent about the difference."""

import json
import sys
from dataclasses import replace
from subprocess import run

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import custom_ops
from onnx2lava import CubaNeuron, Dense, Edge, FloatNeuron, Input, Network, Population, quantization_report, quantize, verify
from onnx2lava.errors import ConversionError, LimitError
from onnx2lava.network import INPUT, Conv
from onnx2lava.quantization import layer_scales, quantization_notes, quantizing
from onnx2lava.quantization.integers import integer_population, integer_threshold, weight_bits
from onnx2lava.quantization.scale import candidates, expected_error
from onnx2lava.targets import findings
from onnx2lava.targets.numpy import simulate
from onnx2lava.targets.onnx import to_onnx
from tests.onnx2lava.networks import (
    assert_same_numbers,
    float_networks,
    graphs,
    like_trained,
    networks,
    on_grid,
    random_chains,
    spikes,
)


def dense(weight, threshold=1.0, decay=0.0, bias=None):
    weight = np.atleast_2d(np.asarray(weight, np.float32))
    bias = None if bias is None else np.asarray(bias, np.float32)
    edges = (Edge(INPUT, Dense(weight)),)
    population = Population("fc", weight.shape[:1], FloatNeuron(decay, threshold), edges, bias)
    return Network("n", {INPUT: Input(weight.shape[1:])}, (population,), ("fc",))


def mismatches(network, quantised, x):
    before, after = simulate(network, x), simulate(quantised, x)
    return [int(np.count_nonzero(before[name] != after[name])) for name in before]


def with_neurons(network, change):
    return replace(network, populations=tuple(replace(each, neuron=change(each.neuron)) for each in network.populations))


def test_rounding_and_clamping():
    network = dense([1, -1, 3.96, 3.98, -4, -5, 9, 1 / 64, 3 / 64, 0.02], bias=[63.99], decay=0.25)
    (population,) = quantize(network, scale=64).populations
    assert population.edges[0].map.weight.tolist() == [[64, -64, 254, 254, -256, -256, 254, 0, 4, 2]]
    assert population.bias.tolist() == [4095]
    assert population.neuron == CubaNeuron(4096, 1024, 63)


@pytest.mark.parametrize(
    ("threshold", "scale", "mantissa"),
    [(1.0, 64, 63), (1.01, 64, 64), (0.001, 64, 0), (float(np.float32(0.1)), 640, 63), (1.0, 100.5, 100), (2048, 64, 131071)],
)
def test_thresholds(threshold, scale, mantissa):
    assert integer_threshold(threshold, scale) == mantissa


@pytest.mark.parametrize(("threshold", "scale", "mantissa"), [(1.0, 64, 64), (1.01, 64, 64), (float(np.float32(0.1)), 640, 64)])
def test_neurons_that_fire_only_above_their_threshold(threshold, scale, mantissa):
    assert integer_threshold(threshold, scale, strict=True) == mantissa
    weight = np.array([[2.0 * threshold / 2]], np.float32)  # one spike brings exactly the threshold
    population = Population("n", (1,), FloatNeuron(0.0, threshold, strict=True), (Edge("input", Dense(weight)),))
    network = Network("strict", {"input": Input((1,))}, (population,), ("n",))
    x = np.ones((4, 1, 1), np.float32)
    expected = [0, 1, 0, 1]
    for each in (network, quantize(network)):
        assert simulate(each, {"input": x})["n"].ravel().tolist() == expected
        (found,) = custom_ops.session(to_onnx(each)).run(None, {"input": x})
        assert found.ravel().tolist() == expected


@pytest.mark.parametrize(("weights", "bits"), [([0], 1), ([2], 2), ([-2], 1), ([-256, 254], 8), ([-128, 126], 7), ([128], 8)])
def test_weight_bits(weights, bits):
    assert weight_bits(np.array(weights)) == bits


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([16, 64, 128]))
def test_numbers_on_the_grid_are_quantised_without_loss(network, scale):
    instant = with_neurons(network, lambda neuron: replace(neuron, i_decay=4096))
    assert_same_numbers(quantize(on_grid(instant, scale), scale=scale), instant)


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([1, 64, 96, 1024]), st.booleans())
def test_auto_loses_no_spike_where_nothing_decays_and_all_is_on_a_grid(network, scale, calibrated):
    still = with_neurons(network, lambda neuron: CubaNeuron(4096, 0, neuron.v_threshold))
    # Halves, as decay_input with tau = 2 leaves them; 96 is no power of two, so that float32 rounds these numbers.
    network = on_grid(still, scale)
    x = spikes(network, 6, 2)
    quantised = quantize(network, calibration=x if calibrated else None)
    before = simulate(still, x)
    assert all((before[name] == s).all() for name, s in simulate(quantised, x).items())


@settings(max_examples=100, deadline=None)
@given(st.one_of(float_networks(), float_networks(networks())), st.sampled_from(["auto", 64, 0.5]))
def test_random_networks_are_in_range_and_run_alike(network, scale):
    quantised = quantize(network, scale=scale)
    for before, after in zip(network.populations, quantised.populations, strict=True):
        assert after is before or isinstance(before.neuron, FloatNeuron)
    assert "loihi" not in {finding.target for finding in findings(quantised)}
    x = spikes(network, 6, 2)
    assert verify(quantised, x, against=["ort", "numpy"]).mismatches == 0
    assert len(quantization_report(network, quantised).layers) == len(layer_scales(quantised))


def test_all_edges_of_a_population_have_one_scale_and_edges_that_share_a_map_still_do():
    integers = graphs()["spikes added before a synapse"]
    network = on_grid(integers, 64)
    after = quantize(network, scale="auto")["after"]
    assert after.edges[0].map is after.edges[1].map
    one, other = np.array([[1.0]], np.float32), np.array([[100.0]], np.float32)
    edges = (Edge("a", Dense(one)), Edge("b", Dense(other)))
    population = Population("sum", (1,), FloatNeuron(0.0, 30.0), edges, np.array([5.0], np.float32))
    both = Network("n", {"a": Input((1,)), "b": Input((1,))}, (population,), ("sum",))
    (quantised,) = quantize(both, scale=2).populations
    assert [edge.map.weight.item() for edge in quantised.edges] == [2, 200]
    assert (quantised.bias.item(), quantised.neuron.v_threshold) == (10, 59)
    # The small weight alone would take a scale up to 254, the large one allows 2.54.
    (scale,) = layer_scales(quantize(both)).values()
    assert scale == 2


@pytest.mark.parametrize("name", ["spikes added before a synapse", "two inputs and two outputs", "up and down again"])
def test_calibration_of_graphs(name):
    network = with_neurons(on_grid(graphs()[name], 50), lambda neuron: FloatNeuron(0.3, neuron.v_threshold))
    x = spikes(network, 10, 4)
    quantised = quantize(network, calibration=x)
    layers = quantization_report(network, quantised).layers
    assert [layer.mismatches for layer in layers] == mismatches(network, quantised, x)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30),
    st.floats(2.0**-10, 100),
    st.sampled_from([0.0, 0.5]),
    st.none() | st.floats(-50, 50),
)
def test_candidates_are_usable_and_ordered(weights, threshold, decay, bias):
    (population,) = dense(weights, threshold, decay, None if bias is None else [bias]).populations
    scales = candidates(population)
    assert 1 <= len(scales) <= 14
    for scale in scales:
        assert scale > 0
        assert 0 <= integer_population(population, scale).neuron.v_threshold <= 131071
    errors = [expected_error(population, scale) for scale in scales[1:]]
    assert errors == sorted(errors)


def test_outliers_are_clamped_where_that_costs_less():
    """One weight is a hundred times the others: with all of it kept, the others would be left with two bits."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.02, (50, 400))
    weight[0, 0] = 2
    report = quantization_report(network := dense(weight), quantised := quantize(network))
    (layer,) = report.layers
    assert 0 < layer.weights_saturated < 0.01
    assert layer.weight_bits == 8
    assert "clamped" in quantization_notes(report)[0]
    kept = 254 / 2
    assert expected_error(network.populations[0], layer.scale) < expected_error(network.populations[0], kept)
    assert quantised.populations[0].weights().max() == 254


@pytest.mark.parametrize(("decay", "bias"), [(0, 0), (0.5, 0), (0, 0.1), (0.5, 0.1)])
def test_auto_is_nearer_to_the_float_network_than_a_fixed_scale(decay, bias):
    network = like_trained(1, decay, bias)
    x = spikes(network, 16, 8)
    auto, fixed = (np.array(mismatches(network, quantize(network, scale=scale), x)) for scale in ("auto", 64))
    assert auto[0] < fixed[0] / 2
    assert auto.sum() < fixed.sum()


@pytest.mark.parametrize("decay", [0, 0.5])
def test_calibration_measures_what_the_network_then_does(decay):
    network = like_trained(2, decay)
    x = spikes(network, 12, 6)
    quantised = quantize(network, calibration=x[INPUT])
    report = quantization_report(network, quantised)
    assert (report.samples, report.given) == (6, 6)
    assert [layer.mismatches for layer in report.layers] == mismatches(network, quantised, x)
    assert report.layers[0].mismatches <= mismatches(network, quantize(network), x)[0]


def test_calibration_runs_one_network_for_each_population_and_one_for_all():
    network = like_trained(2, 0.5)
    ran = []

    def runner(some, x):
        ran.append(len(some.populations))
        return simulate(some, x)

    quantised = quantizing.quantize(network, calibration=spikes(network, 4, 2), run=runner)
    assert ran == [4, *(len(candidates(each)) for each in network.populations)]
    assert layer_scales(quantised) == layer_scales(quantize(network, calibration=spikes(network, 4, 2)))


def test_quantisation_imports_no_target_and_no_writer():
    code = "import sys, onnx2lava.quantization; print(*(name for name in sys.modules if name.startswith('onnx2lava.')))"
    loaded = run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded} == {"errors", "host", "network", "quantization"}


def test_calibration_on_little_input_does_not_follow_chance():
    """A single silent step tells scales apart by nothing: the expected error decides."""
    network = like_trained(2, 0.5)
    x = np.zeros((1, 1, *network.inputs[INPUT].shape), np.float32)
    assert layer_scales(quantize(network, calibration=x)) == layer_scales(quantize(network))


def test_calibration_tells_how_many_samples_it_could_afford(monkeypatch):
    network = like_trained()
    cost = sum(map(network.connections, network.populations)) * 4
    monkeypatch.setattr("onnx2lava.quantization.calibration._OPERATIONS", cost * 14 * 2.5)
    report = quantization_report(network, quantize(network, calibration=spikes(network, 4, 5)))
    assert (report.samples, report.given) == (2, 5)
    assert "2 of 5 samples" in quantization_notes(report)[-1]


def test_the_report_counts_what_was_lost():
    network = dense([4, 1, 0.001, 0], bias=[-100], decay=0.1)
    (layer,) = quantization_report(network, quantize(network, scale=64)).layers
    assert layer.weights_saturated == 1 / 4
    assert layer.weights_lost == 1 / 4
    assert (layer.bias_range, layer.biases_saturated) == ((-4096, -4096), 1)
    assert layer.decay_error == 410 / 4096 - 0.1
    assert layer.mismatches is None
    assert layer.weight_error == pytest.approx(np.hypot(2 / 64, 0.001) / np.sqrt(17), rel=1e-3)


@pytest.mark.parametrize(
    ("weights", "note"), [([0.001, 0.002], "'fc' lost all its weights"), ([1.0, *[0.001] * 9], "lost 90.00% of its weights")]
)
def test_a_population_whose_weights_vanish_is_named(weights, note):
    network = dense(weights)
    assert note in quantization_notes(quantization_report(network, quantize(network, scale=64)))[0]


@pytest.mark.parametrize(
    ("network", "options", "error", "message"),
    [
        (dense([1]), {"scale": 0}, ConversionError, "above 0"),
        (dense([1]), {"scale": float("nan")}, ConversionError, "above 0"),
        (dense([1]), {"scale": "64"}, ConversionError, "scale is '64'"),
        (dense([1]), {"scale": "Auto"}, ConversionError, "scale is 'Auto'"),
        (dense([1]), {"scale": None}, ConversionError, "scale is None"),
        (dense([1]), {"scale": True}, ConversionError, "scale is True"),
        (dense([1]), {"scale": 10**400}, ConversionError, "above 0"),
        (dense([1], threshold=0), {}, ConversionError, "'fc' has the threshold 0"),
        (dense([1], threshold=float("inf")), {}, ConversionError, "'fc' has the threshold inf"),
        (dense([1]), {"scale": 2**17 + 1}, LimitError, "threshold mantissa of 131072"),
        (dense([1]), {"scale": 64, "calibration": np.zeros((1, 1, 1))}, ConversionError, "nothing to choose"),
        (dense([1]), {"calibration": np.zeros((1, 1, 2))}, ConversionError, "the network reads"),
        (dense([1]), {"calibration": np.zeros((0, 1, 1))}, ConversionError, "0 time steps and 1 samples"),
        (dense([1]), {"calibration": np.zeros((1, 0, 1))}, ConversionError, "1 time steps and 0 samples"),
    ],
)
def test_bad_arguments(network, options, error, message):
    with pytest.raises(error, match=message):
        quantize(network, **options)


@settings(max_examples=20, deadline=None)
@given(random_chains())
def test_networks_of_integers_stay_what_they_are(network):
    assert quantize(network, scale=3).populations == network.populations


def test_quantised_networks_keep_their_scales_in_files():
    network = like_trained()
    metadata = quantize(network, scale=32).metadata
    assert json.loads(metadata["sj2lava.scales"]) == {each.name: 32 for each in network.populations}
    for strange in ("[1", "[" * 100_000, "5", '{"layer0": [1]}', '{"layer0": "x"}'):
        assert layer_scales(replace(network, metadata={"sj2lava.scales": strange})) == {}


@pytest.mark.parametrize("strange", ["5", '{"mismatches": {"layer0": [1]}}', '{"samples": "a", "given": 1}', "["])
def test_strange_metadata_of_calibration_say_nothing(strange):
    network = like_trained()
    quantised = quantize(network, scale=32)
    quantised = replace(quantised, metadata={**quantised.metadata, "sj2lava.calibration": strange})
    report = quantization_report(network, quantised)
    assert report.samples is None
    assert all(layer.mismatches is None for layer in report.layers)


def test_candidates_of_a_kernel_and_a_matrix_together_clip_neither_more_than_the_other():
    rng = np.random.default_rng(3)
    conv = Conv(rng.normal(0, 0.1, (2, 1, 3, 3)).astype(np.float32), pads=(1, 1, 1, 1))
    skip = Dense(rng.normal(0, 0.02, (32, 16)).astype(np.float32))
    edges = (Edge(INPUT, conv), Edge(INPUT, skip))
    population = Population("both", (2, 4, 4), FloatNeuron(0.0, 1.0), edges)
    together = expected_error(population, 64)
    alone = [expected_error(replace(population, edges=(edge,)), 64) for edge in edges]
    crossing = (63 + 1 - 0.5 - 0.5) / 64 - 1  # the threshold's own part of the error is in all three
    assert together == pytest.approx(sum(alone) - crossing**2, rel=1e-6)
