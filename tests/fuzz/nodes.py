"""Nodes of the domain ``snn`` as they should be, and nearly so: what ``python -m tests.fuzz.operators`` runs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from custom_ops import DOMAIN, OPERATORS, VERSION
from custom_ops.operators import OPSET

__all__ = ["NodeCase", "build"]

Array = np.ndarray
_OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION), helper.make_opsetid("elsewhere", 1)]
_EXTREMES = (
    0,
    1,
    -1,
    2,
    63,
    64,
    4095,
    4096,
    4097,
    131071,
    131072,
    2**17 + 1,
    2**20,
    2**20 + 1,
    2**31 - 1,
    2**31,
    2**62,
    -(2**63),
    2**63 - 1,
)
_SIZES = (0, 0, 1, 2, 3, 15, 16, 17, 64, 65)
_HUGE = (2**20, 2**31 - 1, 2**31, 2**40, 2**46, 2**62, 2**63 - 1)
NATIVE = [name for name, operator in OPERATORS.items() if operator.native]
_RANGES = {"bias": (-4096, 4095), "i_decay": (0, 4096), "v_decay": (0, 4096), "v_threshold": (0, 2**24 - 1)}
_MOST = 1 << 18  # elements of an input that is really there


@dataclass
class NodeCase:
    """A node and what it is fed with, one run after the other.

    Args:
        number: of the case.
        op_type: of the node.
        names: of its inputs, in order; one that is not fed is left out.
        attributes: by name; numbers, texts, lists or tensors.
        runs: the inputs of each run by name.
        outputs: its outputs; "" is one that is left out.
        fixed: whether the file says the shapes of the first run; else it says none.
        constant: inputs that are stored in the file.
        empty: a shape of no elements that x gets inside of the file.
        place: where it stands: ``graph``, ``function``, ``passed on`` (in a function, with its caller's attributes), ``branch``.
        raw: whether the library is registered without custom_ops, so that nothing else checks.
        threads: of the session.
        isa: which of the instruction sets runs it.
        damages: what was done to it.
    """

    number: int
    op_type: str
    names: list[str]
    attributes: dict[str, Any]
    runs: list[dict[str, Array]]
    outputs: list[str]
    fixed: bool = False
    constant: set[str] = field(default_factory=set)
    empty: list[int] | None = None
    place: str = "graph"
    raw: bool = True
    threads: int = 1
    isa: int = 0
    damages: list[str] = field(default_factory=list)

    @property
    def fed(self) -> list[str]:
        """The inputs that a session of it takes."""
        return [name for name in self.runs[0] if name not in self.constant and not (name == "x" and self.empty is not None)]

    def model(self) -> onnx.ModelProto:
        first = self.runs[0]
        inputs = [name if name in first else "" for name in self.names]
        nodes, constants, graph_inputs = [], [], []
        for name, array in first.items():
            if name in self.constant:
                constants.append(numpy_helper.from_array(array, name))
            elif name in self.fed:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                graph_inputs.append(helper.make_tensor_value_info(name, kind, array.shape if self.fixed else None))
        if self.empty is not None:
            zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
            nodes.append(helper.make_node("ConstantOfShape", ["empty_shape"], ["x"], value=zero))
            constants.append(numpy_helper.from_array(np.array(self.empty, np.int64), "empty_shape"))
        node = helper.make_node(self.op_type, inputs, self.outputs, "the_node", domain=DOMAIN)
        node.attribute.extend(self._attributes())
        functions = []
        if self.place in ("function", "passed on"):
            caller = onnx.NodeProto()
            caller.CopyFrom(node)
            caller.op_type, caller.domain = "Caller", "elsewhere"
            if self.place == "function":
                del caller.attribute[:]
            else:
                for attribute in node.attribute:
                    reference = AttributeProto(name=attribute.name, ref_attr_name=attribute.name, type=attribute.type)
                    attribute.CopyFrom(reference)
            # A function cannot know which inputs are left out, so that it has those that are there.
            given, wanted = [name for name in inputs if name], [name for name in self.outputs if name]
            passed = [attribute.name for attribute in caller.attribute]
            functions.append(helper.make_function("elsewhere", "Caller", given, wanted, [node], _OPSETS, passed))
            caller.input[:], caller.output[:] = given, wanted
            node = caller
        elif self.place == "branch":
            wanted = [name for name in self.outputs if name]
            results = [onnx.ValueInfoProto(name=name) for name in wanted]
            branches = [helper.make_graph([node], "branch", [], results), helper.make_graph([node], "other", [], results)]
            node = helper.make_node(
                "If", ["yes"], [f"{name}_out" for name in wanted], then_branch=branches[0], else_branch=branches[1]
            )
            constants.append(numpy_helper.from_array(np.array(True), "yes"))
        nodes.append(node)
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        if functions:  # onnxruntime does not look into one for the types
            kinds = dict(zip(self.outputs, self._output_types(), strict=False))
            results = [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in node.output]
        graph = helper.make_graph(nodes, "g", graph_inputs, results, constants)
        return helper.make_model(graph, functions=functions, opset_imports=_OPSETS, ir_version=10)

    def _output_types(self) -> list[int]:
        if self.op_type not in NATIVE:
            return [TensorProto.UINT8, TensorProto.FLOAT]
        integer = "tensor(int32)"
        return [TensorProto.INT32 if integer in value.types else TensorProto.FLOAT for value in OPERATORS[self.op_type].outputs]

    def _attributes(self) -> Iterator[AttributeProto]:
        for name, value in self.attributes.items():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                continue
            yield helper.make_attribute(name, value, attr_type=AttributeProto.INTS if value == [] else None)


def build(seed: int, number: int) -> NodeCase:
    """Case ``number`` of the run ``seed``: the same whenever it is asked for."""
    rng = Random(f"{seed}/{number}")
    op_type = rng.choice([*NATIVE, "CubaBlock", "CubaBlock"])
    case = _block(rng, number) if op_type == "CubaBlock" else _neurons(rng, number, op_type)
    case.raw = op_type == "CubaBlock" or rng.random() < 0.5
    case.threads, case.isa = rng.choice((1, 1, 2)), rng.randrange(8)
    case.fixed = rng.random() < 0.3
    case.place = rng.choice(("graph", "graph", "graph", "function", "passed on", "branch"))
    if rng.random() < 0.3:
        case.constant = {name for name in case.runs[0] if name not in ("x",) and rng.random() < 0.7}
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        damage = rng.choice(_DAMAGES)
        case.damages.append(damage.__name__.removeprefix("_"))
        damage(rng, case)
    return case


def _random(rng: Random) -> np.random.Generator:
    return np.random.default_rng(rng.getrandbits(32))


def _integers(rng: Random, shape: tuple[int, ...]) -> Array:
    scale = rng.choice((4, 100, 5000, 2**17, 2**23, 2**31 - 1))
    return _random(rng).integers(-scale, scale, shape, np.int32, endpoint=True)


def _reals(rng: Random, shape: tuple[int, ...]) -> Array:
    return (_random(rng).normal(size=shape) * rng.choice((1, 3, 100))).astype(np.float32)


def _whole(rng: Random, shape: tuple[int, ...]) -> Array:
    return np.clip(_integers(rng, shape), -(2**24), 2**24).astype(np.float32)


def _neurons(rng: Random, number: int, op_type: str) -> NodeCase:
    """A call of a neuron operator as it should be."""
    operator = OPERATORS[op_type]
    recurrent = op_type.startswith("Recurrent")
    each = op_type == "HeterogeneousCubaLIF"
    integers = each or any(attribute.name == "i_decay" for attribute in operator.attributes)
    rank = 1 if recurrent else rng.randrange(4)
    x = (rng.choice((1, 2, 5, 33)), rng.choice((1, 2, 3)), *(rng.choice((1, 2, 3, 7, 16, 17, 65)) for _ in range(rank)))
    while math.prod(x) > _MOST:
        x = (1, *x[1:-1], 3)
    neurons = x[1:]
    inputs: dict[str, Array] = {}
    for value in operator.inputs:
        if value.optional and rng.random() < 0.5:
            continue
        if value.name == "x":
            make = _whole if each else rng.choice((_integers, _whole)) if integers else _reals
            inputs["x"] = make(rng, x)
        elif value.name == "recurrent_weight":
            inputs[value.name] = np.asarray(
                (_whole(rng, (x[2], x[2])) % 512) - 256 if integers else _reals(rng, (x[2], x[2])), np.float32
            )
        elif value.name == "bias" or (each and value.name != "x"):
            shape = tuple(1 if rng.random() < 0.4 else size for size in neurons[rng.randrange(len(neurons) + 1) :])
            low, high = _RANGES[value.name]
            numbers = np.clip(_integers(rng, shape), low, high)
            inputs[value.name] = numbers.astype(np.int32 if each else rng.choice((np.int32, np.float32)))
        elif value.name == "initial_s":
            inputs[value.name] = _random(rng).choice(np.float32([0, 1, -0.0, 0.25]), neurons)
        else:
            inputs[value.name] = (_integers if integers else _reals)(rng, neurons)
    attributes: dict[str, Any] = {}
    left_out = rng.choice(operator.one_of) if operator.one_of else None
    for attribute in operator.attributes:
        low, high = attribute.range
        if attribute.name == left_out or (
            not attribute.required and attribute.name not in operator.one_of and rng.random() < 0.4
        ):
            continue
        if attribute.kind == "int":
            attributes[attribute.name] = rng.choice((int(low), int(high), rng.randint(int(low), int(min(high, 5000)))))
        else:
            attributes[attribute.name] = float(np.float32(rng.uniform(max(low, -2.0), min(high, 3.0))))
    outputs = [value.name if value.name == "s" or rng.random() < 0.5 else "" for value in operator.outputs]
    return NodeCase(number, op_type, [value.name for value in operator.inputs], attributes, [inputs], outputs)


def _block(rng: Random, number: int) -> NodeCase:
    """A block as ``optimize`` makes them: a convolution or a dense synapse, of floats or of packed spikes."""
    dense, packed = rng.random() < 0.4, rng.random() < 0.5
    T, N, C, H, W = rng.choice((1, 2, 5, 33)), rng.choice((1, 2)), *(rng.choice((1, 2, 3, 8, 16, 17)) for _ in range(3))
    O = rng.choice((1, 3, 16, 17, 33))  # noqa: E741
    kernel, stride, dilation, padding = (H, W) if packed else (1, 1), (1, 1), (1, 1), (0, 0)
    if not dense:
        kernel = rng.randint(1, min(3, H)), rng.randint(1, min(3, W))
        stride, dilation = (rng.randint(1, 3), rng.randint(1, 3)), (rng.randint(1, 2), rng.randint(1, 2))
        padding = tuple(rng.randint(0, (k - 1) * d) for k, d in zip(kernel, dilation, strict=True))
        H, W = (max(size, (k - 1) * d + 1) for size, k, d in zip((H, W), kernel, dilation, strict=True))
    joined = not packed and dilation[1] == 1
    runs, inputs = (kernel[0], kernel[1] * C) if joined else (kernel[0] * kernel[1], C)
    weights = _random(rng).integers(-128, 128, (-(-O // 16), runs * -(-inputs // 4), 16, 4), np.int8)
    if packed:
        x = _random(rng).integers(0, 2, (N, H, W, -(-C // 16), T, 16), np.uint8)
    else:
        x = _random(rng).integers(0, rng.choice((2, 128, 300)), (T, N, C) if dense else (T, N, C, H, W)).astype(np.float32)
        if rng.random() < 0.1:
            x = x + np.float32(0.25)
    first = {"x": x, "w": weights}
    if rng.random() < 0.5:
        first["bias"] = _random(rng).integers(-4096, 4096, O, np.int32)
    attributes: dict[str, Any] = {
        "i_decay": rng.choice((4096, 0, 77)),
        "v_decay": rng.choice((0, 4096, 5)),
        "v_threshold": rng.randint(0, 900),
    }
    attributes |= {"dense": int(dense), "channels": C, "outputs": O, "small_sums": rng.randrange(2)}
    for name, pair in {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}.items():
        attributes |= {f"{name}_height": pair[0], f"{name}_width": pair[1]}
    outputs = rng.choice((["p", "s"], ["p"], ["p", ""]))
    return NodeCase(number, "CubaBlock", ["x", "w", "bias"], attributes, [first], list(outputs))


def _some_input(rng: Random, case: NodeCase) -> tuple[dict[str, Array], str]:
    run = rng.choice(case.runs)
    return run, rng.choice(list(run) or ["x"])


def _extreme_attribute(rng: Random, case: NodeCase) -> None:
    name = rng.choice(list(case.attributes) or ["v_threshold"])
    value = rng.choice(_EXTREMES)
    if isinstance(case.attributes.get(name), float):
        case.attributes[name] = rng.choice((float("nan"), float("inf"), -3.4e38, 0.0, -0.0, 1e-45, float(value)))
    else:
        case.attributes[name] = value


def _near_attribute(rng: Random, case: NodeCase) -> None:
    whole = [name for name, value in case.attributes.items() if isinstance(value, int)]
    if whole:
        case.attributes[rng.choice(whole)] += rng.choice((-2, -1, 1, 2, 16))


def _attribute_of_another_type(rng: Random, case: NodeCase) -> None:
    name = rng.choice([*case.attributes, "v_reset", "decay_input"])
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "t")
    case.attributes[name] = rng.choice((1, 0.5, "text", [1, 2], [0.5], [], ["a"], tensor))


def _attribute_gone_or_more(rng: Random, case: NodeCase) -> None:
    if rng.random() < 0.6 and case.attributes:
        del case.attributes[rng.choice(list(case.attributes))]
    else:
        case.attributes[rng.choice(("tau", "decay", "v_reset", "decay_input", "dense", "unknown"))] = rng.choice((1, 0, 0.5, 2.0))


def _another_size(rng: Random, case: NodeCase) -> None:
    """One dimension, one more or one less."""
    run, name = _some_input(rng, case)
    if name not in run:
        return
    shape = list(run[name].shape)
    kind = rng.randrange(4)
    if kind == 0 and shape:
        shape[rng.randrange(len(shape))] = rng.choice(_SIZES)
    elif kind == 1 and shape:
        axis = rng.randrange(len(shape))
        shape[axis] = max(0, shape[axis] + rng.choice((-1, 1)))
    elif kind == 2 and shape:
        del shape[rng.randrange(len(shape))]
    elif kind == 3:
        shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 2)))
    while math.prod(shape) > _MOST:
        shape[shape.index(max(shape))] = 2
    run[name] = np.resize(run[name], shape) if run[name].size else np.zeros(shape, run[name].dtype)


def _all_of_another_size(rng: Random, case: NodeCase) -> None:
    """Another number of steps, samples or neurons in every input that has it, as between two runs of one session."""
    run = rng.choice(case.runs)
    x = run.get("x")
    if x is None or not x.shape:
        return
    old, new = rng.choice(x.shape), rng.choice((0, 1, 2, 3, 17))
    changed = {
        name: np.resize(array, tuple(new if size == old else size for size in array.shape)) if array.size else array
        for name, array in run.items()
        if name not in case.constant
    }
    if all(array.size <= _MOST for array in changed.values()):
        run |= changed


def _another_run(rng: Random, case: NodeCase) -> None:
    case.runs.append(dict(rng.choice(case.runs)))
    for _ in range(rng.randrange(3)):
        rng.choice((_another_size, _all_of_another_size, _extreme_values))(rng, case)


def _transposed(rng: Random, case: NodeCase) -> None:
    run, name = _some_input(rng, case)
    if name in run:
        run[name] = np.ascontiguousarray(run[name].T)


def _another_type(rng: Random, case: NodeCase) -> None:
    name = rng.choice(list(case.runs[0]) or ["x"])
    kind = rng.choice((np.float32, np.int32, np.float64, np.float16, np.int64, np.uint8, np.int8, np.bool_))
    with np.errstate(all="ignore"):
        for run in case.runs:
            if name in run:
                run[name] = run[name].astype(kind)


def _extreme_values(rng: Random, case: NodeCase) -> None:
    run, name = _some_input(rng, case)
    if name not in run or not run[name].size:
        return
    array = run[name].copy()
    if array.dtype.kind == "f":
        values = [float("nan"), float("inf"), -float("inf"), 3e38, -1.0, 127.0, 128.0, 2147483648.0, -0.0, 1e-45]
    elif array.dtype.kind in "iu":
        values = [np.iinfo(array.dtype).min, np.iinfo(array.dtype).max, 0, 1]
    else:
        return
    for _ in range(rng.choice((1, 3, array.size))):
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(values)
    run[name] = array


def _input_left_out(rng: Random, case: NodeCase) -> None:
    name = rng.choice(list(case.runs[0]) or ["x"])
    for run in case.runs:
        run.pop(name, None)


def _inputs_mixed_up(rng: Random, case: NodeCase) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        rng.shuffle(case.names)
    elif kind == 1:
        case.names.append(rng.choice(case.names))
    elif kind == 2:
        case.names[rng.randrange(len(case.names))] = rng.choice(case.names)
    else:
        del case.names[rng.randrange(len(case.names)) :]
        case.names = case.names or ["x"]


def _outputs_mixed_up(rng: Random, case: NodeCase) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        case.outputs[0] = ""
        case.outputs[-1] = case.outputs[-1] or "last"
    elif kind == 1:
        case.outputs += ["more", "and_more"]
    elif kind == 2:
        del case.outputs[1:]
    else:
        case.outputs = [f"all{index}" for index in range(rng.randrange(1, 6))]


def _another_operator(rng: Random, case: NodeCase) -> None:
    case.op_type = rng.choice([*NATIVE, "CubaBlock", "CubaLIFNode", "Nothing"])


def _no_elements(rng: Random, case: NodeCase) -> None:
    """A zero among dimensions without end."""
    shape = list(case.runs[0]["x"].shape) if "x" in case.runs[0] else [1, 1]
    for _ in range(rng.randint(1, 3)):
        if shape:
            shape[rng.randrange(len(shape))] = rng.choice(_HUGE)
    shape.insert(0, 0)
    if len(shape) > 2 and rng.random() < 0.8:
        shape[rng.randrange(len(shape))] = 0
        del shape[rng.randrange(1, len(shape))]
    case.empty = shape if 0 in shape else [0, *shape]
    for run in case.runs:
        run.setdefault("x", np.zeros(1, np.float32))
    case.runs = case.runs[:1]


_DAMAGES: list[Callable[[Random, NodeCase], None]] = [
    *(
        _extreme_attribute,
        _extreme_attribute,
        _near_attribute,
        _near_attribute,
        _attribute_of_another_type,
        _attribute_gone_or_more,
    ),
    *(_another_size, _another_size, _another_size, _all_of_another_size, _another_run, _another_run, _transposed, _another_type),
    *(_extreme_values, _input_left_out, _inputs_mixed_up, _outputs_mixed_up, _another_operator, _no_elements, _no_elements),
]
