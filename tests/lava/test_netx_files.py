"""Files of Lava-DL: those in its wheel against the spikes that Intel recorded, and those that its blocks write against NetX."""

import h5py
import numpy as np
import pytest

import onnx2lava
from onnx2lava import ConversionError, load, run_netx, save_netx, to_onnx
from onnx2lava.network import INPUT
from onnx2lava.targets import TARGETS
from tests.lava.intel import netx_folder, plain_netx

FOLDER = netx_folder()
FILES = {
    "tiny.net": {},
    "mnist.net": {},
    "gts/pilotnet_lif/network.net": {},
    "gts/ntidigits/ntidigits.net": {"num_layers": 5},  # an average follows, which NetX does not run
}


def recorded(name):
    """A recording of Intel's, ``[T, *]``: time is the last axis of Lava's (W, H, C, T)."""
    array = np.load(FOLDER / "gts" / f"{name}.npy")
    return array.transpose(*range(array.ndim - 1, -1, -1))


def image(name, weight, bias):
    """What an ``input`` layer makes the recorded biases of."""
    return ((recorded(name) - bias) / np.float32(weight)).astype(np.float32)


def everywhere(network, x):
    """The spikes of each population, after all runtimes that can hold the network have agreed on all of them."""
    found = {name: target.run(network, {INPUT: x}) for name, target in TARGETS.items() if name in _here(network)}
    expected = found.pop("ort")
    for name, spikes in found.items():
        for population, values in expected.items():
            np.testing.assert_array_equal(spikes[population], values, f"{name}: {population}")
    return expected


def _here(network):
    names = {"ort", "ort-native", "numpy"}
    return names | ({"slayer"} if not TARGETS["slayer"].check(network) else set())


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_wheel_with_cuba_neurons_loads_and_comes_back(name, tmp_path):
    network = load(FOLDER / name, **FILES[name])
    (tmp_path / "a.onnx").write_bytes(to_onnx(network).SerializeToString())
    back = load(tmp_path / "a.onnx")
    save_netx(back, tmp_path / "a.net")
    again = load(tmp_path / "a.net")
    assert [each.shape for each in again.populations] == [each.shape for each in network.populations]
    x = np.random.default_rng(0).integers(0, 2, (4, 1, *network.inputs[INPUT].shape)).astype(np.float32)
    for one, other in zip(network.populations, again.populations, strict=True):
        assert one.neuron == other.neuron
    native = TARGETS["ort-native"]
    for one, other in zip(native.run(network, {INPUT: x}).values(), native.run(again, {INPUT: x}).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "message"), [("gts/pilotnet_sdnn/network.net", "sigma-delta"), ("gts/ntidigits/ntidigits.net", "num_layers=5")]
)
def test_what_netx_or_loihi_do_not_run_is_refused(name, message):
    with pytest.raises(ConversionError, match=message):
        load(FOLDER / name)


def test_tinynet_spikes_as_intel_recorded():
    x = np.broadcast_to(image("tinynet/input_bias", 36, 34), (15, 1, 3, 16, 16))
    network = load(FOLDER / "tiny.net")
    found = everywhere(network, x)
    for population, name in (("layer/0", "input"), ("layer/1", "layer1"), ("layer/2", "output")):
        expected = np.load(FOLDER / "gts" / "tinynet" / f"{name}.npy")  # [N, C, H, W, T], a step late
        assert expected.any()
        np.testing.assert_array_equal(found[population], np.moveaxis(expected, -1, 0)[1:])
    np.testing.assert_array_equal(run_netx(FOLDER / "tiny.net", x), found["layer/2"])


def test_pilotnet_spikes_as_intel_recorded():
    path = FOLDER / "gts" / "pilotnet_lif" / "network.net"
    x = np.broadcast_to(image("pilotnet_lif/image", 40, 36), (16, 1, 3, 66, 200))
    native = TARGETS["ort-native"].run(load(path), {INPUT: x})
    stock = TARGETS["ort"].run(load(path), {INPUT: x})
    names = ["input", *(f"conv-{k}" for k in range(5)), *(f"fc-{k}" for k in range(3))]
    for late, (name, population) in enumerate(zip(names, native, strict=False)):
        expected = recorded(f"pilotnet_lif/{name}")[late : late + 16]  # each layer a step later, from rest
        np.testing.assert_array_equal(native[population][: len(expected), 0], expected)
        np.testing.assert_array_equal(stock[population], native[population])
        assert expected.any()
    np.testing.assert_array_equal(run_netx(path, x[:10]), native["layer/10"][:10])


def test_ntidigits_spikes_as_intel_recorded():
    """Dense layers in which each neuron hears its input some steps late."""
    path = FOLDER / "gts" / "ntidigits" / "ntidigits.net"
    network = load(path, num_layers=5)
    x = recorded("ntidigits/input").reshape(-1, 1, 64, 1, 1).astype(np.float32)
    x = x.reshape(-1, 1, *network.inputs[INPUT].shape)[:400]
    found = everywhere(network, x)["layer/4"]
    expected = recorded("ntidigits/output")[4:400]
    assert expected.any()
    np.testing.assert_array_equal(found[: len(expected), 0], expected)
    np.testing.assert_array_equal(run_netx(path, x[:150], num_layers=5), found[:150])


def parameters(**more):
    return {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1, **more}


def built(name, path):
    """Write one of these networks as lava-dl does; its input and NetX's options."""
    import lava.lib.dl.slayer as slayer
    import torch

    torch.manual_seed(3)
    block = slayer.block.cuba
    differing = parameters(shared_param=False, current_decay=[0.1, 0.9], voltage_decay=[0.02, 0.5])
    biased = parameters(norm=slayer.neuron.norm.MeanOnlyBatchNorm)
    rng = np.random.default_rng(1)
    options = {}
    x = (rng.random((40, 20)) < 0.3).astype(np.float32)
    if name == "delays, weight_norm, scales":
        late = {"weight_norm": True, "weight_scale": 4, "delay": True}
        blocks = [block.Dense(parameters(), 20, 16, **late), block.Dense(parameters(), 16, 9, weight_scale=8)]
    elif name == "decays of each neuron, feedback":
        blocks = [block.Recurrent(differing, 20, 12, weight_scale=3), block.Dense(differing, 12, 9, weight_scale=6)]
    elif name == "biases, no current decay":
        forgets_not = {**biased, "current_decay": 0.0}
        blocks = [block.Dense(forgets_not, 20, 12), block.Dense(biased, 12, 9, weight_scale=6)]
    elif name == "convolutions, decays of each channel":
        x = (rng.random((25, 2, 7, 6)) < 0.3).astype(np.float32)
        options = {"input_shape": (6, 7, 2)}
        blocks = [
            block.Conv(parameters(), 2, 4, 3, stride=2, padding=1, weight_scale=4),
            block.Flatten(),
            block.Dense(parameters(), 48, 9, weight_scale=4),
        ]
    else:
        blocks = [block.Input(parameters(), weight=1.5, bias=0.2), block.Dense(parameters(), 20, 16, weight_scale=3)]
        x = np.broadcast_to(rng.random(20).astype(np.float32), (30, 20))
    h = torch.from_numpy(np.moveaxis(x, 0, -1)[None].copy())
    with torch.no_grad():
        for each in blocks:
            h = each(h)
            if getattr(each, "delay", None) is not None:
                each.delay.delay.data = torch.randint(0, 9, each.delay.delay.shape).float()
            if getattr(getattr(each, "neuron", None), "norm", None) is not None:
                each.neuron.norm.running_mean.uniform_(-0.3, 0.3)
    with h5py.File(path, "w") as file:
        for index, each in enumerate(blocks):
            each.export_hdf5(file.create_group(f"layer/{index}"))
        if "channel" in name:  # which NetX runs, though slayer itself does not on a CPU
            for key, values in (("iDecay", [9, 4000, 1024, 77]), ("vThMant", [80, 20, 70, 60])):
                del file[f"layer/0/neuron/{key}"]
                file[f"layer/0/neuron/{key}"] = values
    return x, options


NETWORKS = (
    "delays, weight_norm, scales",
    "decays of each neuron, feedback",
    "biases, no current decay",
    "convolutions, decays of each channel",
    "an input layer",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_lava_dl_exports_spikes_as_in_plain_netx(name, tmp_path):
    x, options = built(name, tmp_path / "a.net")
    network = load(tmp_path / "a.net", **options)
    found = everywhere(network, x[:, None])[network.outputs[0]]
    if network.inputs[INPUT].numbers:
        first = network.populations[0]
        weight, bias = first.edges[0].map.weight.flat[0], 0 if first.bias is None else first.bias.flat[0]
        expected = plain_netx(tmp_path / "a.net", None, bias=(np.rint(x[0] * np.float32(weight)) + bias, len(x)))
    else:
        expected = plain_netx(tmp_path / "a.net", x, **options)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(found[:, 0], expected)
    np.testing.assert_array_equal(run_netx(tmp_path / "a.net", x[:, None], **options), found)
    save_netx(network, tmp_path / "b.net")
    np.testing.assert_array_equal(run_netx(tmp_path / "b.net", x[:, None]), found)
    assert onnx2lava.load(tmp_path / "b.net").metadata == network.metadata
