"""Networks as the native library runs them, synapse and neurons in one operator: the same spikes, on every instruction set."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import custom_ops
from custom_ops.graphs.optimize import optimize, unfused
from onnx2lava import Conv, Dense, to_onnx
from onnx2lava.network import Network
from onnx2lava.targets.numpy import simulate
from tests.custom_ops.native import Library
from tests.onnx2lava.networks import IF, LEAKY, build, examples, networks, random_chains, spikes, weights


def blocks(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "CubaBlock" for node in model.graph.node)


def fusible(network: Network) -> int:
    return sum(not each.feedback and _fits(each.edges[0].map) for each in network.populations)


def _fits(map_) -> bool:
    if isinstance(map_, Dense):
        return True
    reach = [(kernel - 1) * dilation + 1 for kernel, dilation in zip(map_.weight.shape[2:], map_.dilation, strict=True)]
    return map_.groups == 1 and all(pad < length for pad, length in zip(map_.pads, reach, strict=False))


INPUTS = {
    "spikes": lambda rng, shape: rng.random(shape) < 0.4,
    "counts": lambda rng, shape: rng.integers(0, 128, shape),
    "larger counts": lambda rng, shape: rng.integers(0, 300, shape),
    "real numbers": lambda rng, shape: rng.integers(-12, 13, shape) / 4,  # their sums are exact, and ties occur
}


@settings(deadline=None, max_examples=60)
@given(
    random_chains(),
    st.sampled_from(["last", "all"]),
    st.sampled_from(sorted(INPUTS)),
    st.sampled_from([0, 1, 3, 8, 33, 40]),
    st.integers(0, 3),
)
def test_a_network_of_blocks_gives_the_same_spikes(network, outputs, kind, steps, samples):
    model = to_onnx(network, outputs=outputs)
    assert blocks(optimize(model)) == fusible(network)
    x = INPUTS[kind](np.random.default_rng(0), (max(steps, 1), samples, *network.inputs["input"].shape)).astype(np.float32)
    expected = custom_ops.session(model, native=False).run(None, {"input": x})
    library = Library()
    for isa in library.isas:
        with library.isa(isa):
            for spikes_, right in zip(_run(model, x), expected, strict=True):
                np.testing.assert_array_equal(spikes_, right, err_msg=isa)


def _run(model, x):
    """On the operators of the optimised model, also with instructions for which a session would not choose it."""
    options = custom_ops.sessions.runtime.onnxruntime.SessionOptions()
    options.register_custom_ops_library(custom_ops.get_library_path())
    serialized = optimize(model).SerializeToString()
    session = custom_ops.sessions.runtime.onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})


def test_wide_layers_many_steps_and_no_steps():
    rng = np.random.default_rng(3)
    network = build(
        (3, 20, 17),
        [
            (Conv(weights(rng, 24, 3, 3, 3), pads=(1, 1, 1, 1)), IF, False),
            (Conv(weights(rng, 40, 24, 5, 2), (2, 2), (2, 0, 2, 0)), LEAKY, True),
            (Dense(weights(rng, 70, 40 * 10 * 8)), LEAKY, False),
            (Dense(weights(rng, 10, 70)), IF, True),
        ],
    )
    slower = [replace(each, neuron=replace(each.neuron, v_threshold=4000)) for each in network.populations]
    network = replace(network, populations=tuple(slower))
    model = to_onnx(network, outputs="all")
    x = spikes(network, 70, 5)
    for body, native in zip(*(custom_ops.session(model, native=n).run(None, x) for n in (False, True)), strict=True):
        assert 0 < body.mean() < 1
        np.testing.assert_array_equal(native, body)
    empty = custom_ops.session(model, native=True).run(None, {"input": x["input"][:0]})
    assert [array.shape for array in empty] == [(0, 5, *shape) for shape in _shapes(network)]


def _shapes(network):
    return [network.populations[-1].shape, *(each.shape for each in network.populations)]


@settings(deadline=None, max_examples=60)
@given(networks(), st.sampled_from(["last", "all"]))
def test_graphs_give_the_same_spikes(network, outputs):
    """Whatever of them is fused: spikes may be added before a block, and a block's spikes be read by many."""
    model = to_onnx(network, outputs=outputs)
    x = spikes(network, 5, 2)
    expected = simulate(network, x)
    session = custom_ops.session(model, native=True)
    for output, found in zip(session.get_outputs(), session.run(None, x), strict=True):
        name = network.outputs[0] if output.name == "output" else output.name
        np.testing.assert_array_equal(found, expected[name])


UNFUSED = {
    "conv, pool, dense": {"conv_fc.1": "the convolution has groups"},
    "spikes added before a synapse": {},
    "a delayed convolution": {},
    "unevenly padded": dict.fromkeys(["conv_fc.0", "conv_fc.1"], "pads its sides differently"),
    "upsampled": dict.fromkeys(["conv_fc.1", "conv_fc.2"], "ConvTranspose"),
    "up and down again": {"up": "add up several synapses"},
    "a bias for each neuron": {"conv": "not one whole number for each channel"},
    "an image out of a matrix": {"seen": "MatMul before Reshape"},
}


@pytest.mark.parametrize("name", UNFUSED)
def test_what_does_not_fit_says_why_and_the_rest_becomes_blocks(name):
    network = examples()[name]
    model = to_onnx(network)
    reasons = unfused(model)
    assert reasons.keys() == UNFUSED[name].keys()
    assert all(reason in reasons[population] for population, reason in UNFUSED[name].items())
    assert blocks(optimize(model)) == len(network.populations) - len(reasons)


def test_sixteen_threads_run_one_session_and_many_sessions_run_at_once():
    network = examples()["conv, pool, dense"]
    model = to_onnx(network, outputs="all")
    x = spikes(network, 40, 16)["input"]
    expected = custom_ops.session(model, native=False).run(None, {"input": x})
    sessions = [custom_ops.session(model, native=True) for _ in range(4)]

    def differ(index):
        samples = 1 + index % 16
        found = sessions[index // 16].run(None, {"input": x[:, :samples]})
        return [name for name, (a, b) in enumerate(zip(found, expected, strict=True)) if not np.array_equal(a, b[:, :samples])]

    with ThreadPoolExecutor(16) as pool:
        for order in (range(16), range(64)):
            assert not any(pool.map(differ, order))
    assert 0 < expected[0].mean() < 1


def _model():
    return to_onnx(examples()["conv, pool, dense"])


def _odd_weight(model):
    model.graph.initializer.remove(weight := next(i for i in model.graph.initializer if i.name == "conv_fc.0.weight"))
    halves = numpy_helper.to_array(weight).astype(np.float32) + 0.5
    node = next(n for n in model.graph.node if n.op_type == "Cast" and n.input[0] == weight.name)
    model.graph.initializer.append(numpy_helper.from_array(halves, weight.name))
    assert node.op_type == "Cast"


def _sums_shown(model):
    sums = next(n for n in model.graph.node if n.op_type == "CubaLIF").input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(sums, onnx.TensorProto.FLOAT, None))


def _open_shape(model):
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "H"


def _one_sided_padding(model):
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    pads = next(a for a in conv.attribute if a.name == "pads")
    pads.ints[:] = [0, 0, 2, 2]


@pytest.mark.parametrize("change", [_odd_weight, _sums_shown, _open_shape, _one_sided_padding])
def test_what_does_not_fit_stays_as_it_is(change):
    model = _model()
    whole = blocks(optimize(model))
    change(model)
    optimised = optimize(model)
    assert blocks(optimised) < whole
    x = spikes(examples()["conv, pool, dense"], 9, 2)["input"]
    body, native = (custom_ops.session(model, native=n).run(None, {"input": x})[0] for n in (False, True))
    np.testing.assert_array_equal(native, body)


_RECURRENT = """<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
    net (float[T, N, 12] input) => (float[T, N, 6] output) {
        sums0 = MatMul (input, weight0)
        s0 = snn.CubaLIF <i_decay = 4096, v_decay = 100, v_threshold = 200> (sums0)
        sums1 = MatMul (s0, weight1)
        s1 = snn.RecurrentCubaLIF <i_decay = 1000, v_decay = 100, v_threshold = 300> (sums1, back)
        sums2 = MatMul (s1, weight2)
        output = snn.CubaLIF <i_decay = 4096, v_decay = 0, v_threshold = 250> (sums2)
    }"""


def test_a_recurrent_layer_stays_and_the_layers_around_it_become_blocks():
    rng = np.random.default_rng(2)
    model = onnx.parser.parse_model(_RECURRENT)
    for name, shape in {"weight0": (12, 20), "weight1": (20, 30), "back": (30, 30), "weight2": (30, 6)}.items():
        weight = 2 * rng.integers(-64, 64, shape)
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), name))
    model.functions.extend(custom_ops.OPERATORS[name].function() for name in ("CubaLIF", "RecurrentCubaLIF"))
    kinds = [node.op_type for node in optimize(model).graph.node]
    assert kinds == ["CubaBlock", "MatMul", "RecurrentCubaLIF", "CubaBlock"]
    x = (rng.random((20, 3, 12)) < 0.5).astype(np.float32)
    expected, found = (custom_ops.session(model, native=native).run(None, {"input": x})[0] for native in (False, True))
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(_run(model, x)[0], expected)


def test_a_model_without_integer_neurons_is_returned_as_it_is():
    model = _model()
    del model.graph.node[:]
    assert optimize(model) is model
