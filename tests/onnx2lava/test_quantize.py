"""Quantisation: exact where integers can say it, near where they cannot, and never silent about the difference."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx2lava import (
    Block,
    CubaNeuron,
    Dense,
    FloatNeuron,
    Network,
    load,
    quantization_report,
    quantize,
    to_onnx,
    verify,
)
from onnx2lava.errors import ConversionError, LimitError
from onnx2lava.integers import integer_block, integer_threshold, weight_bits
from onnx2lava.limits import findings
from onnx2lava.quantization_report import layer_scales
from onnx2lava.report import quantization_notes
from onnx2lava.scale import candidates, expected_error
from onnx2lava.simulate import simulate
from tests.onnx2lava.networks import assert_same_numbers, float_networks, like_trained, networks, on_grid, spikes


def dense(weight, threshold=1.0, decay=0.0, bias=None):
    weight = np.atleast_2d(np.asarray(weight, np.float32))
    bias = None if bias is None else np.asarray(bias, np.float32)
    block = Block("fc", Dense(weight), FloatNeuron(decay, threshold), (weight.shape[1],), bias)
    return Network("n", block.input_shape, (block,))


def mismatches(network, quantised, x):
    before, after = simulate(network, x), simulate(quantised, x)
    return [int(np.count_nonzero(before[name] != after[name])) for name in before]


def test_rounding_and_clamping():
    network = dense([1, -1, 3.96, 3.98, -4, -5, 9, 1 / 64, 3 / 64, 0.02], bias=[63.99], decay=0.25)
    (block,) = quantize(network, scale=64).blocks
    assert block.synapse.weight.tolist() == [[64, -64, 254, 254, -256, -256, 254, 0, 4, 2]]
    assert block.bias.tolist() == [4095]
    assert block.neuron == CubaNeuron(4096, 1024, 63)


@pytest.mark.parametrize(
    ("threshold", "scale", "mantissa"),
    [(1.0, 64, 63), (1.01, 64, 64), (0.001, 64, 0), (float(np.float32(0.1)), 640, 63), (1.0, 100.5, 100), (2048, 64, 131071)],
)
def test_thresholds(threshold, scale, mantissa):
    assert integer_threshold(threshold, scale) == mantissa


@pytest.mark.parametrize(("weights", "bits"), [([0], 1), ([2], 2), ([-2], 1), ([-256, 254], 8), ([-128, 126], 7), ([128], 8)])
def test_weight_bits(weights, bits):
    assert weight_bits(np.array(weights)) == bits


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([16, 64, 128]))
def test_numbers_on_the_grid_are_quantised_without_loss(network, scale):
    instant = replace(network, blocks=tuple(replace(b, neuron=replace(b.cuba, i_decay=4096)) for b in network.blocks))
    assert_same_numbers(quantize(on_grid(instant, scale), scale=scale), instant)


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([1, 64, 96, 1024]), st.booleans())
def test_auto_loses_no_spike_where_nothing_decays_and_all_is_on_a_grid(network, scale, calibrated):
    still = replace(network, blocks=tuple(replace(b, neuron=CubaNeuron(4096, 0, b.cuba.v_threshold)) for b in network.blocks))
    # Halves, as decay_input with tau = 2 leaves them; 96 is no power of two, so that float32 rounds these numbers.
    network = on_grid(still, scale)
    x = spikes(network, 6, 2)
    quantised = quantize(network, calibration=x if calibrated else None)
    before = simulate(still, x)
    assert all((before[name] == s).all() for name, s in simulate(quantised, x).items())


@settings(max_examples=100, deadline=None)
@given(float_networks(), st.sampled_from(["auto", 64, 0.5]))
def test_random_networks_are_in_range_and_run_alike(network, scale):
    quantised = quantize(network, scale=scale)
    for before, after in zip(network.blocks, quantised.blocks, strict=True):
        assert after is before or isinstance(before.neuron, FloatNeuron)
    assert {f.target for f in findings(quantised)} <= {"netx", "slayer", "chip"}
    x = spikes(network, 6, 2)
    assert verify(quantised, x, against=["ort", "numpy"]).mismatches == 0
    assert len(quantization_report(network, quantised).layers) == len(layer_scales(quantised))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30),
    st.floats(2.0**-10, 100),
    st.sampled_from([0.0, 0.5]),
    st.none() | st.floats(-50, 50),
)
def test_candidates_are_usable_and_ordered(weights, threshold, decay, bias):
    (block,) = dense(weights, threshold, decay, None if bias is None else [bias]).blocks
    scales = candidates(block)
    assert 1 <= len(scales) <= 14
    for scale in scales:
        assert scale > 0
        assert 0 <= integer_block(block, scale).neuron.v_threshold <= 131071
    errors = [expected_error(block, scale) for scale in scales[1:]]
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
    assert expected_error(network.blocks[0], layer.scale) < expected_error(network.blocks[0], kept)
    assert quantised.blocks[0].synapse.weight.max() == 254


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
    quantised = quantize(network, calibration=x)
    report = quantization_report(network, quantised)
    assert (report.samples, report.given) == (6, 6)
    assert [layer.mismatches for layer in report.layers] == mismatches(network, quantised, x)
    assert report.layers[0].mismatches <= mismatches(network, quantize(network), x)[0]
    assert layer_scales(load(to_onnx(quantised))) == layer_scales(quantised)


def test_calibration_on_little_input_does_not_follow_chance():
    """A single silent step tells scales apart by nothing: the expected error decides."""
    network = like_trained(2, 0.5)
    x = np.zeros((1, 1, *network.input_shape), np.float32)
    assert layer_scales(quantize(network, calibration=x)) == layer_scales(quantize(network))


def test_calibration_tells_how_many_samples_it_could_afford(monkeypatch):
    network = like_trained()
    cost = sum(block.synapses for block in network.blocks) * 4
    monkeypatch.setattr("onnx2lava.calibrate._OPERATIONS", cost * 14 * 2.5)
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


def test_a_layer_whose_weights_all_vanish_is_named():
    network = dense([0.001, 0.002])
    report = quantization_report(network, quantize(network, scale=64))
    assert "'fc' lost all its weights" in quantization_notes(report)[0]


@pytest.mark.parametrize(
    ("network", "options", "error", "message"),
    [
        (dense([1]), {"scale": 0}, ConversionError, "above 0"),
        (dense([1]), {"scale": float("nan")}, ConversionError, "above 0"),
        (dense([1], threshold=0), {}, ConversionError, "'fc' has the threshold 0"),
        (dense([1], threshold=float("inf")), {}, ConversionError, "'fc' has the threshold inf"),
        (dense([1]), {"scale": 2**17 + 1}, LimitError, "threshold mantissa of 131072"),
        (dense([1]), {"scale": 64, "calibration": np.zeros((1, 1, 1))}, ConversionError, "nothing to choose"),
        (dense([1]), {"calibration": np.zeros((1, 1, 2))}, ConversionError, "the network reads"),
    ],
)
def test_bad_arguments(network, options, error, message):
    with pytest.raises(error, match=message):
        quantize(network, **options)


def test_verify_shows_what_quantisation_cost():
    network = like_trained(3)
    x = spikes(network, 16, 10)
    labels = simulate(network, x)["layer3"].sum(axis=0).argmax(axis=1)
    result = verify(network, x, against=["ort", "numpy"], labels=labels)
    assert result.mismatches == 0
    assert list(result.seconds) == ["float", "ort", "numpy"]
    expected = mismatches(network, quantize(network), x)
    for layer, count, before in zip(result.layers, expected, simulate(network, x).values(), strict=True):
        assert layer.agreement == 1 - count / before.size
        assert layer.float_rate == np.mean(before != 0)
    assert result.accuracy["float"] == 1
    assert result.accuracy["ort"] == result.accuracy["numpy"] <= 1


def test_quantised_networks_keep_their_scales_in_files():
    network = like_trained()
    metadata = quantize(network, scale=32).metadata
    assert json.loads(metadata["sj2lava.scales"]) == {block.name: 32 for block in network.blocks}
    assert layer_scales(replace(network, metadata={"sj2lava.scales": "[1"})) == {}
