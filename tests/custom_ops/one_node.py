"""Models of one ``snn`` node, and inputs that reach the corners of its arithmetic."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import helper

from custom_ops import DOMAIN, OPERATORS, VERSION
from custom_ops.operators import OPSET, Form

FLOAT, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
INPUTS = {name: tuple(value.name for value in operator.inputs) for name, operator in OPERATORS.items()}
OUTPUTS = {name: tuple(value.name for value in operator.outputs) for name, operator in OPERATORS.items()}
INTEGERS = ("CubaLIF", "RecurrentCubaLIF")
"""The operators in Loihi's integers that have a form for every type of ``x``, with and without bias and states."""


@dataclass
class Case:
    """A call of one operator: its attributes and its inputs by name; inputs that are not there are left out of the node."""

    op_type: str
    attributes: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        self.outputs = self.outputs or OUTPUTS[self.op_type]

    @property
    def form(self) -> Form:
        """The form of the function body that serves this call; it may take more than the call gives."""
        x_type = helper.np_dtype_to_tensor_dtype(self.inputs["x"].dtype)
        return Form(x_type, "bias" in self.inputs, any(name.startswith("initial") for name in self.inputs))

    def model(self, function: bool = True) -> onnx.ModelProto:
        """A model of this one node, with all its dimensions dynamic; with ``function``, with the function body as well."""
        names = INPUTS[self.op_type]
        node_inputs = [name if name in self.inputs else "" for name in names]
        while not node_inputs[-1]:
            node_inputs.pop()
        axes = ["T", "N", *(f"D{axis}" for axis in range(self.inputs["x"].ndim - 2))]
        shapes = {"x": axes, "s": axes}
        for name in ("bias", "recurrent_weight", "i_decay", "v_decay", "v_threshold"):
            shapes[name] = [f"{name}_{axis}" for axis in range(self.inputs.get(name, np.empty(0)).ndim)]
        types = {value.name: _onnx_type(value.types[0]) for value in OPERATORS[self.op_type].outputs}
        graph = helper.make_graph(
            [helper.make_node(self.op_type, node_inputs, self.outputs, "layer.0", domain=DOMAIN, **self.attributes)],
            "one_node",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), shapes.get(name, axes[1:]))
                for name, value in self.inputs.items()
            ],
            [helper.make_tensor_value_info(name, types[name], shapes.get(name, axes[1:])) for name in self.outputs if name],
        )
        return helper.make_model(
            graph,
            functions=[OPERATORS[self.op_type].function(self.form)] if function else [],
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            ir_version=10,
        )

    def expected(self) -> list[np.ndarray]:
        """What the NumPy reference gives for the outputs of the node."""
        values = OPERATORS[self.op_type].computed(**self.inputs, **self.attributes)
        return [values[name] for name in self.outputs if name]

    def check(self, session: onnxruntime.InferenceSession) -> None:
        """Run ``session`` and compare every output with the reference, bit for bit but for the sign of zero."""
        for name, value, expected in zip(
            filter(None, self.outputs), session.run(None, self.inputs), self.expected(), strict=True
        ):
            assert value.dtype == expected.dtype
            np.testing.assert_array_equal(value, expected, err_msg=name)


def block_model(inputs: dict[str, np.ndarray], attributes: dict[str, int]) -> onnx.ModelProto:
    """A model of one ``CubaBlock`` with these inputs (``x``, ``w``, perhaps ``bias``); it gives bytes ``p`` and floats ``s``."""
    names = [name for name in ("x", "w", "bias") if name in inputs]
    node = helper.make_node("CubaBlock", names, ["p", "s"], "block", domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())  # one is called "outputs"
    graph = helper.make_graph(
        [node],
        "one_block",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(inputs[name].dtype), inputs[name].shape)
            for name in names
        ],
        [helper.make_tensor_value_info("p", onnx.TensorProto.UINT8, None), helper.make_tensor_value_info("s", FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _onnx_type(name: str) -> int:
    return {"tensor(float)": FLOAT, "tensor(int32)": INT32}[name]


def for_body(case: Case) -> Case:
    """The same call with what the function body needs and the node left out: a body with states takes all of them."""
    if not case.form.states:
        return Case(case.op_type, case.attributes, case.inputs, ("s",))
    inputs = dict(case.inputs)
    for value in OPERATORS[case.op_type].inputs:
        shape = () if value.name == "bias" else inputs["x"].shape[1:]
        inputs.setdefault(value.name, np.zeros(shape, np.int32 if "tensor(int32)" in value.types else np.float32))
    return Case(case.op_type, case.attributes, inputs, OUTPUTS[case.op_type])


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """[T, N, *] of rank 2 to 5, with empty axes, single ones, and rests that fill no vector."""
    steps = draw(st.sampled_from([1, 2, 7, 0]))
    batch = draw(st.sampled_from([1, 2, 3, 0]))
    return (steps, batch, *draw(st.lists(st.integers(1, 9), max_size=3)))


def _integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers of which some are small, some near the 24-bit limits, some at the ends of int32."""
    scale = rng.choice([4, 100, 5000, 2**17, 2**23, 2**31 - 1])
    values = rng.integers(-scale, scale, shape, endpoint=True)
    corners = rng.choice([0, -1, 2**17, -(2**17), 2**23 - 1, 2**23, -(2**23), 1 - 2**23, 2**31 - 1, -(2**31)], shape)
    return np.array(np.where(rng.random(shape) < 0.1, corners, values), np.int32)


def _whole_floats(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers within ±2**24 as float32, some of them off by up to a half."""
    values = np.clip(_integers(rng, shape), -(2**24), 2**24)
    return np.array(values + rng.choice([0, 0, 0, 0.5, -0.5, 0.25, -1e-3], shape), np.float32)


def _bias(draw: st.DrawFn, rng: np.random.Generator, neurons: tuple[int, ...]) -> np.ndarray:
    """Whole numbers of either type, of a shape that broadcasts to ``neurons``."""
    rank = draw(st.integers(0, len(neurons)))
    shape = tuple(1 if draw(st.booleans()) else size for size in neurons[len(neurons) - rank :])
    return np.array(np.clip(_integers(rng, shape), -(2**24), 2**24), draw(st.sampled_from([np.int32, np.float32])))


@st.composite
def cuba_attributes(draw: st.DrawFn) -> dict[str, int]:
    """Attributes of the integer neurons, the ends of their ranges included."""
    decay = st.one_of(st.integers(0, 4096), st.sampled_from([0, 1, 2048, 4095, 4096]))
    return {
        "i_decay": draw(decay),
        "v_decay": draw(decay),
        "v_threshold": draw(st.one_of(st.integers(0, 400), st.sampled_from([0, 1, 131070, 131071]))),
    }


@st.composite
def cuba_lif_cases(draw: st.DrawFn) -> Case:
    """Calls of CubaLIF: every combination of types and optional inputs, attributes at the ends of their ranges included."""
    shape = draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = {"x": draw(st.sampled_from([_integers, _whole_floats]))(rng, shape)}
    if draw(st.booleans()):
        inputs["bias"] = _bias(draw, rng, shape[1:])
    for name in ("initial_u", "initial_v"):
        if draw(st.booleans()):
            inputs[name] = _integers(rng, shape[1:])
    return Case("CubaLIF", draw(cuba_attributes()), inputs)


@st.composite
def heterogeneous_cases(draw: st.DrawFn) -> Case:
    """Calls of HeterogeneousCubaLIF: each parameter one number, a number for some axes, or for every neuron."""
    shape = draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = {"x": _whole_floats(rng, shape)}
    inputs["bias"] = _bias(draw, rng, shape[1:]).astype(np.int32)
    for name, high in (("i_decay", 4096), ("v_decay", 4096), ("v_threshold", 2**24 - 1)):
        axes = shape[1 + draw(st.integers(0, len(shape) - 1)) :]
        axes = tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in axes)
        most = draw(st.sampled_from([high, 300, 131072]))
        inputs[name] = np.array(rng.integers(0, min(most, high), axes, endpoint=True), np.int32)
    return Case("HeterogeneousCubaLIF", {}, inputs)


@st.composite
def recurrent_cases(draw: st.DrawFn) -> Case:
    """Calls of RecurrentCubaLIF: as those of CubaLIF, with weights of 8 bits, of more than 16, and off by up to a half.

    There are few and many steps for each sample, layers that fill no vector, and thresholds and weights with which neurons are
    silent, fire now and then, or all of the time.
    """
    steps = draw(st.sampled_from([1, 2, 5, 40, 0]))
    batch = draw(st.sampled_from([1, 2, 5, 0]))
    features = draw(st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 100, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = {"x": draw(st.sampled_from([_integers, _whole_floats]))(rng, (steps, batch, features))}
    # The sum of a column stays within 2**24, where float32 is exact.
    largest = draw(st.sampled_from([4, 255, 32767, 40_000, 2**24])) if features else 0
    largest = min(largest, 2**24 // max(features, 1))
    weight = rng.integers(-largest, largest, (features, features), endpoint=True)
    off = rng.choice(draw(st.sampled_from([[0], [0, 0.5, -0.5, 0.25]])), weight.shape) if largest < 2**18 else 0
    inputs["recurrent_weight"] = np.array(weight + off, np.float32)
    if draw(st.booleans()):
        inputs["bias"] = _bias(draw, rng, (batch, features))
    for name in ("initial_u", "initial_v"):
        if draw(st.booleans()):
            inputs[name] = _integers(rng, (batch, features))
    if draw(st.booleans()):
        inputs["initial_s"] = rng.choice(np.float32([0, 1, 1, -0.0, 0.25, -3]), (batch, features))
    return Case("RecurrentCubaLIF", draw(cuba_attributes()), inputs)


@st.composite
def float_cases(draw: st.DrawFn) -> Case:
    """Calls of IF and LIF: hard and soft resets, both ways to leak, potentials that become infinite or NaN."""
    shape = draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    op_type = draw(st.sampled_from(["IF", "LIF"]))
    attributes: dict[str, Any] = {"v_threshold": draw(st.sampled_from([1.0, 0.1, 0.0, -0.5]))}
    v_reset = draw(st.sampled_from([None, 0.0, -0.3, 0.7]))
    if v_reset is not None:
        attributes["v_reset"] = v_reset
    if op_type == "LIF":
        attributes |= draw(st.sampled_from([{"tau": 1.0}, {"tau": 1.7}, {"tau": 100.0}, {"decay": 0.0}, {"decay": 0.37}]))
        attributes["decay_input"] = draw(st.integers(0, 1))
    attributes = {name: value if isinstance(value, int) else float(np.float32(value)) for name, value in attributes.items()}
    x = (rng.normal(size=shape) * rng.choice([1, 3, 1e30])).astype(np.float32)
    x[rng.random(shape) < 0.02] = rng.choice(np.float32([np.inf, -np.inf, np.nan, 1e-42]))
    inputs = {"x": x}
    if draw(st.booleans()):
        inputs["initial_v"] = rng.normal(size=shape[1:]).astype(np.float32)
    return Case(op_type, attributes, inputs)


@st.composite
def plain_cases(draw: st.DrawFn, op_type: str) -> Case:
    """Calls of any operator, of its definition alone: attributes in and at the ends of their ranges, ordinary numbers."""
    operator = OPERATORS[op_type]
    dense = any(value.name == "recurrent_weight" for value in operator.inputs)
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(1, 9))) if dense else draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    attributes: dict[str, Any] = {}
    only = draw(st.sampled_from(operator.one_of)) if operator.one_of else None
    for each in operator.attributes:
        if (each.name in operator.one_of and each.name != only) or (not each.required and draw(st.booleans())):
            continue
        low, high = each.range
        if each.kind == "int":
            numbers = st.sampled_from([int(low), int(high)]) | st.integers(max(int(low), -5000), min(int(high), 5000))
        else:
            numbers = st.floats(max(low, -2), min(high, 3), width=32)
        attributes[each.name] = draw(numbers)
    states = draw(st.booleans())
    inputs: dict[str, np.ndarray] = {}
    for value in operator.inputs:
        if value.optional and not states:
            continue
        own = {"x": shape, "recurrent_weight": shape[2:] * 2}.get(value.name, shape[1:])
        if value.types == ("tensor(int32)",):
            inputs[value.name] = rng.integers(0, 4096, own, np.int32, endpoint=True)
        else:
            inputs[value.name] = (rng.normal(size=own) * rng.choice([1, 3, 100])).astype(np.float32)
    return Case(op_type, attributes, inputs)
