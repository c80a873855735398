"""The network in the real Lava-DL and Lava: the same file, the same spikes."""

import multiprocessing
import threading
import time

import h5py
import numpy as np
import pytest
import torch
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from onnx2lava import Conv, CubaNeuron, Dense, load, quantize, run_lava, run_netx, save_netx, to_slayer, verify
from onnx2lava.errors import LavaRunError, LimitError
from onnx2lava.lava_runtime import simulation
from onnx2lava.network import INPUT
from onnx2lava.network.fan_out import synapse_count
from onnx2lava.quantization.integers import integer_weights
from onnx2lava.targets import TARGETS
from onnx2lava.targets.netx.running import run_netx_layers
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.float_graphs import float_graphs
from tests.onnx2lava.networks import (
    build,
    chains,
    examples,
    float_networks,
    graphs,
    networks,
    random_chains,
    spikes,
    unusual_chains,
    weights,
)

EXAMPLES = chains()
CHAINS = chains() | unusual_chains()


def assert_same_spikes(network, name, steps=6, samples=2):
    """Unless the target says that it cannot hold the network, which its own tests look at."""
    if TARGETS[name].check(network):
        return
    x = spikes(network, steps, samples)
    found = TARGETS[name].run(network, x)
    for population, expected in simulate(network, x).items():
        np.testing.assert_array_equal(found[population], expected, err_msg=population)


def stays_inside(network):
    """Whether states stay inside 24 bits, beyond which slayer goes on and Loihi does not."""
    return not any(given_.bits for given_ in network.inputs.values())


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
    assert isinstance(blocks, torch.nn.Sequential)
    # Lava-DL learns the shape of Flatten from a forward pass.
    with torch.no_grad():
        blocks(torch.zeros(1, *network.inputs[INPUT].shape, 1))
    with h5py.File(tmp_path / "theirs.net", "w") as file:
        # slayer delays what a block gives, which is an axon before the next one here.
        for index, block in enumerate(block for block in blocks if hasattr(block, "export_hdf5")):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    ours = _datasets(tmp_path / "ours.net", 1)
    delays = {name: ours.pop(name)[2] for name in list(ours) if name.endswith("/delay")}
    assert list(delays.values()) == [each.edges[0].delay for each in network.populations if each.edges[0].delay]
    assert ours == _datasets(tmp_path / "theirs.net", 0)
    assert any(name.endswith("/weight") for name in ours)


@pytest.mark.parametrize("name", CHAINS)
def test_every_spike_of_netx_is_the_same(name):
    """Three samples in a row, so that resets count."""
    assert TARGETS["netx"].check(CHAINS[name]) == []
    assert_same_spikes(CHAINS[name], "netx", 7, 3)


@pytest.mark.parametrize("name", examples())
def test_every_spike_of_slayer_is_the_same(name):
    network = examples()[name]
    refused = [finding for finding in TARGETS["slayer"].check(network) if "slayer adds" not in finding.message]
    assert refused == []
    assert_same_spikes(network, "slayer", 8, 3)


@pytest.mark.parametrize("name", ["sums of synapses and concatenation", "two inputs and two outputs"])
def test_a_graph_is_a_module_of_its_inputs_and_outputs(name):
    network = graphs()[name]
    x = spikes(network, 6, 2)
    module = to_slayer(network)
    with torch.no_grad():
        found = module(*(torch.from_numpy(np.moveaxis(values, 0, -1).copy()) for values in x.values()))
    expected = simulate(network, x)
    outputs = found if isinstance(found, tuple) else (found,)
    for output, values in zip(network.outputs, outputs, strict=True):
        assert (np.moveaxis(values.numpy(), -1, 0) == expected[output]).all()


@settings(max_examples=60, deadline=None)
@given(networks().filter(stays_inside))
def test_random_graphs_in_slayer(network):
    assert_same_spikes(network, "slayer")


@settings(max_examples=40, deadline=None)
@given(random_chains(unusual=True).filter(stays_inside))
def test_random_chains_in_slayer(network):
    assert_same_spikes(network, "slayer")


@settings(max_examples=25, deadline=None)
@given(random_chains(unusual=True))
def test_random_chains_in_netx(network):
    assert_same_spikes(network, "netx", 5)


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
@given(float_networks(networks()).filter(stays_inside), st.sampled_from(["auto", 64]))
def test_quantised_networks_in_slayer(network, scale):
    assert_same_spikes(quantize(network, scale=scale), "slayer")


@seed(4)
@settings(max_examples=12, deadline=None)
@given(float_networks())
def test_quantised_networks_in_netx(network):
    assert_same_spikes(quantize(network), "netx", 5)


@seed(6)
@settings(max_examples=60, deadline=None)
@given(float_graphs())
def test_read_networks_in_slayer(graph):
    assert_same_spikes(quantize(load(graph.model())), "slayer")


@seed(6)
@settings(max_examples=20, deadline=None)
@given(float_graphs())
def test_read_networks_in_netx(graph):
    assert_same_spikes(quantize(load(graph.model())), "netx", 5)


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
    back = {} if feedback is None else {0: 2 * np.array([[feedback]], np.int32)}
    network = build((len(halves),), [(Dense(weight), CubaNeuron(4096, 0, 10), False)], feedback=back)
    weight = np.hstack([weight, *back.values()])
    refused = bool(TARGETS["netx"].check(network))
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
    for spikes_, layer in zip(run_netx_layers(tmp_path / "a.net", x[INPUT]), expected, strict=True):
        assert (spikes_ == expected[layer]).all()


def test_more_groups_than_lava_can_count(tmp_path):
    """With 128 groups Lava's int8 overflows and no neuron fires: the file is written with fewer."""
    rng = np.random.default_rng(0)
    network = build((130, 2, 2), [(Conv(weights(rng, 260, 1, 2, 2), groups=130), CubaNeuron(4096, 0, 100), False)])
    save_netx(network, tmp_path / "a.net")
    x = spikes(network, 4, 2)
    (expected,) = simulate(network, x).values()
    assert 0 < expected.mean() < 1
    assert (run_netx(tmp_path / "a.net", x[INPUT]) == expected).all()


@pytest.mark.parametrize("i_decay", [4096, 1000])
def test_slayer_adds_the_bias_of_recurrent_layers_to_their_current(i_decay, monkeypatch):
    """Which is why those with a current that outlasts a step are refused."""
    rng = np.random.default_rng(3)
    weight, back = (2 * rng.integers(-128, 128, (6, inputs), dtype=np.int32) for inputs in (5, 6))
    network = build((5,), [(Dense(weight), CubaNeuron(i_decay, 200, 400), True)], feedback={0: back})
    x = spikes(network, 12, 2)
    (expected,) = simulate(network, x).values()
    given_ = torch.from_numpy(np.moveaxis(x[INPUT], 0, -1).copy())
    if i_decay == 4096:
        (block,) = to_slayer(network)
        for _ in range(2):  # a second run starts from rest again
            assert (np.moveaxis(block(given_).detach().numpy(), -1, 0) == expected).all()
        return
    with pytest.raises(LimitError, match="slayer adds"):
        to_slayer(network)
    monkeypatch.setattr("onnx2lava.targets.slayer.building.checked", lambda network: [])
    (block,) = to_slayer(network)
    assert (np.moveaxis(block(given_).detach().numpy(), -1, 0) != expected).any()
    assert "slayer adds" in verify(network, x, against=None).left_out["slayer"]


def test_sums_that_lavas_convolution_wraps_become_those_of_a_matrix(tmp_path):
    """From 2**23 on; the same sums in a matrix do not wrap."""
    neuron = CubaNeuron(4096, 4096, 131071)
    network = build((255, 1, 1), [(Conv(np.full((2, 255, 1, 1), 254)), neuron, False)], bits=8)
    assert TARGETS["netx"].check(network) == []
    assert isinstance(TARGETS["netx"].legalise(network).populations[0].edges[0].map, Dense)
    x = {INPUT: np.full((4, 2, 255, 1, 1), 255, np.float32)}
    save_netx(network, tmp_path / "a.net")
    assert (run_netx(tmp_path / "a.net", x[INPUT]) == simulate(network, x)["conv_fc.0"].reshape(4, 2, 2)).all()


def test_the_longest_delay_and_counts_into_a_recurrent_layer():
    rng = np.random.default_rng(5)
    layers = [
        (Dense(weights(rng, 6, 5)), CubaNeuron(4096, 300, 9000), True),
        (Dense(weights(rng, 4, 6)), CubaNeuron(1000, 10, 300), True),
    ]
    network = build((5,), layers, delays=(0, 62), feedback={0: weights(rng, 6, 6)}, bits=8)
    x = spikes(network, 70, 3)
    found = TARGETS["netx"].run(network, x)
    for name, expected in simulate(network, x).items():
        assert 0 < expected.mean() < 1, name
        assert (found[name] == expected).all(), name


def _own_processes():
    from lava.magma.core.run_configs import Loihi2SimCfg

    return Loihi2SimCfg(select_tag="fixed_pt")


def test_a_long_run_of_a_large_network_has_lavas_own_runtime(tmp_path, monkeypatch):
    network = EXAMPLES["dense"]
    save_netx(network, tmp_path / "a.net")
    x = spikes(network, 4, 3)
    (*_, expected) = simulate(network, x).values()
    for many, processes in ((1, True), (2**40, False)):
        found = []
        monkeypatch.setattr(simulation, "_MANY_SYNAPSES", many)
        monkeypatch.setattr(simulation, "_LONG_RUN", 12 * synapse_count(network))
        count = lambda *_, found=found: found.append(bool(multiprocessing.active_children()))  # noqa: E731
        assert (run_netx(tmp_path / "a.net", x[INPUT], progress=count) == expected).all()
        assert set(found) == {processes}


def _killer(_done, _total):
    victim = next(process for process in multiprocessing.active_children() if "SystemProcess" in type(process).__name__)
    victim.kill()
    while victim.is_alive():
        time.sleep(0.01)


def _interrupter(_done, _total):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("progress", "error", "run_config"),
    [
        (_killer, LavaRunError, _own_processes),
        (_interrupter, KeyboardInterrupt, _own_processes),
        (_interrupter, KeyboardInterrupt, None),
    ],
)
def test_no_process_and_no_thread_of_lava_is_left_behind(progress, error, run_config, tmp_path):
    network = EXAMPLES["dense"]
    save_netx(network, tmp_path / "a.net")
    x = spikes(network, 4, 3)
    before = threading.active_count()
    with pytest.raises(error):
        run_netx(tmp_path / "a.net", x[INPUT], progress=progress, run_config=run_config)
    assert multiprocessing.active_children() == []
    (*_, expected) = simulate(network, x).values()
    assert (run_netx(tmp_path / "a.net", x[INPUT], run_config=run_config) == expected).all()
    assert multiprocessing.active_children() == []
    assert run_config is not None or threading.active_count() == before


@pytest.mark.parametrize("run_config", [None, _own_processes])
@pytest.mark.parametrize("where", ["run_spk", "__init__"])
def test_what_a_process_model_stumbles_over_is_said_and_nothing_goes_on(where, run_config, monkeypatch):
    from lava.proc.lif.models import PyLifResetModelBitAcc

    def stumble(self, *_):
        raise ArithmeticError("a step too far")

    network = EXAMPLES["dense"]
    x = spikes(network, 4, 2)
    (*_, expected) = simulate(network, x).values()
    before = threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(PyLifResetModelBitAcc, where, stumble)
        with pytest.raises(LavaRunError, match="ArithmeticError: a step too far"):
            run_lava(network, x, run_config=run_config)
    assert multiprocessing.active_children() == []
    assert (run_lava(network, x) == expected).all()
    assert threading.active_count() <= before + (2 if run_config else 0)  # Lava's own queues have threads
