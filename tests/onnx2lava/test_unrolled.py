"""Loops over time with feedback, of which a file has every step: they become populations with edges that are steps late."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import custom_ops
import onnx2lava
from onnx2lava.host import decode
from onnx2lava.targets.numpy import simulate

from .unrolled_graphs import SIZE, Loop, loops, recurrent


def fed(loop: Loop) -> np.ndarray:
    """Spikes [T, N, F]."""
    return (np.random.default_rng(1).random((loop.steps, 3, SIZE)) < 0.5).astype(np.float32)


def run(model: onnx.ModelProto, loop: Loop) -> np.ndarray:
    x = fed(loop)
    (found,) = custom_ops.session(model, native=False).run(None, {"input": x if loop.time == 0 else x.swapaxes(0, 1)})
    return np.asarray(found)


@settings(max_examples=30, deadline=None)
@given(loops())
def test_a_loop_is_read_as_the_populations_that_it_runs(loop: Loop) -> None:
    model = loop.model()
    for node in model.graph.node[:: loop.steps % 2 + 1]:  # names are no more than names
        node.name = ""
    network = onnx2lava.load(model)
    spikes = simulate(network, {"input": fed(loop)})
    last = {name: spikes[name] for name in network.outputs}
    found = (
        spikes[network.outputs[0]]
        if network.readout is None
        else decode(network, last if len(last) > 1 else next(iter(last.values())))
    )
    assert np.array_equal(found, run(model, loop))


def test_every_layer_of_a_loop_is_compared_in_onnxruntime() -> None:
    loop = recurrent()
    found = onnx2lava.verify(loop.model(), fed(loop), against=["ort", "ort-native", "numpy"])
    assert [each.name for each in found.layers] == ["layer0", "layer1"]
    for each in found.layers:
        assert set(each.mismatches) == {"float-native", "ort-native", "numpy"}
        assert 0 < each.rate < 1
    assert found.mismatches == 0


def test_feedback_that_is_several_steps_late_is_an_edge() -> None:
    network = onnx2lava.load(recurrent(late=3).model())
    assert [edge.delay for edge in network.populations[0].feedback] == [3]
    assert network.readout is None


def test_steps_that_differ_are_refused() -> None:
    model = recurrent().model()
    late = next(node for node in model.graph.node[::-1] if node.op_type == "MatMul" and "w0_0" in node.input)
    late.input[1] = "w0_1"
    with pytest.raises(
        onnx2lava.ConversionError, match="reads something else in time step 0 than in the last one; let each time step"
    ):
        onnx2lava.load(model)
