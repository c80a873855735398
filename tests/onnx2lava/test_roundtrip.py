"""A network written as ONNX reads back as itself, and onnxruntime agrees with NumPy in every spike."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import custom_ops
from onnx2lava import load, to_onnx
from onnx2lava.simulate import simulate
from tests.onnx2lava.networks import assert_same, examples, networks, spikes

EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("outputs", ["last", "all"])
def test_written_network_reads_back_as_itself(name, outputs):
    assert_same(load(to_onnx(EXAMPLES[name], outputs=outputs)), EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_spike_equals_the_numpy_reference(name):
    network = EXAMPLES[name]
    x = spikes(network, 12, 3)
    expected = simulate(network, x)
    session = custom_ops.session(to_onnx(network, outputs="all"), native=False)
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(None, {"input": x}), strict=True))
    assert names == ["output", *expected]
    for block, s in expected.items():
        assert (results[block] == s).all()
        assert 0 < s.mean() < 1, f"{block} never or always fires: this case tests nothing"
    assert (results["output"] == results[names[-1]]).all()


@pytest.mark.parametrize(("steps", "samples"), [(1, 1), (3, 0)])
def test_any_number_of_steps_and_samples(steps, samples):
    network = EXAMPLES["conv, pool, dense"]
    session = custom_ops.session(to_onnx(network), native=False)
    (out,) = session.run(None, {"input": spikes(network, steps, samples)})
    assert out.shape == (steps, samples, 3)


def test_weights_are_stored_once_as_int8():
    network = EXAMPLES["conv, pool, dense"]
    model = to_onnx(network)
    stored = {i.name: i for i in model.graph.initializer}
    for block in network.blocks:
        assert stored[f"{block.name}.weight"].data_type == onnx.TensorProto.INT8
    big = [i for i in model.graph.initializer if np.prod(i.dims) > 8]
    assert sorted(i.name for i in big) == sorted(f"{b.name}.weight" for b in network.blocks if b.synapse.weight.size > 8)


@settings(max_examples=100, deadline=None)
@given(networks())
def test_random_networks_read_back_and_spike_alike(network):
    model = to_onnx(network, outputs="all")
    assert_same(load(model), network)
    x = spikes(network, 6, 2)
    session = custom_ops.session(model, native=False)
    results = session.run([block.name for block in network.blocks], {"input": x})
    for result, expected in zip(results, simulate(network, x).values(), strict=True):
        assert (result == expected).all()
