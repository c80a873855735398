"""Nodes that no exporter writes: what a stranger's file may make the native library do is refused before the first access."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import custom_ops
from custom_ops.errors import ModelFileError
from custom_ops.files.model_file import read_model
from custom_ops.graphs.optimize import optimize

FLOAT = TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("snn", 1)]
WINDOW = {f"{name}_{side}": 1 for name in ("kernel", "stride", "dilation") for side in ("height", "width")}
BLOCK = {"i_decay": 4096, "v_decay": 0, "v_threshold": 0, "dense": 0, "small_sums": 0, "channels": 4, "outputs": 16} | WINDOW
BLOCK |= {"padding_height": 0, "padding_width": 0}


def one_block(
    x: list[Any], attributes: dict[str, int], weight: tuple[int, ...] = (1, 1, 16, 4), kind: int = FLOAT
) -> onnx.ModelProto:
    node = helper.make_node("CubaBlock", ["x", "w"], ["p", "s"], "block", domain="snn")
    node.attribute.extend(helper.make_attribute(name, value) for name, value in (BLOCK | attributes).items())
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info("s", FLOAT, None)],
        [numpy_helper.from_array(np.ones(weight, np.int8), "w")],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10)


def library_alone(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of somebody who registers the library himself, so that nothing but the library checks."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(custom_ops.get_library_path())
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


HUGE = 2**62
DENSE = (["T", "N", 4], (4, 1, 4))
IMAGE = (["T", "N", 4, "H", "W"], (2, 1, 4, 5, 5))
REFUSED_WHEN_MADE = [
    *[(DENSE, {"dense": 1, "padding_height": p, "padding_width": p}, "padding_height is") for p in (1, 3, 10, 50, 1000)],
    (DENSE, {"dense": 1, "stride_width": 2}, "it is dense, but has a stride"),
    (DENSE, {"dense": 1, "kernel_height": 2}, "packed weights have the shape"),
    (DENSE, {}, r"needs \[T, N, 4, H, W\]"),
    *[(IMAGE, {name: value}, f"{name} is {value}, outside") for name in BLOCK for value in (-1, HUGE, -HUGE)],
    (IMAGE, {"padding_width": 1}, "padding_width is 1, outside 0 ... 0"),
    (IMAGE, {"channels": 5}, "packed weights have the shape"),
    (IMAGE, {"outputs": 17}, "packed weights have the shape"),
    (IMAGE, {"outputs": 2**31 - 1}, "packed weights have the shape"),
    (IMAGE, {"kernel_height": 2**17, "kernel_width": 2**17, "channels": 2**17}, "more elements than any memory"),
    (IMAGE, {"kernel_height": 2**10, "kernel_width": 2**10}, "inputs each"),
    ((["T", "N", 5, "H", "W"], ()), {}, r"needs \[T, N, 4, H, W\]"),
    (([2**40, 2**40, 4, 5, 5], ()), {}, "more elements than any memory"),
    (([2, 1, 4, 2, 2**22], ()), {}, "bytes of input at a time"),
    (([2, 1, 4, 0, 5], ()), {}, "kernel is larger than"),
]


@pytest.mark.parametrize(("x", "attributes", "message"), REFUSED_WHEN_MADE)
def test_blocks_that_cannot_be_are_refused_when_the_session_is_made(x: Any, attributes: dict[str, int], message: str) -> None:
    with pytest.raises(Exception, match=f"snn.CubaBlock node 'block': .*{message}"):
        library_alone(one_block(x[0], attributes))


REFUSED_WHEN_RUN = [
    ((4, 1, 5), {"dense": 1}, r"needs \[T, N, 4\]"),
    ((4, 1, 2, 2, 2), {"dense": 1}, r"needs \[T, N, 4\]"),
    ((4, 1, 4), {}, r"needs \[T, N, 4, H, W\]"),
    ((4, 1, 5, 2, 2), {}, r"needs \[T, N, 4, H, W\]"),
    ((4,), {}, "needs time and batch axes first"),
    ((), {}, "needs time and batch axes first"),
    ((2, 1, 4, 0, 3), {}, "kernel is larger than"),
    ((0, 2**50, 4, 1, 1), {}, "more elements than any memory"),
    ((0, 1, 4, 2**24, 2**24), {}, "more elements than any memory"),
]


@pytest.mark.parametrize(("shape", "attributes", "message"), REFUSED_WHEN_RUN)
def test_blocks_refuse_inputs_that_do_not_fit_them(shape: tuple[int, ...], attributes: dict[str, int], message: str) -> None:
    model = one_block([], attributes)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    session = library_alone(model)
    with pytest.raises(Exception, match=f"snn.CubaBlock node 'block': .*{message}"):
        session.run(None, {"x": np.ones(shape, np.float32)})


@pytest.mark.parametrize("shape", [(1, 2, 2, 1, 3, 15), (1, 2, 2, 2, 3, 16), (1, 2, 2, 3, 16), (1, 2, 3, 1, 3, 16)])
def test_blocks_refuse_packed_spikes_that_do_not_fit_them(shape: tuple[int, ...]) -> None:
    model = one_block([], {"dense": 1, "kernel_height": 2, "kernel_width": 2}, (1, 4, 16, 4), TensorProto.UINT8)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=r"the packed spikes have the shape|its kernel is not as large as the image"):
        library_alone(model).run(None, {"x": np.ones(shape, np.uint8)})


def test_packed_bytes_that_are_no_spikes_break_nothing() -> None:
    model = one_block([1, 2, 2, 1, 3, 16], {"dense": 1, "kernel_height": 2, "kernel_width": 2}, (1, 4, 16, 4), TensorProto.UINT8)
    (s,) = library_alone(model).run(None, {"x": np.full((1, 2, 2, 1, 3, 16), 255, np.uint8)})
    assert s.shape == (3, 1, 16)


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "CubaLIF": {"i_decay": 1, "v_decay": 1, "v_threshold": 1},
    "IF": {"v_threshold": 1.0},
    "LIF": {"v_threshold": 1.0, "tau": 2.0},
    "RecurrentCubaLIF": {"i_decay": 1, "v_decay": 1, "v_threshold": 1},
}


def empty_run(op_type: str, shape: list[int]) -> onnx.ModelProto:
    """A few bytes that ask for neurons without end in no time step."""
    weights = ["w"] if op_type.startswith("Recurrent") else []
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["x"], value=helper.make_tensor("zero", FLOAT, [1], [0.0])),
        helper.make_node(op_type, ["x", *weights], ["s"], "neurons", domain="snn", **ATTRIBUTES[op_type]),
    ]
    constants = [numpy_helper.from_array(np.array(shape), "shape"), numpy_helper.from_array(np.zeros((1, 1), np.float32), "w")]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("s", FLOAT, None)], constants)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10)


@pytest.mark.parametrize("op_type", ATTRIBUTES)
@pytest.mark.parametrize("shape", [[0, 2**20, 2**20], [0, 2**45, 1], [2**45, 1, 0], [2**40, 0, 1]])
def test_nothing_to_compute_takes_no_time(op_type: str, shape: list[int]) -> None:
    if op_type.startswith("Recurrent") and shape[-1] != 0:
        shape = [*shape[:2], 1]
    model = empty_run(op_type, shape)
    if op_type.startswith("Recurrent"):
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros((shape[-1],) * 2, np.float32), "w"))
    start = time.perf_counter()
    (s,) = custom_ops.session(model, native=True).run(None, {})
    assert s.shape == tuple(shape)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_more_neurons_than_any_memory_has_are_refused(op_type: str) -> None:
    with pytest.raises(Exception, match=f"snn.{op_type} node 'neurons': a tensor of the shape .* more elements than any memory"):
        custom_ops.session(empty_run(op_type, [0, 2**40, 2**40]), native=True).run(None, {})


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_an_output_that_has_to_be_there_cannot_be_left_out(op_type: str) -> None:
    model = empty_run(op_type, [2, 3, 1])
    (node,) = (node for node in model.graph.node if node.domain)
    del node.output[:]
    node.output.extend(["", "final"])
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("final", FLOAT if "Cuba" not in op_type else TensorProto.INT32, None)
    )
    with pytest.raises(Exception, match=r"output (number )?0"):
        library_alone(model).run(None, {})


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_an_input_that_has_to_be_there_cannot_be_left_out(op_type: str) -> None:
    model = empty_run(op_type, [2, 3, 1])
    (node,) = (node for node in model.graph.node if node.domain)
    node.input[len(node.input) - 1] = ""
    with pytest.raises(Exception, match=r"input|Input|node 'neurons'"):
        library_alone(model).run(None, {})


def wide_padding(channels: int, pad: int, stride: int, dilation: int = 1, kernel: int = 1) -> onnx.ModelProto:
    """A plain convolution, of which a row in memory would be far larger than all of its input."""
    size = (64 + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    nodes = [
        helper.make_node("Reshape", ["input", "fold"], ["folded"]),
        helper.make_node(
            "Conv",
            ["folded", "w"],
            ["sums"],
            pads=[0, pad, 0, pad],
            strides=[1, stride],
            dilations=[1, dilation],
            kernel_shape=[1, kernel],
        ),
        helper.make_node("Reshape", ["sums", "unfold"], ["a"]),
        helper.make_node("CubaLIF", ["a"], ["output"], domain="snn", i_decay=4096, v_decay=0, v_threshold=0),
    ]
    constants = {
        "fold": np.array([-1, channels, 1, 64]),
        "unfold": np.array([2, -1, 1, 1, size]),
        "w": np.full((1, channels, 1, kernel), 2, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", FLOAT, ["T", "N", channels, 1, 64])],
        [helper.make_tensor_value_info("output", FLOAT, ["T", "N", 1, 1, size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    functions = [custom_ops.OPERATORS["CubaLIF"].function()]
    return helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=10)


@pytest.mark.parametrize(
    "sizes", [(64, 2**20, 2**20, 1, 1), (1, 2**20, 2**20, 1, 1), (1, 4, 4, 1, 1), (64, 2**18, 2**16, 2**18, 2), (1, 33, 8, 32, 2)]
)
def test_a_convolution_of_padding_or_gaps_is_not_fused(sizes: tuple[int, ...]) -> None:
    model = wide_padding(*sizes)
    assert all(node.op_type != "CubaBlock" for node in optimize(model).graph.node)
    x = np.ones((2, 1, sizes[0], 1, 64), np.float32)
    start = time.perf_counter()
    body, native = (custom_ops.session(model, native=native).run(None, {"input": x})[0] for native in (False, True))
    np.testing.assert_array_equal(body, native)
    assert time.perf_counter() - start < 10


def test_an_exception_on_a_thread_of_onnxruntime_becomes_an_error() -> None:
    """In a process of its own, with memory for the outputs, which onnxruntime keeps from the first run, and for nothing else."""
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np, onnxruntime
        from tests.custom_ops.test_hostile_nodes import library_alone, one_block
        session = library_alone(one_block([8, 4, 4, 8, 16384], {}))
        x = {"x": np.ones((8, 4, 4, 8, 16384), np.float32)}
        session.run(None, x)
        own = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own, own))
        try:
            session.run(None, x)
        except Exception as error:
            print(error)
    """)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "snn.CubaBlock node 'block': there is not enough memory for it." in ran.stdout


def _in_graph(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    model.graph.node.insert(0, node)


def _in_subgraph(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    branch = helper.make_graph([node], "branch", [], [])
    inner = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=helper.make_graph([inner], "g", [], [])))


def _in_function(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    model.functions.append(helper.make_function("other", "F", [], [], [node], OPSETS))


def _in_subgraph_of_a_function(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    inner = onnx.ModelProto()
    _in_subgraph(inner, node)
    _in_function(model, inner.graph.node[0])


def _as_a_function(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    model.functions.append(
        helper.make_function("snn", node.op_type, ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], OPSETS)
    )


PLACES = [_in_graph, _in_subgraph, _in_function, _in_subgraph_of_a_function]
Put = Callable[[onnx.ModelProto, onnx.NodeProto], None]


@pytest.mark.parametrize("put", [*PLACES, _as_a_function])
def test_files_with_private_operators_are_refused_wherever_they_stand(put: Put) -> None:
    model = empty_run("IF", [2, 3, 1])
    put(model, one_block(["T", "N", 4], {"dense": 1}).graph.node[0])
    for read in (custom_ops.session, custom_ops.Stream, custom_ops.over_time, read_model):
        for source in (model, model.SerializeToString()):
            with pytest.raises(ModelFileError, match=r"snn\.CubaBlock, which sessions make for themselves"):
                read(source)


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"v_threshold": float("nan"), "tau": 2.0}, "v_threshold = nan, outside"),
        ({"v_threshold": 1.0, "tau": 0.5}, "tau = 0.5, outside"),
        ({"v_threshold": 1.0, "tau": "2"}, "another type than a number"),
        ({"v_threshold": 1.0}, "exactly one of tau and decay"),
        ({"tau": 2.0}, "lacks 'v_threshold'"),
    ],
)
def test_attributes_are_checked_wherever_a_node_stands(put: Put, attributes: dict[str, Any], message: str) -> None:
    model = empty_run("IF", [2, 3, 1])
    put(model, helper.make_node("LIF", ["a"], ["b"], "inner", domain="snn", **attributes))
    for native in (False, True):
        with pytest.raises(ModelFileError, match=f"The node 'inner' .*{message}"):
            custom_ops.session(model, native=native)


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_an_attribute_that_a_function_passes_on_is_checked_by_the_library(value: float) -> None:
    model = empty_run("IF", [2, 3, 1])
    inner = helper.make_node("LIF", ["a"], ["b"], domain="snn", v_threshold=1.0)
    inner.attribute.append(onnx.AttributeProto(name="tau", ref_attr_name="t", type=onnx.AttributeProto.FLOAT))
    model.functions.append(helper.make_function("other", "F", ["a"], ["b"], [inner], OPSETS, ["t"]))
    model.opset_import.append(helper.make_opsetid("other", 1))
    model.graph.node[1].CopyFrom(helper.make_node("F", ["x"], ["s"], domain="other", t=value))
    if value >= 1:
        assert custom_ops.session(model, native=True).run(None, {})[0].shape == (2, 3, 1)
    else:
        with pytest.raises(ModelFileError, match=r"tau is 0\.5"):
            custom_ops.session(model, native=True)


def test_the_instruction_sets_are_asked_for_by_any_number_and_name() -> None:
    import ctypes

    library = ctypes.CDLL(custom_ops.get_library_path())
    library.snn_ops_isa.restype = ctypes.c_char_p
    assert [library.snn_ops_isa(index) for index in (-1, -(2**31), 2**31 - 1, 99)] == [None] * 4
    library.snn_ops_use_isa.argtypes = [ctypes.c_char_p]
    assert [library.snn_ops_use_isa(name) for name in (None, b"", b"no such")] == [0, 0, 0]
