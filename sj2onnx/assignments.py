"""Assignments to parts of a tensor, ``y[..., :1] = v``, as a choice between two values.

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
        program: as torch traced it; unchanged.
    """
    scatters = (aten.slice_scatter.default, aten.select_scatter.default)
    if any(is_in_place(node.target) for node in program.graph.nodes):
        program = program.run_decompositions({})
    for node in [node for node in program.graph.nodes if node.target in scatters]:
        with program.graph.inserting_before(node):
            made = _chosen(program, node)
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
    given = _broadcast(value)
    own = given.meta["val"].shape
    if len(own) >= len(shape) - axis and own[axis - len(shape)] != 1:  # each its own
        places = torch.zeros(size, dtype=torch.int64)
        places[index] = torch.arange(len(index))
        table = add_constant(program, "places", places, node.meta["val"])
        given = _call(graph, aten.index_select.default, given, axis - len(shape), table)
    return _call(graph, aten.where.self, add_constant(program, "chosen", mask, node.meta["val"]), given, base)


def _broadcast(value: Any) -> Any:
    """The node that ``value``, a node, only repeats: ``y[:, :1] = v`` repeats v first."""
    while value.target in (aten.copy.default, aten.expand.default):
        value = value.args[value.target == aten.copy.default]
    return value


def _call(graph: fx.Graph, target: Any, *args: Any) -> fx.Node:
    made: fx.Node = graph.call_function(target, args)
    made.meta["val"] = target(*fx.node.map_arg(args, lambda node: node.meta["val"]))
    return made
