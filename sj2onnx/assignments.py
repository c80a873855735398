"""Assignments to parts of a tensor, ``y[..., :1] = v`` or ``y[y > 1] = 0``, as a choice between two values.

torch's exporter makes a ScatterND of them, with indices that it computes from T and N. A choice (Where) by a constant mask says
the same of any number of time steps and samples.
"""

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from .folding import add_constant, is_in_place

__all__ = ["without_assignments"]

aten: Any = torch.ops.aten


def without_assignments(program: ExportedProgram) -> ExportedProgram:
    """The same with choices in the place of assignments to parts of axes whose sizes are known.

    Args:
        program: as torch traced it; changed in place where nothing in it is in place itself.
    """
    scatters = (aten.slice_scatter.default, aten.select_scatter.default, aten.index_put.default)
    if any(is_in_place(node.target) for node in program.graph.nodes):
        program = program.run_decompositions({})
    for node in [node for node in program.graph.nodes if node.target in scatters]:
        with program.graph.inserting_before(node):
            made = (_one_number if node.target == aten.index_put.default else _chosen)(program, node)
        if made is not None:
            made.meta.setdefault("nn_module_stack", node.meta.get("nn_module_stack", {}))
            node.replace_all_uses_with(made)
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _chosen(program: ExportedProgram, node: fx.Node) -> fx.Node | None:
    """What says the same as ``node``; None where that depends on how many time steps or samples there are."""
    args: tuple[Any, ...] = node.args
    base, value, axis, *cut = args + (0, None, None, 1)[len(args) - 2 :]
    shape = node.meta["val"].shape
    axis = int(axis) % len(shape)
    begin, end, step = cut if node.target == aten.slice_scatter.default else (cut[0], None, None)
    if begin in (0, None) and step == 1 and (end is None or (isinstance(end, int) and end >= 2**62)):
        return value if value.meta["val"].shape == shape else None
    if not all(isinstance(each, int | None) for each in (shape[axis], begin, end)):
        return None
    size, graph = shape[axis], program.graph
    if step is None:  # one element, whose axis the value does not have
        value, begin, step = _broadcast(value), begin % size, 1
        end = begin + 1
        behind = len(shape) - 1 - axis
        if (rank := value.meta["val"].dim()) > behind:
            value = _call(graph, aten.unsqueeze.default, value, rank - behind)
    index = list(range(size)[slice(begin, end, step)])
    mask = torch.zeros(size, dtype=torch.bool)
    mask[index] = True
    mask = mask.reshape(-1, *[1] * (len(shape) - 1 - axis))
    given = _as_type(graph, _broadcast(value), node)
    own = given.meta["val"].shape
    if len(own) >= len(shape) - axis and own[axis - len(shape)] != 1:  # each its own
        places = torch.zeros(size, dtype=torch.int64)
        places[index] = torch.arange(len(index))
        table = add_constant(program, "places", places, node.meta["val"])
        given = _call(graph, aten.index_select.default, given, axis - len(shape), table)
    return _call(graph, aten.where.self, add_constant(program, "chosen", mask, node.meta["val"]), given, base)


def _one_number(program: ExportedProgram, node: fx.Node) -> fx.Node | None:
    """Likewise for one number at the places of a mask, or of a list along one axis."""
    args: tuple[Any, ...] = node.args
    base, indices, value, *accumulate = args
    found = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(found) != 1 or any(accumulate) or value.meta["val"].numel() != 1:
        return None
    ((axis, index),) = found
    shape, graph = node.meta["val"].shape, program.graph
    if index.meta["val"].dtype == torch.bool:
        behind = len(shape) - axis - index.meta["val"].dim()
    else:
        places = _constant(program, index)
        if places is None or places.dim() != 1 or not isinstance(shape[axis], int):
            return None
        mask = torch.zeros(shape[axis], dtype=torch.bool)
        mask[places] = True
        behind = len(shape) - 1 - axis
        index = add_constant(program, "chosen", mask, node.meta["val"])
    for _ in range(behind):
        index = _call(graph, aten.unsqueeze.default, index, -1)
    number = _as_type(graph, _call(graph, aten.reshape.default, value, []), node)
    return _call(graph, aten.where.self, index, number, base)


def _constant(program: ExportedProgram, node: fx.Node) -> torch.Tensor | None:
    """The numbers of a list that stands in the code."""
    found = _broadcast(node)
    while found.target in (aten.lift_fresh_copy.default, aten.clone.default, aten.detach.default, aten.alias.default):
        found = found.args[0]
    name = program.graph_signature.inputs_to_lifted_tensor_constants.get(found.name)
    return None if name is None else program.constants[name]


def _as_type(graph: fx.Graph, value: fx.Node, node: fx.Node) -> fx.Node:
    """``value`` in the type of ``node``: an assignment changes the value's, a choice the result's."""
    wanted = node.meta["val"].dtype
    return value if value.meta["val"].dtype == wanted else _call(graph, aten._to_copy.default, value, dtype=wanted)


def _broadcast(value: Any) -> Any:
    """The node that ``value``, a node, only repeats: ``y[:, :1] = v`` repeats v first."""
    while value.target in (aten.copy.default, aten.expand.default):
        value = value.args[value.target == aten.copy.default]
    return value


def _call(graph: fx.Graph, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    made: fx.Node = graph.call_function(target, args, kwargs)
    made.meta["val"] = target(*fx.node.map_arg(args, lambda node: node.meta["val"]), **kwargs)
    return made
