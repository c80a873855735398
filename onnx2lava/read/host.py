"""Cut a part out of a graph: what stays on the host, before the first spikes or behind the last ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir

from ..errors import ConversionError
from ..network import INPUT, OUTPUT, Shape

__all__ = ["encoder", "readout"]


def encoder(model: ir.Model, image: ir.Value, encoded: Mapping[str, ir.Value], shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    """From the images ``input`` to the spikes: ``output``, or the names of ``encoded`` where there are several.

    Args:
        model: the whole.
        image: its input.
        encoded: the values that hold the spikes, by name.
        shapes: their features, by name.

    Raises:
        ConversionError: the part needs more than the images.
    """
    graph = _extracted(model, [image], list(encoded.values()))
    _rename(graph, {graph.inputs[0]: INPUT})
    for i, (name, value) in enumerate(encoded.items()):
        _rename(graph, {graph.outputs[i]: OUTPUT if len(encoded) == 1 else name})
        graph.outputs[i].shape = ir.Shape(["T", "N", *(list(value.shape or ())[2:] or shapes[name])])
        graph.outputs[i].type = ir.TensorType(ir.DataType.FLOAT)
    return _model(model, graph)


def readout(
    model: ir.Model,
    given: ir.Value,
    read: Mapping[str, ir.Value],
    dims: Mapping[str, Sequence[int]],
    shapes: Mapping[str, Shape],
    output: ir.Value,
) -> onnx.ModelProto:
    """From the last spikes ``[T, N, *]``, ``input`` or the names of ``read`` where there are several, to ``output``.

    Args:
        model: the whole.
        given: its input. The part may ask it for T and N, which are those of the spikes, and for nothing else.
        read: the values that hold the spikes, by the name of their population.
        dims: how the whole arranges those values, as a Reshape of ``[T, N, *]`` says it.
        shapes: features of the populations.
        output: what goes out.

    Raises:
        ConversionError: the part needs more than those spikes.
    """
    graph = _extracted(model, [*read.values(), given], [output])
    *spikes, whole = graph.inputs
    for use in list(whole.uses()):
        asked = _asked(use.node, given)
        if asked is None:
            raise ConversionError(
                f"What follows the last spikes also reads {given.name!r}, which the host does not have: let the readout read the "
                "last spikes alone, or take another output of the model."
            )
        _ask_spikes(graph, use.node, spikes[0], asked)
    del graph.inputs[-1]
    for name, own in zip(read, spikes, strict=True):
        _rename(graph, {own: INPUT if len(read) == 1 else name})
        if tuple(dims[name]) != (0, 0, *shapes[name]):
            _arrange(graph, own, dims[name])
        own.shape = ir.Shape(["T", "N", *shapes[name]])
        own.type = ir.TensorType(ir.DataType.FLOAT)
    _rename(graph, {graph.outputs[0]: OUTPUT})
    return _model(model, graph)


def _extracted(model: ir.Model, inputs: list[ir.Value], outputs: list[ir.Value]) -> ir.Graph:
    try:
        return ir.convenience.extract(model.graph, inputs, outputs)
    except ValueError as error:
        raise ConversionError(
            f"The part up to {outputs[0].name!r} cannot be cut out ({' '.join(str(error).split())}): let what stays on the host "
            "read the network's input, or its last spikes, alone."
        ) from error
    except RuntimeError as error:  # of its copy, node by node, with the whole of the graph in the message
        raise _unknown_value(f"The part up to {outputs[0].name!r}") from error


def _unknown_value(what: str) -> ConversionError:
    return ConversionError(
        f"{what} cannot be cut out (a subgraph in it reads a value that is nowhere computed): repair the file."
    )


def _asked(node: ir.Node, given: ir.Value) -> list[int | str] | None:
    """Which dimensions a Shape of the input asks for, ``"T"``, ``"N"`` or numbers; None if it asks for something else."""
    names = [dim if isinstance(dim, int) else dim.value for dim in given.shape or ()]
    names = names if "T" in names or "N" in names else ["T", "N", *names[2:]]
    try:
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(names))
    except TypeError:
        return None
    if node.op_type != "Shape" or node.domain != "":
        return None
    asked = [name for name in names[slice(start, end)] if isinstance(name, int) or name in ("T", "N")]
    return asked if 0 < len(asked) == len(names[slice(start, end)]) else None


def _ask_spikes(graph: ir.Graph, node: ir.Node, spikes: ir.Value, asked: Sequence[int | str]) -> None:
    """Let ``node``, a Shape of the input, ask the spikes ``[T, N, *]`` for T and N, and be joined with the numbers."""
    (shape,) = node.outputs
    parts: list[ir.Value] = []
    for name in asked:
        if isinstance(name, int):
            part = ir.node("Constant", [], {"value_ints": [name]})
        else:
            start = "TN".index(name)
            part = ir.node("Shape", [spikes], {"start": start, "end": start + 1})
        graph.insert_before(node, part)
        part.outputs[0].name = f"{shape.name}/{len(parts)}"
        parts.append(part.outputs[0])
    joined = ir.node("Concat", parts, {"axis": 0}, name=node.name)
    graph.insert_before(node, joined)
    shape.replace_all_uses_with(joined.outputs[0])
    graph.remove(node, safe=True)
    joined.outputs[0].name = shape.name


def _arrange(graph: ir.Graph, value: ir.Value, dims: Sequence[int]) -> None:
    """Let everything read ``value`` in other dimensions, as the whole graph had them."""
    shape = ir.Value(name=f"{value.name}/dims", const_value=ir.tensor(np.array(dims, np.int64), name=f"{value.name}/dims"))
    shape.shape, shape.type = ir.Shape([len(dims)]), ir.TensorType(ir.DataType.INT64)
    graph.register_initializer(shape)
    node = ir.node("Reshape", [value, shape], {"allowzero": 0}, name=f"{value.name}/Arrange")
    node.outputs[0].name = f"{value.name}/arranged"
    users = [use for use in value.uses() if use.node is not node and use.node.op_type != "Shape"]
    for use in users:
        use.node.replace_input_with(use.idx, node.outputs[0])
    graph.insert_before(next(iter(graph)), node)


def _rename(graph: ir.Graph, names: Mapping[ir.Value, str]) -> None:
    """Give values new names, and what had those names before other ones."""
    taken = {each.name for each in _values(graph)}
    for value, name in names.items():
        for other in _values(graph):
            if other is not value and other.name == name:
                fresh = name
                while fresh in taken:
                    fresh += "_"
                taken.add(fresh)
                _set_name(graph, other, fresh)
        _set_name(graph, value, name)


def _set_name(graph: ir.Graph, value: ir.Value, name: str) -> None:
    if value.name is not None and value.name in graph.initializers:
        del graph.initializers[value.name]
        value.name = name
        graph.initializers[name] = value
    else:
        value.name = name


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs)]


def _called(model: ir.Model, graph: ir.Graph) -> list[ir.Function]:
    """The functions that the graph calls, and those that they call."""
    functions = {(function.domain, function.name): function for function in model.functions.values()}
    found: dict[tuple[str, str], ir.Function] = {}
    waiting: list[ir.Graph | ir.Function] = [graph]
    while waiting:
        for node in ir.traversal.RecursiveGraphIterator(waiting.pop()):
            called = (node.domain, node.op_type)
            if called in functions and called not in found:
                found[called] = functions[called]
                waiting.append(functions[called])
    return list(found.values())


def _model(model: ir.Model, graph: ir.Graph) -> onnx.ModelProto:
    try:
        functions = [function.clone() for function in _called(model, graph)]
    except RuntimeError as error:
        raise _unknown_value("What stays on the host") from error
    part = ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        functions=functions,
    )
    part.metadata_props.update(model.metadata_props)
    try:
        proto = ir.to_proto(part)
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ir.serde.SerdeError) as error:
        raise ConversionError(
            f"What stays on the host cannot be cut out ({' '.join(str(error).split())[:300]}): export it on its own."
        ) from error
    return proto
