"""What NetX accepts in a ``.net`` file, form by form, without Lava: what it becomes, and that every file format keeps it."""

import io
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnx2lava import (
    Conv,
    ConversionError,
    CubaNeuron,
    Dense,
    Edge,
    Input,
    ModelFileError,
    Network,
    NetworkError,
    Population,
    load,
    save_netx,
    to_onnx,
)
from onnx2lava.network import INPUT
from onnx2lava.read.netx import MESSAGE_BITS, NOTES
from onnx2lava.targets import TARGETS
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.commands import run
from tests.onnx2lava.networks import assert_same_numbers

RNG = np.random.default_rng(0)
MATRIX = RNG.integers(-60, 60, (4, 6)) * 2
KERNEL = RNG.integers(-60, 60, (3, 2, 3, 3)) * 2
CUBA = {"neuron/type": "CUBA", "neuron/iDecay": 1024, "neuron/vDecay": 400, "neuron/vThMant": 60}
NEURON = CubaNeuron(1024, 400, 60)


def write(path, *layers):
    """A file of layers, each as its datasets by name."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for index, layer in enumerate(layers):
            for key, value in layer.items():
                value = np.array([value.encode()], "S10") if key == "type" else value
                file[f"layer/{index}/{key}"] = value
    path.write_bytes(content.getvalue())
    return path


def input_layer(*shape, **more):
    return {"type": "input", "shape": np.array(shape), **more}


def dense(weight=MATRIX, **more):
    return {"type": "dense", "shape": np.array([4]), "weight": weight.astype("f4"), **CUBA, **_slashed(more)}


def conv(weight=KERNEL, stride=(1, 1), shape=(3, 3, 2), **more):
    window = {"stride": stride, "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return {"type": "conv", "shape": np.array(shape), "weight": weight.astype("f4"), **window, **CUBA, **_slashed(more)}


def _slashed(values):
    """``neuron__iDecay`` as ``neuron/iDecay``."""
    return {key.replace("__", "/"): value for key, value in values.items()}


def one(population, *shape, numbers=False):
    return Network("n", {INPUT: Input(shape, numbers=numbers)}, (population,), (population.name,))


def of_dense(shape=(6,), weight=MATRIX, neuron=NEURON, bias=None, delays=None):
    edges = [Edge(INPUT, Dense(weight))]
    if delays is not None:
        delays = np.broadcast_to(delays, weight.shape)
        edges = [Edge(INPUT, Dense(np.where(delays == step, weight, 0)), int(step)) for step in np.unique(delays)]
    return one(Population("p", (4,), neuron, tuple(edges), bias), *shape)


def of_conv(weight=KERNEL, neuron=NEURON, bias=None, stride=(1, 1), shape=(3, 3, 2)):
    return one(Population("p", shape, neuron, (Edge(INPUT, Conv(weight, stride)),), bias), 2, 5, 4)


EACH = np.array([100, 0, 4096, 7])
ONE_EACH = CubaNeuron(EACH, 400, EACH + 3)
CHANNELS = np.array([100, 0, 4095])
IMAGE = RNG.integers(0, 9, (3, 3, 2))  # (C, H, W)
LATE = np.array([3, 0, 1, 3])
EVERY = RNG.integers(0, 4, MATRIX.shape)
ODD = MATRIX + RNG.integers(0, 2, MATRIX.shape)
ONES = np.full((2, 1, 1, 1), 36)

FORMS = {
    "no input layer, dense": ([dense()], of_dense()),
    "an input layer of two axes": ([input_layer(2, 3), {"type": "flatten"}, dense()], of_dense((1, 2, 3))),
    "one axis of weights": ([dense(MATRIX.reshape(-1))], of_dense()),
    "odd weights": ([dense(ODD)], of_dense(weight=ODD)),
    "one bias": ([dense(bias=np.array([7.0]))], of_dense(bias=np.full(4, 7))),
    "a scalar bias": ([dense(bias=7.0)], of_dense(bias=np.full(4, 7))),
    "a bias each": ([dense(bias=EACH[::-1] - 50)], of_dense(bias=EACH[::-1] - 50)),
    "parameters of each neuron": ([dense(neuron__iDecay=EACH, neuron__vThMant=EACH + 3)], of_dense(neuron=ONE_EACH)),
    "no current decay": ([dense(neuron__iDecay=0)], of_dense(neuron=CubaNeuron(0, 400, 60))),
    "a threshold above the register": ([dense(neuron__vThMant=262143)], of_dense(neuron=CubaNeuron(1024, 400, 262143))),
    "one delay": ([dense(delay=3)], of_dense(delays=3)),
    "delays by output": ([dense(delay=LATE)], of_dense(delays=LATE[:, None])),
    "delays by input": ([dense(delay=np.arange(6.0))], of_dense(delays=np.arange(6))),
    "delays of synapses": ([dense(delay=EVERY)], of_dense(delays=EVERY)),
    "delays above 62": ([dense(delay=np.array([70, 63, 62, 0]))], of_dense(delays=np.array([62, 62, 62, 0])[:, None])),
    "weights beyond eight bits": ([dense(MATRIX * 4)], of_dense(weight=np.clip(MATRIX * 4, -256, 254))),
    "five axes, scalars": (
        [input_layer(2, 5, 4), conv(KERNEL[..., None], 2, (3, 2, 1))],
        of_conv(stride=(2, 2), shape=(3, 2, 1)),
    ),
    "channels": (
        [input_layer(2, 5, 4), conv(neuron__vDecay=CHANNELS, bias=CHANNELS - 99)],
        of_conv(neuron=CubaNeuron(1024, CHANNELS, 60), bias=CHANNELS - 99),
    ),
    "a bias and decays of each neuron of an image": (
        [input_layer(2, 5, 4), conv(bias=IMAGE.T, neuron__iDecay=IMAGE.T * 9)],
        of_conv(bias=IMAGE, neuron=CubaNeuron(IMAGE * 9, 400, 60)),
    ),
    "delays of a convolution": ([input_layer(2, 5, 4), conv(delay=np.array([1, 2, 3]))], of_conv()),
    "an input layer with neurons": (
        [input_layer(2, 5, 4, weight=np.array([36.0]), bias=34.0, **CUBA)],
        one(
            Population("p", (2, 5, 4), CubaNeuron(4096, 400, 60), (Edge(INPUT, Conv(ONES, groups=2)),), np.full(2, 34)),
            *(2, 5, 4),
            numbers=True,
        ),
    ),
}


def numbers(network, steps=12, samples=2):
    """Spikes, or any numbers where the network takes them."""
    shape = (steps, samples, *network.inputs[INPUT].shape)
    rng = np.random.default_rng(1)
    if network.inputs[INPUT].numbers:
        return {INPUT: rng.normal(size=shape).astype(np.float32)}
    return {INPUT: (rng.random(shape) < 0.4).astype(np.float32)}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_what_netx_makes_of_it_in_every_file(form, tmp_path):
    layers, expected = FORMS[form]
    network = load(write(tmp_path / "a.net", *layers))
    assert_same_numbers(network, expected)
    (tmp_path / "a.onnx").write_bytes(to_onnx(network, outputs="all").SerializeToString())
    save_netx(load(tmp_path / "a.onnx"), tmp_path / "b.net")
    x = numbers(network)
    spikes = simulate(network, x)[network.outputs[0]]
    assert spikes.any() or "register" in form
    for each in (load(tmp_path / "a.onnx"), load(tmp_path / "b.net")):
        assert_same_numbers(each, network)
    for target in ("ort", "ort-native"):
        np.testing.assert_array_equal(TARGETS[target].run(network, x)[network.outputs[0]], spikes)


def test_a_layer_without_neurons_integrates_for_ever_and_its_input_comes_from_the_caller(tmp_path):
    readout = {"type": "dense", "shape": np.array([5]), "weight": np.ones((5, 18))}
    path = write(tmp_path / "a.net", conv(), {"type": "flatten"}, readout)
    network = load(path, input_shape=(4, 5, 2))
    assert network.inputs[INPUT].shape == (2, 5, 4)
    assert network.populations[1].neuron == CubaNeuron(0, 4096, 131072)
    assert not TARGETS["ort"].run(network, numbers(network))["layer/2"].any()
    assert "layer/2" in run("inspect", "a.net", "--input-shape", "4,5,2", folder=tmp_path, code=0)
    run("convert", "a.net", "-o", "a.onnx", "--input-shape", "4,5,2", "--num-layers", "1", folder=tmp_path, code=0)
    assert len(load(tmp_path / "a.onnx").populations) == 1
    assert load(path, input_shape=(4, 5, 2), skip_layers=1).inputs[INPUT].shape == (3, 3, 2)


def test_feedback_of_neurons_that_differ(tmp_path):
    back = RNG.integers(-40, 40, (4, 4)) * 2
    layer = {**dense(neuron__vDecay=EACH), "type": "dense_rec", "weight_rec": back}
    network = load(write(tmp_path / "a.net", layer))
    x = numbers(network, 20)
    spikes = simulate(network, x)["layer/0"]
    assert spikes.any()
    for target in ("ort", "ort-native"):
        np.testing.assert_array_equal(TARGETS[target].run(network, x)["layer/0"], spikes)
    assert_same_numbers(load(to_onnx(network)), network)


REFUSED = {
    "a convolution first": ([conv()], ConversionError, "input_shape=\\(W, H, C\\)"),
    "a pool": (
        [dense(), {"type": "pool"}],
        ConversionError,
        "'pool', which NetX does not run: read those before it with num_layers=1",
    ),
    "something else": ([{"type": "magic"}], ConversionError, "neither NetX nor this program knows"),
    "sigma-delta": ([dense(neuron__type="SDNN")], ConversionError, "sigma-delta neurons \\(SDNN\\)"),
    "resonate-and-fire": ([dense(neuron__type="RF_PHASE")], ConversionError, "resonate-and-fire"),
    "nothing": ([input_layer(4)], ConversionError, "no layer of neurons"),
    "a flatten left out": ([input_layer(2, 5, 4), conv(), dense(np.ones((4, 18)))], NetworkError, "without a flatten layer"),
    "another shape": ([input_layer(2, 5, 4), conv(shape=(3, 2, 3))], NetworkError, "its convolution gives"),
    "a bias that fits nothing": ([dense(bias=np.ones(3))], NetworkError, "fits no neurons"),
    "decays that fit nothing": ([dense(neuron__iDecay=np.ones(3))], NetworkError, "iDecay of the shape"),
    "delays that fit nothing": ([dense(delay=np.ones(3))], NetworkError, "3 delays"),
    "a delay below 0": ([dense(delay=-1)], NetworkError, "below 0"),
    "nothing is an image": ([input_layer(2, 5, 4, weight=np.ones(2), **CUBA)], ModelFileError, "'weight' holds 2 numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_netx_refuses_is_refused_in_one_sentence(case, tmp_path):
    layers, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        load(write(tmp_path / "a.net", *layers))


@pytest.mark.parametrize(("option", "value"), [("num_layers", 0), ("skip_layers", -1), ("input_shape", (1, 2, 3, 4))])
def test_arguments_that_make_no_sense(option, value, tmp_path):
    with pytest.raises(ConversionError, match=f"The argument {option} is"):
        load(write(tmp_path / "a.net", dense()), **{option: value})


def test_what_netx_does_differently_is_said(tmp_path):
    write(tmp_path / "a.net", dense(delay=np.array([70, 1, 1, 1]), neuron__gradedSpike=True))
    assert len(load(tmp_path / "a.net").metadata[NOTES].splitlines()) == 2
    assert "are clipped to 62, as in NetX" in run("inspect", "a.net", "--wide", folder=tmp_path, code=0)


def test_a_small_file_does_not_become_a_large_network(tmp_path):
    """Delays of a compressed matrix, each another edge with a matrix of its own."""
    path = tmp_path / "a.net"
    write(path, {"type": "dense", "shape": np.array([2000]), **CUBA})
    with h5py.File(path, "r+") as file:
        for name, values in (("weight", np.ones((2000, 2000), "i1")), ("delay", np.arange(2000) % 63)):
            file.create_dataset(f"layer/0/{name}", data=values, compression="gzip")
    with pytest.raises(ModelFileError, match="more of it than there is room for"):
        load(path)


def test_files_say_who_wrote_them_and_what_the_layers_are_called(tmp_path):
    network = of_dense()
    network = Network("n", network.inputs, network.populations, network.outputs, {"sj2lava.scales": '{"p": 64}'})
    save_netx(network, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file.attrs["producer"] == b"sj2lava"
        assert file.attrs["producer_version"]
    again = load(tmp_path / "a.net")
    assert [each.name for each in again.populations] == ["p"]
    assert again.metadata == network.metadata
    run("convert", "a.net", "-o", "b.net", folder=tmp_path, code=0)
    assert len(load(tmp_path / "b.net").metadata["sj2lava.source_sha256"]) == 64
    assert to_onnx(network).producer_version


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=9) | st.sampled_from(["", "a\0b", MESSAGE_BITS, "k" * 70_000]),
        st.text(max_size=9) | st.sampled_from(["", "\0", "v" * 20_000, "v" * 70_000]),
    )
)
def test_whatever_is_noted_about_a_network_its_file_can_be_read(tmp_path, metadata):
    network = replace(of_dense(), metadata=metadata)
    save_netx(network, tmp_path / "a.net")
    assert_same_numbers(load(tmp_path / "a.net"), network)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_parameters_and_delays_spike_alike(data):
    """Decays, thresholds, biases and delays of each neuron or synapse, in NumPy, on onnxruntime, and read back."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    each = [rng.integers(0, high, 4) for high in (4097, 4097, 200)]
    parameters = [values if data.draw(st.booleans()) else int(values[0]) for values in each]
    delays = data.draw(st.sampled_from([None, LATE[:, None], rng.integers(0, 63, MATRIX.shape)]))
    network = of_dense(neuron=CubaNeuron(*parameters), bias=rng.integers(-9, 9, 4), delays=delays)
    x = numbers(network)
    spikes = simulate(network, x)["p"]
    model = to_onnx(network)
    np.testing.assert_array_equal(TARGETS["ort"].run(network, x)["p"], spikes)
    np.testing.assert_array_equal(simulate(load(model), x)["p"], spikes)
