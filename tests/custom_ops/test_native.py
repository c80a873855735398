"""The native library against the NumPy reference: every instruction set, every form of call, both ends of onnxruntime."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import custom_ops
from custom_ops.errors import ModelFileError, RuntimeUnavailableError
from custom_ops.sessions import runtime

from .native import Library
from .one_node import INTEGERS, Case, cuba_lif_cases, float_cases, heterogeneous_cases, recurrent_cases

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "CubaLIF": {"i_decay": 1000, "v_decay": 100, "v_threshold": 50},
    "IF": {"v_threshold": 1.0, "v_reset": 0.0},
    "LIF": {"v_threshold": 1.0, "tau": 2.0, "decay_input": 0},
    "RecurrentCubaLIF": {"i_decay": 1000, "v_decay": 100, "v_threshold": 50},
}
SIZES = [(3, 511), (3, 1, 512), (2, 513), (5, 3, 5, 7, 11), (1, 200_003), (64, 2, 1537), (0, 700), (9, 0, 4), (0, 0)]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def simple_case(op_type: str, shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 150, shape) if op_type in INTEGERS else rng.normal(size=shape)
    inputs = {"x": x.astype(np.float32)}
    if op_type == "RecurrentCubaLIF":
        inputs["recurrent_weight"] = rng.integers(-128, 128, (shape[-1], shape[-1])).astype(np.float32) * 2
    return Case(op_type, ATTRIBUTES[op_type], inputs)


@given(st.one_of(cuba_lif_cases(), float_cases(), recurrent_cases(), heterogeneous_cases()), st.data())
@settings(deadline=None, max_examples=400)
def test_native_equals_the_reference(library: Library, case: Case, data: st.DataObject) -> None:
    case.outputs = tuple(name if name == "s" or data.draw(st.booleans(), label=name) else "" for name in case.outputs)
    session = custom_ops.session(case.model(function=False), native=True)
    for isa in library.isas:
        with library.isa(isa):
            case.check(session)


RECURRENT_SIZES = [(4, 1, 511), (4, 3, 512), (4, 9, 513), (33, 2, 130), (2, 300, 7), (9, 1, 1), (1, 5, 0), (0, 5, 70), (9, 0, 4)]


@pytest.mark.parametrize(
    ("op_type", "shape"),
    [(op_type, shape) for op_type in ATTRIBUTES for shape in (RECURRENT_SIZES if "Recurrent" in op_type else SIZES)],
)
def test_sizes_around_the_tile(library: Library, op_type: str, shape: tuple[int, ...]) -> None:
    case = simple_case(op_type, shape)
    session = custom_ops.session(case.model(function=False), native=True)
    for isa in library.isas:
        with library.isa(isa):
            case.check(session)


@pytest.mark.parametrize("shape", SIZES)
def test_sizes_around_the_tile_of_neurons_that_differ(library: Library, shape: tuple[int, ...]) -> None:
    case = of_each(shape)
    session = custom_ops.session(case.model(function=False), native=True)
    for isa in library.isas:
        with library.isa(isa):
            case.check(session)


def of_each(shape: tuple[int, ...]) -> Case:
    """Neurons of which each has its own parameters."""
    rng = np.random.default_rng(0)
    inputs = {"x": rng.integers(-100, 150, shape).astype(np.float32)}
    for name, low, high in (("bias", -60, 60), ("i_decay", 0, 4096), ("v_decay", 0, 4096), ("v_threshold", 0, 300)):
        inputs[name] = rng.integers(low, high, shape[1:], np.int32, endpoint=True)
    return Case("HeterogeneousCubaLIF", {}, inputs)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("i_decay", 4097, "i_decay holds 4097, outside 0 ... 4096"),
        ("v_decay", -1, "v_decay holds -1, outside 0 ... 4096"),
        ("v_threshold", 2**24, "v_threshold holds 16777216, outside 0 ... 16777215"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, value: int, message: str) -> None:
    case = of_each((3, 2, 5))
    session = custom_ops.session(case.model(function=False), native=True)
    case.check(session)
    case.inputs[name][1, 3] = value
    with pytest.raises(Exception, match=rf"snn.HeterogeneousCubaLIF node 'layer\.0': {message}"):
        session.run(None, case.inputs)


@pytest.mark.parametrize("name", ["bias", "i_decay", "v_decay", "v_threshold"])
def test_parameters_that_do_not_broadcast_are_refused(name: str) -> None:
    case = of_each((3, 2, 5))
    session = custom_ops.session(case.model(function=False), native=True)
    for shape in ((2,), (3, 5), (1, 2, 5)):
        wrong = {**case.inputs, name: np.zeros(shape, np.int32)}
        with pytest.raises(Exception, match=rf"{name} has the shape .*, which does not broadcast to the neurons' \[2, 5\]|rank"):
            session.run(None, wrong)


BIAS_SHAPES = [(), (1,), (7,), (3, 1, 1), (3, 5, 7), (2, 3, 5, 7), (2, 1, 1, 1), (2, 1, 5, 1), (1, 3, 1, 7), (5, 1)]


@pytest.mark.parametrize("bias_shape", BIAS_SHAPES)
def test_bias_broadcasts_like_numpy(bias_shape: tuple[int, ...]) -> None:
    case = simple_case("CubaLIF", (4, 2, 3, 5, 7))
    case.inputs["bias"] = np.random.default_rng(1).integers(-60, 60, bias_shape, np.int32)
    case.check(custom_ops.session(case.model(), native=True))


def test_a_bias_that_does_not_broadcast_is_refused() -> None:
    case = simple_case("CubaLIF", (4, 2, 3))
    case.inputs["bias"] = np.zeros(2, np.int32)
    session = custom_ops.session(case.model(), native=True)
    with pytest.raises(
        Exception, match=r"layer\.0': bias has the shape \[2\], which does not broadcast to the neurons' \[2, 3\]"
    ):
        session.run(None, case.inputs)


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_a_state_of_another_shape_is_refused(op_type: str) -> None:
    case = simple_case(op_type, (4, 2, 3))
    case.inputs["initial_v"] = np.zeros((3, 2), np.int32 if op_type in INTEGERS else np.float32)
    session = custom_ops.session(case.model(function=False), native=True)
    with pytest.raises(Exception, match=r"initial_v has the shape \[3, 2\], but the neurons have \[2, 3\]"):
        session.run(None, case.inputs)


def with_attributes(op_type: str, attributes: dict[str, Any]) -> onnx.ModelProto:
    case = simple_case(op_type, (2, 3))
    case.attributes = attributes
    return case.model(function=False)


REFUSED = [
    ("CubaLIF", {"i_decay": 4097, "v_decay": 0, "v_threshold": 0}, "i_decay is 4097, outside 0 ... 4096"),
    ("CubaLIF", {"i_decay": 0, "v_decay": 0, "v_threshold": -1}, "v_threshold is -1, outside 0 ... 131071"),
    ("CubaLIF", {"i_decay": 0, "v_decay": 0}, "needs the integer attribute v_threshold"),
    ("CubaLIF", {"i_decay": 0, "v_decay": 0.5, "v_threshold": 1}, "needs the integer attribute v_decay"),
    ("IF", {}, "needs the float attribute v_threshold"),
    ("IF", {"v_threshold": float("inf")}, "v_threshold is not finite"),
    ("IF", {"v_threshold": 1.0, "v_reset": 0}, "v_reset must be a float"),
    *[
        ("IF", {"v_threshold": 1.0, "v_reset": value}, "v_reset must be a float")
        for value in ("0", [0.0], [0], ["0"], numpy_helper.from_array(np.zeros(1, np.float32)))
    ],
    ("LIF", {"v_threshold": 1.0, "tau": 2.0, "decay_input": [1]}, "decay_input must be an integer"),
    ("LIF", {"v_threshold": 1.0}, "either the float attribute tau or decay"),
    ("LIF", {"v_threshold": 1.0, "tau": 2.0, "decay": 0.5}, "either the float attribute tau or decay"),
    ("LIF", {"v_threshold": 1.0, "tau": 0.5}, "tau is 0.5"),
    ("LIF", {"v_threshold": 1.0, "tau": 2.0, "decay_input": 2}, "decay_input is 2, outside 0 ... 1"),
    ("LIF", {"v_threshold": 1.0, "tau": 2.0, "decay_input": 1.0}, "decay_input must be an integer"),
    ("RecurrentCubaLIF", {"i_decay": 0, "v_decay": 4097, "v_threshold": 0}, "v_decay is 4097, outside 0 ... 4096"),
]


@pytest.mark.parametrize(("op_type", "attributes", "message"), REFUSED)
def test_wrong_attributes_are_refused_by_the_library_itself(
    library: Library, op_type: str, attributes: dict[str, Any], message: str
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(library.path)
    with pytest.raises(Exception, match=f"snn.{op_type} node 'layer.0': .*{message}"):
        onnxruntime.InferenceSession(
            with_attributes(op_type, attributes).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def test_wrong_types_and_ranks_are_refused_when_the_session_is_made() -> None:
    double = simple_case("CubaLIF", (2, 3)).model(function=False)
    double.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(ModelFileError, match=r"tensor\(double\).*\(x\).*CubaLIF.*layer\.0"):
        custom_ops.session(double, native=True)
    flat = simple_case("IF", (2, 3)).model(function=False)
    del flat.graph.input[0].type.tensor_type.shape.dim[1], flat.graph.output[0].type.tensor_type.shape.dim[1]
    del flat.graph.output[1], flat.graph.node[0].output[1]
    with pytest.raises(ModelFileError, match=r"x has the shape \[\?\], but needs time and batch axes first: \[T, N, \*\]"):
        custom_ops.session(flat, native=True)


WRONG_SHAPES = [
    ({"x": (4, 2, 3, 5)}, r"x has 4 dimensions, but needs three: \[T, N, F\]"),
    ({"x": (4, 3)}, r"x has 2 dimensions, but needs three: \[T, N, F\]"),
    ({"recurrent_weight": (3, 4)}, r"recurrent_weight has the shape \[3, 4\], but 3 neurons need \[3, 3\]"),
    ({"recurrent_weight": (4, 4)}, r"recurrent_weight has the shape \[4, 4\], but 3 neurons need \[3, 3\]"),
    ({"recurrent_weight": (3, 1)}, r"recurrent_weight has the shape \[3, 1\], but 3 neurons need \[3, 3\]"),
    ({"recurrent_weight": (9,)}, r"recurrent_weight has the shape \[9\], but 3 neurons need \[3, 3\]"),
    ({"recurrent_weight": ()}, r"recurrent_weight has the shape \[\], but 3 neurons need \[3, 3\]"),
    ({"bias": (3, 2)}, r"bias has the shape \[3, 2\], which does not broadcast to the neurons' \[2, 3\]"),
    ({"initial_s": (4, 2, 3)}, r"initial_s has the shape \[4, 2, 3\], but the neurons have \[2, 3\]"),
    ({"initial_u": (6,)}, r"initial_u has the shape \[6\], but the neurons have \[2, 3\]"),
]


def wrong_recurrent_case(shapes: dict[str, tuple[int, ...]]) -> Case:
    case = simple_case("RecurrentCubaLIF", (4, 2, 3))
    integers = ("bias", "initial_u")
    case.inputs |= {name: np.ones(shape, np.int32 if name in integers else np.float32) for name, shape in shapes.items()}
    return case


@pytest.mark.parametrize(("shapes", "message"), WRONG_SHAPES)
def test_wrong_shapes_of_a_recurrent_layer_are_refused_when_it_runs(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    case = wrong_recurrent_case(shapes)
    model = case.model(function=False)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    session = custom_ops.session(model, native=True)
    with pytest.raises(Exception, match=f"snn.RecurrentCubaLIF node 'layer.0': {message}"):
        session.run(None, case.inputs)


# A scalar cannot be told from an unknown shape, so it is refused only when the session runs.
KNOWN_BEFORE = [(s, m) for s, m in WRONG_SHAPES if s.keys() & {"x", "recurrent_weight"} and () not in s.values()]


@pytest.mark.parametrize(("shapes", "message"), KNOWN_BEFORE)
def test_shapes_that_the_file_says_are_refused_when_the_session_is_made(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    case = wrong_recurrent_case(shapes)
    model = case.model(function=False)
    for value in model.graph.input:
        fixed = helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, case.inputs[value.name].shape)
        value.CopyFrom(fixed)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(ModelFileError, match=f"snn.RecurrentCubaLIF node 'layer.0': {message}"):
        custom_ops.session(model, native=True)


@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (3, 1), (2,)])
def test_the_function_body_refuses_weights_that_are_not_square(shape: tuple[int, ...]) -> None:
    case = wrong_recurrent_case({"recurrent_weight": shape})
    case.outputs = ("s",)
    with pytest.raises(Exception, match="Reshape"):
        custom_ops.session(case.model(), native=False).run(None, case.inputs)


@pytest.mark.parametrize(("name", "type_"), [("recurrent_weight", onnx.TensorProto.INT32), ("initial_s", onnx.TensorProto.INT32)])
def test_wrong_types_of_a_recurrent_layer_are_refused_when_the_session_is_made(name: str, type_: int) -> None:
    model = wrong_recurrent_case({"initial_s": (2, 3)}).model(function=False)
    (value,) = (value for value in model.graph.input if value.name == name)
    value.type.tensor_type.elem_type = type_
    with pytest.raises(ModelFileError, match=rf"tensor\(int32\).*\({name}\).*RecurrentCubaLIF.*layer\.0"):
        custom_ops.session(model, native=True)


@pytest.mark.parametrize("largest", [254, 40_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_recurrent_layer_of_many_samples_is_shared_by_the_threads(library: Library, largest: int, threads: int) -> None:
    """Several tasks, for weights of 16 bits and for larger ones; silent, lively and always firing neurons in one layer."""
    case = simple_case("RecurrentCubaLIF", (20, 17, 200))
    rng = np.random.default_rng(4)
    case.inputs["recurrent_weight"] = rng.integers(-largest, largest, (200, 200)).astype(np.float32)
    case.inputs["bias"] = rng.choice(np.int32([-4096, 0, 4095]), (17, 200))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = custom_ops.session(case.model(function=False), sess_options=options, native=True)
    rates = case.expected()[0].mean(axis=(0, 1))
    assert rates.min() < 0.5 < rates.max()
    for isa in library.isas:
        with library.isa(isa):
            case.check(session)


def test_chunks_of_a_recurrent_layer_equal_the_whole() -> None:
    """What comes out as the last state goes in as the first one, across chunks of every length, of no step, too."""
    case = simple_case("RecurrentCubaLIF", (20, 3, 70))
    x = case.inputs.pop("x")
    states = {"initial_u": np.zeros((3, 70), np.int32), "initial_v": np.zeros((3, 70), np.int32)}
    states["initial_s"] = np.zeros((3, 70), np.float32)
    session = custom_ops.session(Case(case.op_type, case.attributes, {"x": x, **case.inputs, **states}).model(), native=True)
    parts = []
    for begin, end in [(0, 1), (1, 1), (1, 8), (8, 20)]:
        s, *finals = session.run(None, {"x": x[begin:end], **case.inputs, **states})
        states = dict(zip(states, finals, strict=True))
        parts.append(s)
    whole = custom_ops.reference.recurrent_cuba_lif(x, **case.inputs, **case.attributes)
    assert 0 < whole.s.mean() < 1
    np.testing.assert_array_equal(np.concatenate(parts), whole.s)
    np.testing.assert_array_equal(states["initial_s"], whole.s[-1])


def test_a_scalar_input_is_refused_when_it_runs() -> None:
    case = simple_case("IF", (2, 3))
    model = case.model(function=False)
    for value in (model.graph.input[0], model.graph.output[0], model.graph.output[1]):
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=r"x has the shape \[\], but needs time and batch axes first"):
        custom_ops.session(model, native=True).run(None, {"x": np.array(1, np.float32)})


def optimized_op_types(model: onnx.ModelProto, path: Path, **options: Any) -> list[str]:
    session_options = onnxruntime.SessionOptions()
    session_options.optimized_model_filepath = str(path)
    session_options.log_severity_level = 3
    custom_ops.session(model, sess_options=session_options, **options)
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_the_kernel_wins_over_the_function_body_where_the_library_is_registered(op_type: str, tmp_path: Path) -> None:
    case = simple_case(op_type, (2, 3, 4))
    case.outputs = ("s",)
    model = case.model()
    assert optimized_op_types(model, tmp_path / "native.onnx", native=True) == [op_type]
    assert optimized_op_types(model, tmp_path / "auto.onnx") == [op_type]
    assert "Scan" in optimized_op_types(model, tmp_path / "body.onnx", native=False)


def test_other_functions_of_the_domain_are_left_alone() -> None:
    """A file may bring neurons under names that the library does not know."""
    case = simple_case("CubaLIF", (5, 2, 300))
    case.outputs = ("s",)
    model = case.model()
    opset = helper.make_opsetid("", 21)
    invert = helper.make_node("Neg", ["x"], ["y"])
    model.functions.append(helper.make_function("snn", "OtherNode", ["x"], ["y"], [invert], [opset]))
    (neuron,) = model.graph.node
    model.graph.output[0].name = "other"
    model.graph.node.append(helper.make_node("OtherNode", [neuron.output[0]], ["other"], domain="snn"))
    body, native = (custom_ops.session(model, native=native).run(None, case.inputs)[0] for native in (False, True))
    assert -1 < body.mean() < 0
    np.testing.assert_array_equal(native, body)


def test_registering_twice_and_many_sessions(library: Library) -> None:
    case = simple_case("CubaLIF", (5, 2, 300))
    options = onnxruntime.SessionOptions()
    for _ in range(3):
        options.register_custom_ops_library(library.path)
    sessions = [custom_ops.session(case.model(), sess_options=options, native=True) for _ in range(20)]
    with ThreadPoolExecutor(len(sessions)) as pool:
        list(pool.map(case.check, sessions))


def test_sixteen_threads_run_one_session() -> None:
    cases = [simple_case("CubaLIF", (20, 1 + index, 3000)) for index in range(16)]
    session = custom_ops.session(cases[0].model(), native=True)
    start = threading.Barrier(16)

    def run(case: Case) -> None:
        start.wait()
        for _ in range(5):
            case.check(session)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, cases))


@pytest.mark.parametrize("threads", [1, 2])
def test_work_is_shared_by_the_threads_of_the_session_alone(threads: int) -> None:
    """The library starts no thread of its own, and the result does not depend on how many share the work."""
    case = simple_case("CubaLIF", (16, 4, 40_000))
    before = len(list(Path("/proc/self/task").iterdir()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = custom_ops.session(case.model(), sess_options=options, native=True)
    case.check(session)
    assert len(list(Path("/proc/self/task").iterdir())) - before <= threads - 1


def test_no_memory_that_grows_with_time_beyond_input_and_output() -> None:
    """In processes of their own: more steps cost their input and output, and nothing else."""
    case = simple_case("CubaLIF", (2, 1, 3))
    case.outputs = ("s",)
    command = [sys.executable, str(Path(__file__).parents[1] / "peers" / "peak_memory.py"), custom_ops.get_library_path()]

    def peak(steps: int) -> int:
        ran = subprocess.run([*command, str(steps)], input=case.model().SerializeToString(), check=True, capture_output=True)
        return int(ran.stdout)

    grown = peak(450) - peak(50)
    needed = 400 * 20_000 * (4 + 4)  # steps, neurons, bytes of an input and an output
    assert 0.9 * needed < grown < 1.1 * needed


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_library_serves_both_ends_of_onnxruntime(
    which: str, bare_onnxruntime: Callable[[str], Path], library: Library, tmp_path: Path
) -> None:
    """One library; the runtimes have nothing of ours installed."""
    rng = np.random.default_rng(3)
    for op_type in ATTRIBUTES:
        case = simple_case(op_type, (9, 5, 200) if op_type == "RecurrentCubaLIF" else (9, 3, 5, 200))
        neurons = case.inputs["x"].shape[1:]
        if op_type in INTEGERS:
            case.inputs |= {name: rng.integers(-(2**31), 2**31, neurons).astype(np.int32) for name in ("initial_u", "initial_v")}
            case.inputs |= {"bias": rng.integers(-60, 60, (5, 1), np.int32)}
        else:
            case.inputs |= {"initial_v": rng.normal(size=neurons).astype(np.float32)}
        if op_type == "RecurrentCubaLIF":
            case.inputs |= {"initial_s": rng.integers(0, 2, neurons).astype(np.float32)}
        onnx.save(case.model(), tmp_path / f"{op_type}.onnx")
        np.savez(tmp_path / f"{op_type}.in.npz", **case.inputs)
        np.savez(tmp_path / f"{op_type}.out.npz", **dict(zip(case.outputs, case.expected(), strict=True)))
    script = Path(__file__).parents[1] / "peers" / "run_native.py"
    command = [bare_onnxruntime(which), "-I", script, library.path, tmp_path, *ATTRIBUTES]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[1:] == list(ATTRIBUTES)


def test_without_the_library_the_body_serves_and_native_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = {"cpu": tmp_path / "libsnn_ops.so", "cuda": tmp_path / "libsnn_ops_cuda.so"}
    monkeypatch.setattr(runtime, "_LIBRARIES", missing)
    case = simple_case("IF", (4, 2, 3))
    case.outputs = ("s",)
    case.check(custom_ops.session(case.model()))
    with pytest.raises(RuntimeUnavailableError, match=r"C\+\+17 compiler.*native=False"):
        custom_ops.session(case.model(), native=True)
    with pytest.raises(RuntimeUnavailableError, match="nvcc"):
        custom_ops.session(case.model(), device="cuda")


def test_kernels_inside_a_larger_graph() -> None:
    """Between a convolution and a product, with the dimensions of a network."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-4, 5, (6, 2, 3, 3)).astype(np.float32)
    lif = ATTRIBUTES["CubaLIF"] | {"v_threshold": 3}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["input", "fold"], ["folded"]),
            helper.make_node("Conv", ["folded", "weight"], ["convolved"], pads=[1, 1, 1, 1]),
            helper.make_node("Reshape", ["convolved", "unfold"], ["currents"]),
            helper.make_node("CubaLIF", ["currents"], ["output"], domain="snn", **lif),
        ],
        "net",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["T", "N", 2, 5, 5])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["T", "N", 6, 5, 5])],
        [
            onnx.numpy_helper.from_array(weight, "weight"),
            onnx.numpy_helper.from_array(np.array([-1, 2, 5, 5]), "fold"),
            onnx.numpy_helper.from_array(np.array([8, -1, 6, 5, 5]), "unfold"),
        ],
    )
    model = helper.make_model(
        graph,
        functions=[custom_ops.OPERATORS["CubaLIF"].function()],
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("snn", 1)],
        ir_version=10,
    )
    x = (rng.random((8, 3, 2, 5, 5)) < 0.5).astype(np.float32)
    body, native = (custom_ops.session(model, native=native).run(None, {"input": x})[0] for native in (False, True))
    assert 0 < body.mean() < 1
    np.testing.assert_array_equal(native, body)
