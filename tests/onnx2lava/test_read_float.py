"""Reading changes no spike: what torch computes of the graph as it is, in float64, the populations compute as well."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import custom_ops
from custom_ops.operators import OPERATORS
from onnx2lava import Conv, Dense, Sparse, load, verify
from onnx2lava.errors import ConversionError
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.float_graphs import FloatGraph, float_graphs

torch.set_num_threads(1)


def spikes(graph: FloatGraph, steps: int, samples: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.random((steps, samples, *graph.input_shape)) < 0.5).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(float_graphs())
def test_reading_changes_no_spike(graph):
    model = graph.model()
    network = load(model)
    x = spikes(graph, 6, 3)
    expected = graph.evaluate(x)
    found = simulate(network, {"input": x})
    assert set(expected) <= set(found)
    for name, values in expected.items():
        assert (found[name].reshape(values.shape) == values).all()


@settings(max_examples=60, deadline=None)
@given(float_graphs())
def test_the_graph_means_what_torch_computes(graph):
    """And the integers made of it are the same in onnxruntime and NumPy."""
    model = graph.model()
    x = spikes(graph, 5, 2)
    *_, expected = graph.evaluate(x).values()
    (found,) = custom_ops.session(model, native=False).run(None, {"input": x})
    assert np.mean(found != expected) <= 0.02  # float32
    assert verify(model, x, against=["ort", "numpy"]).mismatches == 0


def pooled_and_padded(size: int) -> FloatGraph:
    """Pooling of 2 x 2, and a convolution that pads what pooling left."""
    graph = FloatGraph((1, size, size))
    graph.fold()
    weight = np.random.default_rng(0).normal(0.5, 1, (4, 1, 3, 3)).astype(np.float32)
    graph.add("AveragePool", meaning=lambda x: F.avg_pool2d(x, 2), kernel_shape=[2, 2], strides=[2, 2])
    real = torch.from_numpy(weight.astype(np.float64))
    graph.add("Conv", weight, meaning=lambda x: F.conv2d(x, real, None, 1, 1), pads=[1, 1, 1, 1])
    graph.neuron("neuron.0", "IF", v_threshold=0.97, v_reset=0.0)
    return graph


def test_pooling_that_divides_evenly_stays_a_convolution():
    (population,) = load(pooled_and_padded(8).model()).populations
    (synapse,) = (edge.map for edge in population.edges)
    assert isinstance(synapse, Conv)
    assert (synapse.stride, synapse.pads, synapse.weight.shape[2:]) == ((2, 2), (2, 2, 2, 2), (6, 6))


def test_an_odd_last_row_is_seen_by_no_one():
    """Pooling drops it, and the padded convolution sees zeros in its place: a matrix can say so, a sparse one where it is large,
    and a very large one is refused."""
    graph = pooled_and_padded(7)
    (population,) = load(graph.model()).populations
    assert isinstance(population.edges[0].map, Dense)
    x = spikes(graph, 6, 3)
    silent = x.copy()
    silent[..., 6, :] = silent[..., 6] = 0
    assert (x != silent).any()
    (expected,) = graph.evaluate(x).values()
    for each in (x, silent):
        (found,) = simulate(load(graph.model()), {"input": each}).values()
        assert (found.reshape(expected.shape) == expected).all()
    large = pooled_and_padded(101)
    (population,) = load(large.model()).populations
    assert isinstance(population.edges[0].map, Sparse)
    x = spikes(large, 3, 2)
    (found,), (expected,) = simulate(load(large.model()), {"input": x}).values(), large.evaluate(x).values()
    assert (found.reshape(expected.shape) == expected).all()
    with pytest.raises(ConversionError, match=r"'neuron.0/IF' \(snn.IF\).*no single convolution.* weights"):
        load(pooled_and_padded(2001).model())


def test_the_random_graphs_have_everything_that_reading_joins():
    """Or the tests above would prove nothing about it."""
    reached: set[str] = set()
    rates: list[float] = []

    @seed(2)
    @settings(max_examples=250, deadline=None, database=None)
    @given(float_graphs())
    def collect(graph):
        reached.update(properties(graph))
        rates.extend(values.mean() for values in graph.evaluate(spikes(graph, 6, 2)).values())

    collect()
    named = {f"depth {depth}" for depth in range(1, 7)} | {f"kernel {size}" for size in range(1, 6)}
    named |= {f"{what} {size}" for what in ("stride", "dilation", "groups") for size in range(1, 4)}
    named |= {"padding", "uneven padding", "asymmetric kernel", "odd size", "Conv biased", "Gemm biased", "BatchNormalization"}
    named |= {"MaxPool", "AveragePool", "leak", "decay_input 0", "decay_input 1", "reset below 0", "reset above 0"}
    assert named <= reached, sorted(named - reached)
    assert np.mean([0 < rate < 1 for rate in rates]) > 0.5


def properties(graph: FloatGraph) -> Iterator[str]:
    attributes = [(node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}) for node in graph.nodes]
    yield f"depth {sum(node.domain == 'snn' for node in graph.nodes)}"
    for node, given_ in attributes:
        yield node.op_type
        if node.op_type == "Conv":
            kernel, pads = graph.constants[node.input[1]].shape[2:], given_["pads"]
            yield from (f"kernel {size}" for size in kernel)
            yield from (f"stride {size}" for size in given_["strides"])
            yield from (f"dilation {size}" for size in given_["dilations"])
            yield f"groups {given_['group']}"
            yield from ["asymmetric kernel"] * (kernel[0] != kernel[1])
            yield from ["padding"] * any(pads)
            yield from ["uneven padding"] * (pads[:2] != pads[2:])
            yield from ["odd size"] * any(size % 2 for size in graph.input_shape[1:])
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            yield f"{node.op_type} biased"
        if node.op_type == "LIF":
            yield "leak"
            yield f"decay_input {given_['decay_input']}"
        if node.domain == "snn" and given_["v_reset"]:
            yield "reset below 0" if given_["v_reset"] < 0 else "reset above 0"


@st.composite
def convolutions_over_time(draw: st.DrawFn) -> tuple[onnx.ModelProto, np.ndarray]:
    """A file whose convolution goes over time, ``[N, C, T]`` or with an image behind, without a look ahead; and an input."""
    image = draw(st.sampled_from([(), (5,), (4, 3)]))
    groups, taps, apart = draw(st.sampled_from([1, 2])), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    weight = rng.integers(-4, 7, (4, 2 // groups, taps, *(3 for _ in image))) / 8
    weight[:, :, rng.random(taps) < 0.2] = 0
    before = apart * (taps - 1)
    order = [1, 2, 0, *range(3, 3 + len(image))]  # [T, N, C, *] to [N, C, T, *]
    back = [int(axis) for axis in np.argsort(order)]
    around = [1] * len(image)
    if padded := draw(st.booleans()):
        late, pads = "Pad (moved, pads, , axes)", [0, *around, 0, *around]
    else:
        late, pads = "Identity (moved)", [before, *around, before, *around]
    read, given = ", ".join(map(str, (2, *image))), ", ".join("M" for _ in (2, *image))
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, {read}] input) => (float[T, N, {given}] output) {{
            moved = Transpose <perm = {order}> (input)
            late = {late}
            whole = Conv <pads = {pads}, group = {groups}, dilations = {[apart, *around]}> (late, weight, bias)
            cut = Slice (whole, start, end, axis)
            sums = Transpose <perm = {back}> ({"whole" if padded else "cut"})
            output = snn.LIF <tau = 2.0, decay_input = 0, v_threshold = 1.0, v_reset = 0.0> (sums)
        }}""")
    constants = {
        "weight": weight.astype(np.float32),
        "bias": (rng.integers(-1, 3, 4) / 8).astype(np.float32),
        "pads": np.array([before, 0]),
        "axes": np.array([2]),
        "start": np.array([0]),
        "end": np.array([-before or 2**31]),
        "axis": np.array([2]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    model.functions.append(OPERATORS["LIF"].function())
    return model, (rng.random((6, 2, 2, *image)) < 0.5).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(convolutions_over_time())
def test_a_convolution_over_time_is_a_synapse_for_each_number_of_steps(case: tuple[onnx.ModelProto, np.ndarray]) -> None:
    model, x = case
    (expected,) = custom_ops.session(model, native=False).run(None, {"input": x})
    (found,) = simulate(load(model), {"input": x}).values()
    assert (found.reshape(expected.shape) == expected).all()


@pytest.mark.parametrize(
    ("pads", "group", "reason"),
    [
        ([1, 1], 1, "it reads time steps that are still to come; pad time at the front alone"),
        ([2, 0], 1, ""),
        ([2, 0], 0, r"\(Conv\): its numbers make no sense .*; repair the file"),
    ],
)
def test_a_convolution_that_looks_ahead_is_refused(pads: list[int], group: int, reason: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, 2] input) => (float[T, N, 2] output) {{
            moved = Transpose <perm = [1, 2, 0]> (input)
            sums = Conv <pads = {pads}, group = {group}> (moved, weight)
            back = Transpose <perm = [2, 0, 1]> (sums)
            output = snn.IF <v_threshold = 1.0, v_reset = 0.0> (back)
        }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2, 3), np.float32), "weight"))
    model.functions.append(OPERATORS["IF"].function())
    if reason:
        with pytest.raises(ConversionError, match=reason):
            load(model)
    else:  # which is what to do about it
        (population,) = load(model).populations
        assert sorted(edge.delay for edge in population.edges) == [0, 1, 2]
