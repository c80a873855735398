"""Cut a part out of a model: what stays on the host, before the first spikes or behind the last ones."""

from collections.abc import Iterator

import onnx
import onnx.checker
from onnx import TensorProto, helper

from ..errors import ConversionError
from ..network import INPUT, OUTPUT, Shape

__all__ = ["extracted"]


def extracted(
    model: onnx.ModelProto,
    source: str,
    target: str,
    source_shape: Shape,
    target_shape: Shape | None,
    *,
    graph_input: str | None = None,
) -> onnx.ModelProto:
    """The part of ``model`` that makes the value ``target`` of the value ``source``, as a model from ``input`` to ``output``.

    Args:
        model: the whole.
        source: name of the value that comes in.
        target: name of the value that goes out.
        source_shape: features of what comes in, ``[T, N, *source_shape]``.
        target_shape: features of what goes out; None where ``target`` is the output of ``model``, which says its shape itself.
        graph_input: the input of ``model``, if that is not ``source``. The part may ask it for T and N, which are those of
            ``source``, and for nothing else.

    Raises:
        ConversionError: the part needs more than ``source``.
    """
    producers = {name: node for node in model.graph.node for name in node.output if name}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: dict[int, onnx.NodeProto] = {}
    constants: dict[str, onnx.TensorProto] = {}
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name == source or not name or (name in producers and id(producers[name]) in nodes):
            continue
        if name in initializers:
            constants[name] = initializers[name]
        elif name not in producers:
            raise ConversionError(
                f"What follows the last spikes of {source!r} also reads {name!r}, which the host does not have: let the readout "
                "read the last spikes alone."
            )
        else:
            node = onnx.NodeProto()
            node.CopyFrom(producers[name])
            nodes[id(producers[name])] = node
            if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
                raise ConversionError(
                    f"The node {node.name!r} ({node.op_type}) has a graph inside, which cannot be cut out: export it inline."
                )
            if _asks_for_steps_and_samples(node, graph_input):
                node.input[0] = source
            waiting += node.input
    ordered = [nodes[id(node)] for node in model.graph.node if id(node) in nodes]
    _rename(ordered, constants, {source: INPUT, target: OUTPUT})
    output = (
        next(value for value in model.graph.output if value.name == target)
        if target_shape is None
        else _tensor(OUTPUT, target_shape)
    )
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.ClearField("graph")
    part.ClearField("functions")
    part.graph.CopyFrom(
        helper.make_graph(ordered, model.graph.name, [_tensor(INPUT, source_shape)], [output], list(constants.values()))
    )
    part.graph.output[0].name = OUTPUT
    used = {(node.domain, node.op_type) for node in ordered}
    part.functions.extend(function for function in model.functions if (function.domain, function.name) in used)
    try:
        onnx.checker.check_model(part)
    except onnx.checker.ValidationError as error:
        raise ConversionError(
            f"The part from {source!r} to {target!r} cannot be cut out ({' '.join(str(error).split())}): export the model again."
        ) from error
    return part


def _asks_for_steps_and_samples(node: onnx.NodeProto, graph_input: str | None) -> bool:
    if graph_input is None or node.op_type != "Shape" or node.domain or list(node.input) != [graph_input]:
        return False
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    return bool(ends.get("start", 0) >= 0 and 0 <= ends.get("end", 3) <= 2)


def _rename(nodes: list[onnx.NodeProto], constants: dict[str, onnx.TensorProto], names: dict[str, str]) -> None:
    """Give values new names, and what had those names before other ones."""
    taken = {name for node in nodes for name in (*node.input, *node.output)} | set(constants)
    for new in list(names.values()):
        if new in taken and new not in names:
            names[new] = next(name for name in _variants(new) if name not in taken)
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for name, tensor in list(constants.items()):
        if name in names:
            renamed = onnx.TensorProto()
            renamed.CopyFrom(tensor)
            renamed.name = names[name]
            constants[name] = renamed


def _variants(name: str) -> Iterator[str]:
    while True:
        name += "_"
        yield name


def _tensor(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", "N", *shape])
