"""Files that are valid, small, and ask for very much: what a reader does with each must grow with the file and no faster."""

import io
from collections.abc import Callable, Iterable, Sequence

import h5py
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from custom_ops.operators import OPERATORS

__all__ = ["HOSTILE"]

_IF = ("snn", "IF", {"v_threshold": 1.0, "v_reset": 0.0})


def _neuron(source: str, target: str) -> NodeProto:
    domain, op_type, attributes = _IF
    return helper.make_node(op_type, [source], [target], name=target, domain=domain, **attributes)


def _onnx(
    nodes: Iterable[NodeProto],
    shape: Sequence[int] = (4,),
    weights: Sequence[TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    output: str = "output",
    metadata: dict[str, str] | None = None,
) -> bytes:
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["T", "N", *shape])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "hostile", [given], [result], list(weights))
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("snn", 1), helper.make_opsetid("other", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[OPERATORS["IF"].function(None), *functions])
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


def _weight(name: str, *shape: int, value: float = 1.0) -> TensorProto:
    return numpy_helper.from_array(np.full(shape, value, np.float32), name)


def _pooled(op_type: str, size: int, **attributes: object) -> bytes:
    """A pool over a declared image of ``size`` x ``size``."""
    nodes = [
        helper.make_node("Reshape", ["input", "images"], ["folded"]),
        helper.make_node(op_type, ["folded"], ["pooled"], name="pool", **attributes),
        helper.make_node("Shape", ["input"], ["leading"], start=0, end=2),
        helper.make_node("Concat", ["leading", "one"], ["target"], axis=0),
        helper.make_node("Reshape", ["pooled", "target"], ["apart"]),
        _neuron("apart", "output"),
    ]
    images = numpy_helper.from_array(np.array([-1, 1, size, size]), "images")
    one = numpy_helper.from_array(
        np.array([1 if op_type == "GlobalAveragePool" or "kernel_shape" in attributes else -1, 1, 1]), "one"
    )
    return _onnx(nodes, (1, size, size), [images, one])


def _scaled(channels: int) -> bytes:
    nodes = [helper.make_node("Mul", ["input", "two"], ["twice"]), _neuron("twice", "output")]
    return _onnx(nodes, (channels, 1, 1), [numpy_helper.from_array(np.float32(2), "two")])


def _doubled(op_type: str, first: TensorProto, times: int, cast: int | None) -> bytes:
    """A weight that doubles, or is squared, again and again."""
    nodes = [helper.make_node("Cast", ["w"], ["w0"], to=cast) if cast else helper.make_node("Identity", ["w"], ["w0"])]
    more = {"axis": 0} if op_type == "Concat" else {}
    nodes += [helper.make_node(op_type, [f"w{i}"] * 2, [f"w{i + 1}"], name=f"again{i}", **more) for i in range(times)]
    nodes += [helper.make_node("MatMul", ["input", f"w{times}"], ["sums"], name="sums"), _neuron("sums", "output")]
    return _onnx(nodes, weights=[first])


def _layers(count: int) -> bytes:
    nodes, last = [], "input"
    for i in range(count):
        nodes += [helper.make_node("MatMul", [last, "w"], [f"m{i}"], name=f"m{i}"), _neuron(f"m{i}", f"s{i}")]
        last = f"s{i}"
    return _onnx(nodes, weights=[_weight("w", 4, 4)], output=last)


def _sums_doubled(times: int, spikes: bool) -> bytes:
    """Adding a value to itself: what is a tree of 2 ** times leaves if nobody adds up."""
    nodes = [_neuron("input", "a0") if spikes else helper.make_node("MatMul", ["input", "w"], ["a0"], name="first")]
    nodes += [helper.make_node("Add", [f"a{i}"] * 2, [f"a{i + 1}"], name=f"add{i}") for i in range(times)]
    return _onnx([*nodes, _neuron(f"a{times}", "output")], weights=[_weight("w", 4, 4)])


def _fibonacci(times: int) -> bytes:
    """Sums of the two values before, by different matrices, so that terms do not coincide."""
    nodes = [helper.make_node("MatMul", ["input", "w"], ["a0"]), helper.make_node("MatMul", ["a0", "w"], ["a1"])]
    for i in range(times):
        nodes += [
            helper.make_node("MatMul", [f"a{i + 1}", "w"], [f"b{i}"]),
            helper.make_node("Add", [f"a{i}", f"b{i}"], [f"a{i + 2}"], name=f"add{i}"),
        ]
    return _onnx([*nodes, _neuron(f"a{times + 1}", "output")], weights=[_weight("w", 4, 4, value=0.1)])


def _joined(width: int) -> bytes:
    nodes = [helper.make_node("Concat", ["input"] * width, ["wide"], axis=2, name="joined"), _neuron("wide", "output")]
    return _onnx(nodes)


def _joined_again(times: int) -> bytes:
    nodes = [helper.make_node("Identity", ["input"], ["c0"])]
    nodes += [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=2, name=f"join{i}") for i in range(times)]
    return _onnx([*nodes, _neuron(f"c{times}", "output")])


def _split(count: int) -> bytes:
    parts = [f"p{i}" for i in range(count)]
    nodes = [
        helper.make_node("Split", ["input"], parts, axis=2, num_outputs=count, name="split"),
        helper.make_node("Concat", parts[::-1], ["back"], axis=2, name="joined"),
        _neuron("back", "output"),
    ]
    return _onnx(nodes, (count,))


def _convolutions(first: tuple[int, int], second: tuple[int, int]) -> bytes:
    nodes = [
        helper.make_node("Reshape", ["input", "images"], ["folded"]),
        helper.make_node("Conv", ["folded", "a"], ["one"], name="first", pads=[first[0] - 1, first[1] - 1] * 2),
        helper.make_node("Conv", ["one", "b"], ["two"], name="second"),
        helper.make_node("Shape", ["input"], ["leading"], start=0, end=2),
        helper.make_node("Concat", ["leading", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["two", "target"], ["apart"]),
        _neuron("apart", "output"),
    ]
    height, width = 64 + 2 * (first[0] - 1) - first[0] - second[0] + 2, 64 + 2 * (first[1] - 1) - first[1] - second[1] + 2
    rest = numpy_helper.from_array(np.array([1, height, width]), "rest")
    images = numpy_helper.from_array(np.array([-1, 1, 64, 64]), "images")
    return _onnx(nodes, (1, 64, 64), [_weight("a", 1, 1, *first), _weight("b", 1, 1, *second), rest, images])


def _functions(depth: int, calls: int) -> bytes:
    """Each function calls the next one ``calls`` times."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("other", 1)]
    functions = []
    for i in range(depth):
        nodes, last = [], "x"
        for j in range(calls):
            nodes.append(helper.make_node(f"F{i + 1}", [last], [f"y{j}"], domain="other"))
            last = f"y{j}"
        functions.append(helper.make_function("other", f"F{i}", ["x"], [last], nodes, imports))
    functions.append(
        helper.make_function("other", f"F{depth}", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], imports)
    )
    nodes = [helper.make_node("F0", ["input"], ["f"], domain="other", name="call"), _neuron("f", "output")]
    return _onnx(nodes, functions=functions)


def _many_functions(count: int) -> bytes:
    imports = [helper.make_opsetid("", 21)]
    body = [helper.make_node("Identity", ["x"], ["y"])]
    functions = [helper.make_function("other", f"F{i}", ["x"], ["y"], body, imports) for i in range(count)]
    nodes, last = [], "input"
    for i in range(count):
        nodes.append(helper.make_node(f"F{i}", [last], [f"f{i}"], domain="other", name=f"f{i}"))
        last = f"f{i}"
    return _onnx([*nodes, _neuron(last, "output")], functions=functions)


def _subgraphs(depth: int) -> bytes:
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["deepest"])], "g", [], [_value("deepest")])
    for i in range(depth):
        node = helper.make_node("If", ["yes"], [f"d{i}"], then_branch=graph, else_branch=graph if i == 0 else _small())
        graph = helper.make_graph([node], "g", [], [_value(f"d{i}")])
    nodes = [helper.make_node("If", ["yes"], ["x"], then_branch=graph, else_branch=_small(), name="if"), _neuron("x", "output")]
    return _onnx(nodes, weights=[numpy_helper.from_array(np.array(True), "yes")])


def _small() -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Identity", ["input"], ["small"])], "s", [], [_value("small")])


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _empty_nodes(count: int) -> bytes:
    model = onnx.ModelProto.FromString(_onnx([_neuron("input", "output")]))
    return model.SerializeToString() + b"".join([b"\x3a" + _varint(2 * count) + b"\x0a\x00" * count])


def _empty_functions(count: int) -> bytes:
    return _onnx([_neuron("input", "output")]) + b"\xca\x01\x00" * count


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _constant(shape: Sequence[int]) -> bytes:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["w"], name="filled", value=_weight("v", 1)),
        helper.make_node("MatMul", ["input", "w"], ["sums"], name="sums"),
        _neuron("sums", "output"),
    ]
    return _onnx(nodes, weights=[numpy_helper.from_array(np.array(shape), "size")])


def _expanded(times: int) -> bytes:
    """Constants that each are small views of large ones."""
    nodes = [helper.make_node("Expand", ["w", "size"], [f"e{i}"], name=f"e{i}") for i in range(times)]
    nodes += [helper.make_node("Sum", [f"e{i}" for i in range(times)], ["sum"], name="sum")]
    nodes += [helper.make_node("MatMul", ["input", "sum"], ["sums"], name="sums"), _neuron("sums", "output")]
    return _onnx(nodes, weights=[_weight("w", 4, 1), numpy_helper.from_array(np.array([4, 2**22]), "size")])


def _range(limit: int) -> bytes:
    numbers = [numpy_helper.from_array(np.int64(value), name) for name, value in (("a", 0), ("b", limit), ("c", 1))]
    nodes = [
        helper.make_node("Range", ["a", "b", "c"], ["r"], name="range"),
        helper.make_node("Cast", ["r"], ["w"], to=1),
        helper.make_node("Mul", ["input", "w"], ["sums"]),
        _neuron("sums", "output"),
    ]
    return _onnx(nodes, weights=numbers)


def _resized(times: int) -> bytes:
    nodes = [helper.make_node("Reshape", ["input", "images"], ["r0"])]
    for i in range(times):
        nodes.append(helper.make_node("Resize", [f"r{i}", "", "factor"], [f"r{i + 1}"], name=f"up{i}", mode="nearest"))
    nodes += [helper.make_node("GlobalAveragePool", [f"r{times}"], ["p"]), helper.make_node("Reshape", ["p", "flat"], ["f"])]
    images, flat = (
        numpy_helper.from_array(np.array([-1, 1, 2, 2]), "images"),
        numpy_helper.from_array(np.array([-1, 1, 1]), "flat"),
    )
    factor = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "factor")
    return _onnx([*nodes, _neuron("f", "output")], (1, 2, 2), [images, flat, factor])


def _padded(size: int) -> bytes:
    nodes = [
        helper.make_node("Pad", ["input", "pads"], ["padded"], name="pad"),
        _neuron("padded", "output"),
    ]
    return _onnx(nodes, weights=[numpy_helper.from_array(np.array([0, 0, 0, 0, 0, size]), "pads")])


def _container(features: int) -> bytes:
    """SpikingJelly's recurrent container, whose matrices are nowhere: a declared number of features alone."""
    step = helper.make_graph(
        [
            helper.make_node("Add", ["x_t", "s"], ["sums"]),
            helper.make_node("Add", ["sums", "v"], ["h"]),
            helper.make_node("GreaterOrEqual", ["h", "one"], ["fires"]),
            helper.make_node("Where", ["fires", "zero", "h"], ["v_out"]),
            helper.make_node("Cast", ["fires"], ["s_out"], to=1),
            helper.make_node("Identity", ["s_out"], ["y_t"]),
        ],
        "step",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", features]) for name in ("s", "v", "x_t")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", features]) for name in ("s_out", "v_out", "y_t")],
        [numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    body = [
        helper.make_node("Shape", ["x"], ["samples"], start=1, end=3),
        helper.make_node("ConstantOfShape", ["samples"], ["quiet"], value=_weight("v", 1, value=0.0)),
        helper.make_node("Scan", ["quiet", "quiet", "x"], ["s_end", "v_end", "y"], num_scan_inputs=1, body=step),
    ]
    function = helper.make_function("snn", "Container", ["x"], ["y"], body, [helper.make_opsetid("", 21)])
    return _onnx(
        [helper.make_node("Container", ["input"], ["output"], domain="snn", name="c")], (features,), functions=[function]
    )


def _metadata(key: str, value: str) -> bytes:
    return _onnx([_neuron("input", "output")], metadata={key: value})


def _fill_values(layers: int) -> bytes:
    """Data sets of which nothing is stored."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layer/0/type"], file["layer/0/shape"] = "input", np.array([8192])
        for i in range(1, layers + 1):
            file[f"layer/{i}/type"] = "dense"
            file[f"layer/{i}/shape"] = np.array([8192])
            file.create_dataset(f"layer/{i}/weight", (8192, 8192), "i1", fillvalue=2, chunks=(4096, 4096))
            for key, number in (("type", "CUBA"), ("iDecay", 4095), ("vDecay", 0), ("vThMant", 64), ("refDelay", 1)):
                file[f"layer/{i}/neuron/{key}"] = number
    return buffer.getvalue()


_STRINGS = TensorProto.STRING

HOSTILE: dict[str, Callable[[], bytes]] = {
    "a mean of 625 million pixels": lambda: _pooled("GlobalAveragePool", 25_000),
    "a mean of 10 ** 12 pixels": lambda: _pooled("GlobalAveragePool", 10**6),
    "a largest of 625 million pixels": lambda: _pooled("MaxPool", 25_000, kernel_shape=[25_000, 25_000]),
    "a largest of 10 ** 12 pixels": lambda: _pooled("MaxPool", 10**6, kernel_shape=[10**6, 10**6]),
    "an average of every pixel alone": lambda: _pooled("AveragePool", 30_000, kernel_shape=[1, 1]),
    "two billion channels": lambda: _scaled(2 * 10**9),
    "a number multiplied by itself": lambda: _doubled("Mul", numpy_helper.from_array(np.array([[3]]), "w"), 60, None),
    "a text of a number multiplied by itself": lambda: _doubled(
        "Mul", numpy_helper.from_array(np.array([3, 4]), "w"), 40, _STRINGS
    ),
    "a text that doubles": lambda: _doubled("Add", helper.make_tensor("w", _STRINGS, [1], [b"x" * 64]), 60, _STRINGS),
    "a weight that doubles": lambda: _doubled("Concat", _weight("w", 4, 4), 60, None),
    "a thousand layers": lambda: _layers(1_000),
    "sums that double": lambda: _sums_doubled(200, spikes=False),
    "spikes that are added to themselves": lambda: _sums_doubled(200, spikes=True),
    "sums of the two before": lambda: _fibonacci(200),
    "a thousand copies side by side": lambda: _joined(1_000),
    "copies side by side that double": lambda: _joined_again(40),
    "four thousand parts": lambda: _split(4_000),
    "a column and a row": lambda: _convolutions((2_000, 1), (1, 2_000)),
    "functions that call the next one twice": lambda: _functions(26, 2),
    "functions that call the next one": lambda: _functions(400, 1),
    "three thousand functions": lambda: _many_functions(3_000),
    "subgraphs in subgraphs": lambda: _subgraphs(30),
    "a million empty nodes": lambda: _empty_nodes(10**6),
    "a million empty functions": lambda: _empty_functions(10**6),
    "a constant of 10 ** 12 numbers": lambda: _constant([4, 10**12]),
    "a constant of 10 ** 9 numbers": lambda: _constant([4, 250_000_000]),
    "a constant of 2 ** 80 numbers": lambda: _constant([2**40, 2**40]),
    "many large views": lambda: _expanded(200),
    "a range of 10 ** 12": lambda: _range(10**12),
    "an image that doubles": lambda: _resized(40),
    "10 ** 10 zeros beside": lambda: _padded(10**10),
    "a loop of 2,300 features": lambda: _container(2_300),
    "a loop of 10 ** 6 features": lambda: _container(10**6),
    "lists in lists": lambda: _metadata("sj2lava.scales", "[" * 100_000),
    "calibration that is a number": lambda: _metadata("sj2lava.calibration", "5"),
    "calibration of strings": lambda: _metadata("sj2lava.calibration", '{"mismatches": {"layer0": [1]}}'),
    "thirty layers of fill values": lambda: _fill_values(30),
}
"""By name: what builds the bytes of the file."""
