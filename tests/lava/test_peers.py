"""The network in the real Lava-DL and Lava: the same file, the same spikes."""

import multiprocessing
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from onnx2lava import Conv, CubaNeuron, Dense, load, load_netx, quantize, run_netx, save_netx, to_slayer, verify
from onnx2lava.errors import LavaRunError, LimitError
from onnx2lava.integers import integer_weights
from onnx2lava.limits import findings
from onnx2lava.run import run_netx_layers
from onnx2lava.simulate import simulate
from onnx2lava.write.onnx import to_onnx
from tests.onnx2lava.float_graphs import float_graphs
from tests.onnx2lava.networks import assert_same_numbers, build, examples, float_networks, networks, spikes, weights

EXAMPLES = examples()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _datasets(path, first_layer):
    """Every dataset as (type, shape, value), with layers counted from ``first_layer``."""
    found = {}

    def visit(name, item):
        layer, _, rest = name.removeprefix("layer/").partition("/")
        if isinstance(item, h5py.Dataset) and int(layer) >= first_layer:
            found[f"{int(layer) - first_layer}/{rest}"] = (item.dtype, item.shape, np.asarray(item[()]).tolist())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_file_equals_the_export_of_lava_dl(name, tmp_path):
    network = EXAMPLES[name]
    save_netx(network, tmp_path / "ours.net")
    blocks = to_slayer(network)
    # Lava-DL learns the shape of Flatten from a forward pass.
    with torch.no_grad():
        blocks(torch.zeros(1, *network.input_shape, 1))
    with h5py.File(tmp_path / "theirs.net", "w") as file:
        # slayer delays what a block gives, which is an axon before the next one here.
        for index, block in enumerate(block for block in blocks if hasattr(block, "export_hdf5")):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    ours = _datasets(tmp_path / "ours.net", 1)
    delays = {name: ours.pop(name)[2] for name in list(ours) if name.endswith("/delay")}
    assert list(delays.values()) == [block.delay for block in network.blocks if block.delay]
    assert ours == _datasets(tmp_path / "theirs.net", 0)
    assert any(name.endswith("/weight") for name in ours)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_spike_is_the_same_in_onnxruntime_numpy_slayer_and_netx(name):
    network = EXAMPLES[name]
    x = spikes(network, 8, 3)  # three samples in a row, so that resets count
    result = verify(to_onnx(network), x, against=["ort", "numpy", "slayer", "netx"])
    assert result.mismatches == 0
    assert [layer.name for layer in result.layers] == [block.name for block in network.blocks]
    for layer in result.layers:
        assert 0 < layer.rate < 1
        assert layer.mismatches["netx"] == layer.mismatches["slayer"] == 0


@settings(max_examples=60, deadline=None)
@given(networks())
def test_random_networks_in_slayer(network):
    if any(finding.target == "slayer" for finding in findings(network)):
        return  # slayer would run it wrongly; see below
    result = verify(to_onnx(network), spikes(network, 8, 2), against=["ort", "slayer"])
    assert result.mismatches == 0


@settings(max_examples=25, deadline=None)
@given(networks())
def test_random_networks_in_netx(network):
    if any(finding.target == "netx" for finding in findings(network)):
        return  # NetX would run it wrongly; see the next test
    result = verify(to_onnx(network), spikes(network, 5, 2), against=["ort", "netx"])
    assert result.mismatches == 0


@pytest.mark.parametrize("scale", [16, 64, 100])
def test_weights_are_rounded_as_lava_dl_rounds_them(scale):
    from lava.lib.dl.slayer.block.cuba import Dense as SlayerDense

    weight = np.random.default_rng(scale).normal(0, 200 / scale, (50, 60)).astype(np.float32)
    weight[0, :8] = np.arange(8) / scale  # halves of the grid's steps
    block = SlayerDense({"threshold": 1, "current_decay": 1, "voltage_decay": 0, "scale": scale}, 60, 50)
    theirs = block.neuron.quantize_8bit(torch.from_numpy(weight)).numpy() * scale
    assert (integer_weights(weight, scale) == np.rint(theirs)).all()
    assert {-256, 254} <= set(integer_weights(weight, scale).reshape(-1).tolist())


@seed(4)
@settings(max_examples=40, deadline=None)
@given(float_networks(), st.sampled_from(["auto", 64]))
def test_quantised_networks_in_slayer(network, scale):
    quantised = quantize(network, scale=scale)
    if any(finding.target == "slayer" for finding in findings(quantised)):
        return
    assert verify(quantised, spikes(network, 8, 2), against=["ort", "slayer"]).mismatches == 0


@seed(4)
@settings(max_examples=12, deadline=None)
@given(float_networks())
def test_quantised_networks_in_netx(network):
    quantised = quantize(network)
    if any(finding.target == "netx" for finding in findings(quantised)):
        return
    assert verify(quantised, spikes(network, 5, 2), against=["ort", "netx"]).mismatches == 0


@seed(6)
@settings(max_examples=60, deadline=None)
@given(float_graphs())
def test_lowered_networks_in_slayer(graph):
    network = load(graph.model())
    assert verify(network, spikes(network, 8, 2), against=["ort", "slayer"]).mismatches == 0


@seed(6)
@settings(max_examples=20, deadline=None)
@given(float_graphs())
def test_lowered_networks_in_netx(graph):
    network = load(graph.model())
    if any(finding.target == "netx" for finding in findings(quantize(network))):
        return
    assert verify(network, spikes(network, 5, 2), against=["ort", "netx"]).mismatches == 0


def _weights_that_netx_applies(weight, inputs):
    """What is left of dense weights after NetX has fitted them to synapses and Lava has read them (``PyDenseModelBitAcc``).

    Those from ``inputs`` on are the feedback's: fitted with the others, read by themselves.
    """
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    fitted, bits, exponent, _ = optimize_weight_bits(weight)
    parts = []
    for part in np.split(fitted, [inputs], axis=1):
        if part.size:
            mode = determine_sign_mode(part)
            parts.append(truncate_weights(clip_weights(part, mode, num_bits=8), mode, bits))
    applied = np.hstack(parts)
    return np.left_shift(applied, exponent) if exponent > 0 else np.right_shift(applied, -exponent)


_HALVES = st.tuples(st.integers(-128, 127), st.integers(-128, 127)).flatmap(lambda ends: st.integers(min(ends), max(ends)))


@settings(max_examples=2000, deadline=None)
@given(st.lists(_HALVES, min_size=1, max_size=5), st.none() | st.integers(-128, 127))
@example([0], None)
@example([-1, -1], None)
@example([0, -64], None)
@example([-128, -3], None)
@example([-128, 127], None)
@example([0], 0)
@example([3, 5], -16)
@example([-16, 0], 5)
@example([-16, 0], 120)
def test_netx_falsifies_exactly_the_dense_weights_that_are_refused(halves, feedback):
    weight = 2 * np.array([halves], np.int32)
    synapse = Dense(weight, None if feedback is None else 2 * np.array([[feedback]], np.int32))
    weight = synapse.weights
    network = build((len(halves),), [(synapse, CubaNeuron(4096, 0, 10), False)])
    refused = any(finding.target == "netx" for finding in findings(network))
    try:
        with np.errstate(divide="ignore"):
            right = (_weights_that_netx_applies(weight, len(halves)) == weight).all()
    except OverflowError:  # the logarithm of infinity
        right = False
    assert bool(right) != refused


@pytest.mark.parametrize(("steps", "samples"), [(1, 4), (2, 3), (5, 1)])
def test_fewer_steps_than_layers(steps, samples, tmp_path):
    network = EXAMPLES["conv, pool, dense"]
    x = spikes(network, steps, samples)
    save_netx(network, tmp_path / "a.net")
    expected = simulate(network, x)
    for spikes_, layer in zip(run_netx_layers(tmp_path / "a.net", x), expected, strict=True):
        assert (spikes_ == expected[layer]).all()


def test_more_groups_than_lava_can_count(tmp_path):
    """With 128 groups Lava's int8 overflows and no neuron fires: the file is written with fewer."""
    rng = np.random.default_rng(0)
    network = build((130, 2, 2), [(Conv(weights(rng, 260, 1, 2, 2), groups=130), CubaNeuron(4096, 0, 100), False)])
    save_netx(network, tmp_path / "a.net")
    x = spikes(network, 4, 2)
    (expected,) = simulate(network, x).values()
    assert 0 < expected.mean() < 1
    assert (run_netx(tmp_path / "a.net", x) == expected).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_file_reads_back_as_the_network(name, tmp_path):
    save_netx(EXAMPLES[name], tmp_path / "a.net")
    assert_same_numbers(load_netx(tmp_path / "a.net"), EXAMPLES[name])


@pytest.mark.parametrize("i_decay", [4096, 1000])
def test_slayer_adds_the_bias_of_recurrent_layers_to_their_current(i_decay, monkeypatch):
    """Which is why those with a current that outlasts a step are refused."""
    rng = np.random.default_rng(2)
    synapse = Dense(weights(rng, 6, 5), weights(rng, 6, 6))
    network = build((5,), [(synapse, CubaNeuron(i_decay, 200, 400), True)])
    x = spikes(network, 12, 2)
    (expected,) = simulate(network, x).values()
    if i_decay == 4096:
        (block,) = to_slayer(network)
        for _ in range(2):  # a second run starts from rest again
            found = block(torch.from_numpy(np.moveaxis(x, 0, -1).copy())).detach().numpy()
            assert (np.moveaxis(found, -1, 0) == expected).all()
        return
    with pytest.raises(LimitError, match="slayer adds"):
        to_slayer(network)
    monkeypatch.setattr("onnx2lava.write.slayer.require_slayer_exact", lambda network: None)
    (block,) = to_slayer(network)
    wrong = block(torch.from_numpy(np.moveaxis(x, 0, -1).copy())).detach().numpy()
    assert (np.moveaxis(wrong, -1, 0) != expected).any()
    assert "slayer adds" in verify(network, x).left_out["slayer"]


def test_the_longest_delay_and_counts_into_a_recurrent_layer(tmp_path):
    rng = np.random.default_rng(5)
    layers = [
        (Dense(weights(rng, 6, 5), weights(rng, 6, 6)), CubaNeuron(4096, 300, 9000), True),
        (Dense(weights(rng, 4, 6)), CubaNeuron(1000, 10, 300), True),
    ]
    network = replace(build((5,), layers, delays=(0, 62)), message_bits=8)
    x = rng.integers(0, 256, (70, 3, 5)).astype(np.float32)
    save_netx(network, tmp_path / "a.net")
    for found, (name, expected) in zip(run_netx_layers(tmp_path / "a.net", x), simulate(network, x).items(), strict=True):
        assert 0 < expected.mean() < 1, name
        assert (found == expected).all(), name


def _killer(_done, _total):
    victim = next(process for process in multiprocessing.active_children() if "SystemProcess" in type(process).__name__)
    victim.kill()
    while victim.is_alive():
        time.sleep(0.01)


def _interrupter(_done, _total):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("progress", "error"), [(_killer, LavaRunError), (_interrupter, KeyboardInterrupt)])
def test_no_process_of_lava_is_left_behind(progress, error, tmp_path):
    network = EXAMPLES["dense"]
    save_netx(network, tmp_path / "a.net")
    x = spikes(network, 4, 3)
    with pytest.raises(error):
        run_netx(tmp_path / "a.net", x, progress=progress)
    assert multiprocessing.active_children() == []
    (*_, expected) = simulate(network, x).values()
    assert (run_netx(tmp_path / "a.net", x) == expected).all()
    assert multiprocessing.active_children() == []
