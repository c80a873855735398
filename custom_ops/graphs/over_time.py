"""A network of one time step, wrapped over time."""

import onnx
from onnx import helper

from ..errors import ModelFileError
from ..files.model_file import read_model
from ..sessions.stream import state_infos

__all__ = ["over_time"]

_INSIDE = "step/"
"""Prefix of the values inside the loop that have a counterpart outside: a name must not mean two things."""


def over_time(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network over all time steps: one Scan whose body is the one step that ``model`` does.

    Args:
        model: what ``sj2onnx.export(..., stateful=True)`` made of a network in step mode ``s``: inputs ``[N, *]``.

    Returns:
        A model whose input and outputs have time first, ``[T, N, *]``; the states stay inputs and outputs ``[N, *]``.

    Raises:
        ModelFileError: the model has a time axis already, or no states.
    """
    source = read_model(model)
    infos = state_infos(source)
    metadata = {entry.key: entry.value for entry in source.metadata_props}
    if not infos or metadata.get("sj2lava.step_mode") != "s":
        raise ModelFileError(
            f"The model {source.graph.name!r} is not one time step with its states: export a network in step mode 's' with "
            "sj2onnx.export(..., stateful=True)."
        )
    graph = source.graph
    inputs = {value.name: value for value in graph.input}
    outputs = {value.name: value for value in graph.output}
    taken, given = [info.input for info in infos], [info.output for info in infos]
    scanned_in = [name for name in inputs if name not in taken]
    scanned_out = [name for name in outputs if name not in given]
    renamed = {name: _INSIDE + name for name in (*inputs, *outputs)}
    body = helper.make_graph(
        [_renamed(node, renamed) for node in graph.node],
        "step",
        [_value(inputs[name], renamed[name]) for name in (*taken, *scanned_in)],
        [_value(outputs[name], renamed[name]) for name in (*given, *scanned_out)],
    )
    scan = helper.make_node(
        "Scan", [*taken, *scanned_in], [*given, *scanned_out], name="over_time/Scan", body=body, num_scan_inputs=len(scanned_in)
    )
    whole = onnx.ModelProto()
    whole.CopyFrom(source)
    whole.graph.Clear()
    whole.graph.name = graph.name
    whole.graph.node.append(scan)
    whole.graph.initializer.extend(graph.initializer)
    whole.graph.input.extend(inputs[name] if name in taken else _with_time(inputs[name]) for name in inputs)
    whole.graph.output.extend(outputs[name] if name in given else _with_time(outputs[name]) for name in outputs)
    helper.set_model_props(whole, {**metadata, "sj2lava.step_mode": "m", "sj2lava.time_axis": "0"})
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    """A copy of ``node`` with other names for some values, in the graphs that it holds as well."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        for index, name in enumerate(values):
            values[index] = names.get(name, name)
    for attribute in copy.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            nodes = [_renamed(inner, names) for inner in graph.node]
            del graph.node[:]
            graph.node.extend(nodes)
            for output in graph.output:
                output.name = names.get(output.name, output.name)
    return copy


def _value(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy


def _with_time(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    time = onnx.TensorShapeProto.Dimension(dim_param="T")
    copy.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto(dim=[time, *value.type.tensor_type.shape.dim]))
    return copy
