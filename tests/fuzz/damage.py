"""What is done to files: to bytes of any kind, and to the structure of ONNX models and of hdf5 files."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

__all__ = ["damaged_netx", "damaged_onnx", "flipped", "write_surroundings"]

SECRET = "../secret"
"""A file outside of the model's folder, which no model may read."""
BESIDE = "beside.bin"
"""One in it, which any model may."""

_SIZES = [0, 1, -1, 2, 3, 7, 255, 65537, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1]
_NAMES = ["", "input", "output", "two\nlines", "\x1b[31mred", "[/red]", "[bold]", "a" * 5000, "../../x", "%s{}", "\0", "x/y"]
_OPERATORS = [
    *("Add", "AveragePool", "BatchNormalization", "Cast", "Concat", "Constant", "ConstantOfShape", "Conv", "DequantizeLinear"),
    *("Div", "Einsum", "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "Identity", "If", "Loop", "MatMul", "MaxPool"),
    *("Mul", "Pad", "Range", "ReduceProd", "Reshape", "Resize", "Scan", "Shape", "Slice", "Squeeze", "Sub", "Tile", "Transpose"),
    *("Unsqueeze", "CubaLIF", "CubaBlock", "RecurrentCubaLIF", "IF", "LIF", "Nothing"),
]


def flipped(rng: Random, data: bytes, other: bytes) -> bytes:
    """Bytes changed, cut off, cut out, doubled, put in, or taken from another file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.choice((1, 2, 4, 8, 100))
        match rng.randrange(8):
            case 0 | 1 | 2:
                changed[at] ^= 1 << rng.randrange(8)
            case 3:
                changed[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case 4:
                del changed[at : at + rng.choice((length, len(changed)))]
            case 5:
                changed[at:at] = changed[at : at + length]
            case 6:
                changed[at:at] = rng.randbytes(length)
            case 7:
                start = rng.randrange(len(other))
                changed[at : at + length] = other[start : start + length]
    return bytes(changed)


def damaged_onnx(rng: Random, data: bytes, other: bytes) -> bytes:
    """One to four changes to the structure of a model, and now and then a few bytes as well."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        with contextlib.suppress(Exception):  # a change may be impossible in what earlier ones have left
            rng.choice(_ONNX)(rng, model)
    changed = model.SerializeToString()
    return flipped(rng, changed, other) if rng.random() < 0.1 else changed


def _some(rng: Random, values: Sequence[Any]) -> Any:
    """One of ``values``; where there are none, something to change in vain."""
    return rng.choice(values) if len(values) else None


def _node(rng: Random, model: onnx.ModelProto) -> onnx.NodeProto:
    """A node of the graph, or, less often, one of a function."""
    function = _some(rng, model.functions)
    if function is not None and function.node and rng.random() < 0.2:
        return rng.choice(function.node)
    return _some(rng, model.graph.node) or model.graph.node.add()


def _tensor(rng: Random, model: onnx.ModelProto) -> onnx.TensorProto:
    return _some(rng, model.graph.initializer) or model.graph.initializer.add()


def _value(rng: Random, model: onnx.ModelProto) -> str:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return rng.choice([*names, *_NAMES])


def _rewire(rng: Random, model: onnx.ModelProto) -> None:
    """Another input: cycles, values that do not exist, too few or too many."""
    node = _node(rng, model)
    if not node.input or rng.random() < 0.2:
        node.input.append(_value(rng, model))
    elif rng.random() < 0.2:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input[rng.randrange(len(node.input))] = rng.choice([*node.output, _value(rng, model), _value(rng, model)])


def _outputs(rng: Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if not node.output or rng.random() < 0.3:
        node.output.append(_value(rng, model))
    elif rng.random() < 0.3:
        del node.output[:]
    else:
        node.output[rng.randrange(len(node.output))] = _value(rng, model)


def _nodes(rng: Random, model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    at = rng.randrange(len(nodes))
    match rng.randrange(3):
        case 0:
            del nodes[at]
        case 1:
            nodes.add().CopyFrom(nodes[at])
        case 2:
            nodes.add().CopyFrom(nodes[at])
            del nodes[at]


def _missing_initializer(rng: Random, model: onnx.ModelProto) -> None:
    if model.graph.initializer:
        del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def _dims(rng: Random, model: onnx.ModelProto) -> None:
    """Wrong ranks, gigantic sizes."""
    tensor = _tensor(rng, model)
    if rng.random() < 0.5 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_SIZES)
    else:
        tensor.dims[:] = [rng.choice(_SIZES) for _ in range(rng.randrange(7))]
    if rng.random() < 0.3:
        tensor.ClearField("raw_data")


def _numbers(rng: Random, model: onnx.ModelProto) -> None:
    """NaN, infinite and huge weights; another type; fewer bytes than the shape says; other shape targets."""
    tensor = _tensor(rng, model)
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    try:
        values = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError, AttributeError, RuntimeError, OverflowError):
        return
    match rng.randrange(5):
        case 0 if values.size and values.dtype.kind == "f":
            values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45, 0))
        case 0 | 1 if values.size and values.dtype.kind == "i":
            info = np.iinfo(values.dtype)
            at = rng.randrange(values.size)
            values.flat[at] = max(info.min, min(info.max, rng.choice(_SIZES)))
        case 2:
            tensor.data_type = rng.randrange(0, 30)
            return
        case 3:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
            return
        case _:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = values.astype(rng.choice((np.float16, np.float64, np.int8, np.uint8, np.int64, np.bool_, np.complex64)))
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _shapes(rng: Random, model: onnx.ModelProto) -> None:
    """What the graph says about its inputs and outputs."""
    value = _some(rng, [*model.graph.input, *model.graph.output])
    if value is None:
        return
    shape = value.type.tensor_type.shape
    match rng.randrange(6):
        case 0:
            value.type.tensor_type.elem_type = rng.randrange(0, 24)
        case 1:
            value.ClearField("type")
        case 2:
            del shape.dim[rng.randrange(len(shape.dim) + 1) :]
        case 3:
            shape.dim.add().dim_value = rng.choice(_SIZES)
        case 4:
            value.name = _value(rng, model)
        case _ if shape.dim:
            dim = rng.choice(shape.dim)
            if rng.random() < 0.2:
                dim.dim_param = rng.choice(_NAMES)
            else:
                dim.dim_value = rng.choice(_SIZES)


def _ends(rng: Random, model: onnx.ModelProto) -> None:
    values = rng.choice((model.graph.input, model.graph.output))
    if values and rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        values.append(helper.make_tensor_value_info(_value(rng, model), 1, [rng.choice(_SIZES) for _ in range(rng.randrange(6))]))


def _attribute(rng: Random, model: onnx.ModelProto) -> None:
    """One attribute: another value, another type, gone, twice, empty."""
    node = _node(rng, model)
    attribute = _some(rng, node.attribute)
    name = attribute.name if attribute is not None and rng.random() < 0.7 else rng.choice(_ATTRIBUTES)
    if attribute is None or rng.random() < 0.2:
        attribute = node.attribute.add()
    match rng.randrange(10):
        case 0:
            attribute.type = rng.randrange(0, 15)
        case 1:
            node.attribute.remove(attribute)
        case 2:
            node.attribute.add().CopyFrom(attribute)
        case 3:
            attribute.name = rng.choice(_NAMES)
        case 4:
            attribute.Clear()
            attribute.name, attribute.type, attribute.ref_attr_name = name, AttributeProto.INT, rng.choice(_ATTRIBUTES)
        case 5:
            attribute.CopyFrom(helper.make_attribute(name, [rng.choice(_SIZES) for _ in range(rng.randrange(1, 9))]))
        case 6:
            attribute.CopyFrom(helper.make_attribute(name, rng.choice((float("nan"), float("inf"), -1.0, 1e38, 0.0))))
        case 7:
            attribute.CopyFrom(helper.make_attribute(name, rng.choice(("SAME_UPPER", "VALID", b"\xff\xfe", "", "x" * 3000))))
        case 8:
            attribute.CopyFrom(helper.make_attribute(name, TensorProto(dims=[rng.choice(_SIZES)], data_type=rng.randrange(24))))
        case _:
            attribute.CopyFrom(helper.make_attribute(name, rng.choice(_SIZES)))


_ATTRIBUTES = [
    *("i_decay", "v_decay", "v_threshold", "v_reset", "tau", "decay", "decay_input", "axis", "axes", "pads", "strides", "to"),
    *("dilations", "group", "kernel_shape", "auto_pad", "perm", "start", "end", "value", "transA", "transB", "alpha", "epsilon"),
    *("ceil_mode", "count_include_pad", "training_mode", "keepdims", "allowzero", "body", "num_scan_inputs", "outputs", "dense"),
]


def _operator(rng: Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if rng.random() < 0.7:
        node.op_type = rng.choice(_OPERATORS)
    if rng.random() < 0.4:
        node.domain = rng.choice(("", "snn", "ai.onnx", "ai.onnx.ml", "com.microsoft", "elsewhere"))


def _names(rng: Random, model: onnx.ModelProto) -> None:
    match rng.randrange(5):
        case 0 | 1:
            _node(rng, model).name = rng.choice(_NAMES) + rng.choice(("", "/IF"))
        case 2:
            _tensor(rng, model).name = _value(rng, model)
        case 3:
            model.graph.name = rng.choice(_NAMES)
        case 4:
            model.metadata_props.add(key=rng.choice(_NAMES), value=rng.choice(_NAMES))


def _functions(rng: Random, model: onnx.ModelProto) -> None:
    """Functions that call themselves or each other, are gone, are there twice, have no nodes."""
    function = _some(rng, model.functions)
    if function is None:
        return
    match rng.randrange(6):
        case 0:
            call = helper.make_node(function.name, list(function.input), list(function.output), domain=function.domain)
            del function.node[:]
            function.node.append(call)
        case 1:
            call = helper.make_node(function.name, list(function.input), ["again"], domain=function.domain)
            function.node.insert(0, call)
        case 2:
            other = model.functions.add()
            other.CopyFrom(function)
            other.name = "Other"
            for each, name in ((function, "Other"), (other, function.name)):
                del each.node[:]
                each.node.append(helper.make_node(name, list(each.input), list(each.output), domain=each.domain))
            for name in ("IF", "LIF"):
                other.attribute.append(name)
        case 3:
            model.functions.remove(function)
        case 4:
            model.functions.add().CopyFrom(function)
        case 5:
            del function.node[:]


def _external(rng: Random, model: onnx.ModelProto) -> None:
    """External data: of an initializer, in an attribute, a subgraph, a function, or a sparse tensor."""
    tensor = TensorProto(name="w", data_type=1, dims=[rng.choice((1, 4, 16, 2**40))], data_location=TensorProto.EXTERNAL)
    entries = {"location": rng.choice((SECRET, "/etc/passwd", "missing", "", BESIDE, "\0", "link", "."))}
    if rng.random() < 0.5:
        entries["offset"] = rng.choice(("0", "4", "-1", "x", str(2**62), "1e9"))
        entries["length"] = rng.choice(("16", "-4", "many", str(2**62), str(2**34)))
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    match rng.randrange(5):
        case 0:
            target = _tensor(rng, model)
            tensor.name = target.name
            if rng.random() < 0.5:
                tensor.dims[:] = target.dims
            target.CopyFrom(tensor)
        case 1:
            _node(rng, model).attribute.append(helper.make_attribute("value", tensor))
        case 2:
            graph = helper.make_graph([], "inner", [], [], [tensor])
            _node(rng, model).attribute.append(helper.make_attribute("body", graph))
        case 3 if model.functions:
            constant = helper.make_node("Constant", [], ["w"], value=tensor)
            rng.choice(model.functions).node.insert(0, constant)
        case _:
            model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def _versions(rng: Random, model: onnx.ModelProto) -> None:
    match rng.randrange(4):
        case 0:
            model.ir_version = rng.choice(_SIZES)
        case 1:
            rng.choice(model.opset_import or [model.opset_import.add()]).version = rng.choice(_SIZES)
        case 2:
            model.opset_import.add(domain=rng.choice(("", "snn", "x")), version=rng.choice(_SIZES))
        case 3:
            del model.opset_import[rng.randrange(len(model.opset_import) + 1) :]


def _nesting(rng: Random, model: onnx.ModelProto) -> None:
    """Graphs in graphs in graphs."""
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(rng.choice((1, 5, 20, 30))):
        branch = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=onnx.GraphProto())
        graph = helper.make_graph([branch], "g", [], [])
    node = _node(rng, model)
    node.attribute.append(helper.make_attribute("body", graph))


def _blow_up(rng: Random, model: onnx.ModelProto) -> None:
    """A few bytes that ask for a huge array."""
    size = rng.choice((10**6, 10**9, 10**12))
    shape = numpy_helper.from_array(np.array([size]), "huge_shape")
    model.graph.initializer.append(shape)
    name = rng.choice([tensor.name for tensor in model.graph.initializer])
    node = rng.choice(
        [
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
            helper.make_node("Expand", [name, "huge_shape"], ["huge"]),
            helper.make_node("Tile", [name, "huge_shape"], ["huge"]),
            helper.make_node("Range", ["huge_shape", "huge_shape", "huge_shape"], ["huge"]),
        ]
    )
    model.graph.node.insert(0, node)
    reader = _node(rng, model)
    if reader.input:
        reader.input[rng.randrange(len(reader.input))] = "huge"


_ONNX: list[Callable[[Random, onnx.ModelProto], None]] = [
    *(_rewire, _outputs, _nodes, _missing_initializer, _dims, _numbers, _numbers, _shapes, _ends, _attribute, _attribute),
    *(_operator, _names, _functions, _external, _versions, _nesting, _blow_up),
]


def damaged_netx(rng: Random, data: bytes, other: bytes) -> bytes:
    """One to three changes to the groups and datasets of a ``.net`` file."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            with contextlib.suppress(Exception):
                _change_hdf5(rng, file)
    changed = buffer.getvalue()
    return flipped(rng, changed, other) if rng.random() < 0.1 else changed


def _change_hdf5(rng: Random, file: Any) -> None:
    places: list[str] = []
    file.visit(places.append)
    place = rng.choice(places or ["layer"])
    if place in file:
        del file[place]
    with np.errstate(all="ignore"):
        match rng.randrange(14):
            case 0:
                pass
            case 1:
                file.create_group(place)
            case 2:
                file[place] = rng.choice((float("nan"), float("inf"), -1, 2**63 - 1, 0, "text", b"CUBA", "dense", True, 1 + 2j))
            case 3:
                shape = [rng.randrange(4) for _ in range(rng.randrange(6))]
                file[place] = np.full(shape, rng.choice((np.nan, np.inf, 2, -1, 1e30)))
            case 4:
                file.create_dataset(place, shape=rng.choice(((2**40,), (2**20, 2**20), (2**62,))), chunks=True, dtype="f4")
            case 5:
                file.create_dataset(place, data=np.zeros(2**22, "f4"), compression="gzip", chunks=(2**20,))
            case 6:
                file.create_dataset(place, shape=(4,), dtype="f4", external=[(rng.choice((SECRET, BESIDE)), 0, 16)])
            case 7:
                layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
                layout[:] = h5py.VirtualSource(rng.choice((SECRET, BESIDE)), "layer", shape=(4,))
                file.create_virtual_dataset(place, layout)
            case 8:
                file[place] = h5py.ExternalLink(rng.choice((SECRET, BESIDE)), "/layer")
            case 9:
                file[place] = h5py.SoftLink(rng.choice(("/layer", "/nothing", place, "/layer/0")))
            case 10:
                file[place] = file
            case 11:
                file.create_dataset(place, data=["a", "b" * 1000], dtype=h5py.string_dtype())
            case 12:
                file.create_dataset(place, data=np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]))
            case 13:
                file[place] = h5py.Empty("f4")


def write_surroundings(folder: Path) -> Path:
    """The folder for the models, with a file and a link in it, in ``folder``, with a secret beside it."""
    inner = folder / "models"
    inner.mkdir()
    (folder / "secret").write_bytes(bytes(64))
    (inner / BESIDE).write_bytes(bytes(64))
    (inner / "link").symlink_to("../secret")
    return inner
