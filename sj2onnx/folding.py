"""Compute while exporting what depends on parameters alone: weights that are quantised, normalised or standardised in forward."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

__all__ = ["add_constant", "fold_parameters", "is_in_place"]

aten: Any = torch.ops.aten
_ARRANGES = {
    aten.t.default,
    aten.transpose.int,
    aten.permute.default,
    aten.view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.expand.default,
    aten.detach.default,
    aten.clone.default,
    aten.alias.default,
    aten.to.dtype,
    aten.select.int,
    aten.slice.Tensor,
    aten.unbind.int,
    aten.split.Tensor,
    aten.chunk.default,
}
"""Operations that compute nothing: a graph may keep them."""
_GROWTH = 4
"""How many times larger than its parameters a result may be; a larger one is cheaper to compute than to store."""


def fold_parameters(program: ExportedProgram) -> None:
    """Replace what is computed from parameters and constants alone by its value, in place, as torch itself computes it.

    The value takes the name of the parameter that it is made of, where nothing else reads that.
    """
    graph, specs = program.graph, program.graph_signature.input_specs
    targets = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    values: dict[fx.Node, Any] = {}
    stored: dict[fx.Node, str] = {}
    for spec in specs:
        if spec.target is not None and spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            node = targets[spec.arg.name]
            tensor = program.state_dict.get(spec.target, program.constants.get(spec.target))
            if isinstance(tensor, torch.Tensor):
                values[node], stored[node] = tensor.detach(), spec.target
    sources: dict[fx.Node, set[fx.Node]] = {node: {node} for node in stored}
    computed: set[fx.Node] = set()
    with torch.no_grad():
        for node in graph.nodes:
            if node.op != "call_function" or not node.all_input_nodes or not all(arg in values for arg in node.all_input_nodes):
                continue
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) or is_in_place(node.target):
                continue
            sources[node] = set().union(*(sources[arg] for arg in node.all_input_nodes))
            values[node] = node.target(*_values(node.args, values), **_values(node.kwargs, values))
            if node.target not in _ARRANGES or any(arg in computed for arg in node.all_input_nodes):
                computed.add(node)
    changed = {node.args[0] for node in graph.nodes if node.op == "call_function" and is_in_place(node.target) and node.args}
    placed: list[tuple[fx.Node, fx.Node, torch.Tensor]] = []
    for node in list(_results(values, computed)):
        value = values[node]
        largest = max(sources[node], key=lambda source: values[source].numel())
        room = max(_GROWTH * sum(values[source].numel() for source in sources[node]), 1024)
        if value.numel() > room or node in changed:
            continue
        place = _place(program, largest, stored[largest], value)
        place.meta.update(val=node.meta["val"])
        node.replace_all_uses_with(place)
        placed.append((place, largest, value))
    graph.eliminate_dead_code()
    renamed: set[fx.Node] = set()
    for place, source, value in placed:
        if not source.users and source not in renamed and _is_parameter(program, source):
            _rename(program, place, source, stored[source], value)
            renamed.add(source)
    program.graph_module.recompile()


def _results(values: dict[fx.Node, Any], computed: set[fx.Node]) -> Iterator[fx.Node]:
    """What is computed and read by something that depends on the input."""
    for node in computed:
        if isinstance(values[node], torch.Tensor) and any(user not in values for user in node.users):
            yield node


def _place(program: ExportedProgram, source: fx.Node, name: str, value: torch.Tensor) -> fx.Node:
    """A placeholder for ``value`` behind ``source``, which is called ``name``."""
    specs = program.graph_signature.input_specs
    index = next(i for i, spec in enumerate(specs) if spec.arg.name == source.name)
    taken = {spec.target for spec in specs}
    name = next(f"{name}_{number}" for number in range(1, len(taken) + 2) if f"{name}_{number}" not in taken)
    with program.graph.inserting_after(source):
        place: fx.Node = program.graph.placeholder(f"folded_{name}".replace(".", "_"))  # a path may begin with a digit
    specs.insert(index + 1, InputSpec(InputKind.BUFFER, TensorArgument(place.name), name, persistent=True))
    program.state_dict[name] = _stored(value)
    return place


def add_constant(program: ExportedProgram, name: str, value: torch.Tensor, like: torch.Tensor) -> fx.Node:
    """A constant of the program.

    Args:
        program: takes it, in place.
        name: of the constant, made different from others.
        value: the constant itself.
        like: a value of the program, as its metadata hold it.
    """
    specs = program.graph_signature.input_specs
    index = next(i for i, spec in enumerate(specs) if spec.kind == InputKind.USER_INPUT)
    first = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == specs[index].arg.name)
    taken = {spec.target for spec in specs}
    name = next(each for number in range(len(taken) + 1) if (each := f"{name}_{number}" if number else name) not in taken)
    with program.graph.inserting_before(first):
        place: fx.Node = program.graph.placeholder(f"added_{name}")
    place.meta["val"] = like.new_empty(value.shape, dtype=value.dtype)
    specs.insert(index, InputSpec(InputKind.BUFFER, TensorArgument(place.name), name, persistent=True))
    program.state_dict[name] = value
    return place


def _rename(program: ExportedProgram, place: fx.Node, source: fx.Node, name: str, value: torch.Tensor) -> None:
    """Let ``source``, a parameter that nothing reads any more, stand for ``value`` in the stead of ``place``."""
    specs = program.graph_signature.input_specs
    source.meta.update(val=place.meta["val"])
    place.replace_all_uses_with(source)
    program.graph.erase_node(place)
    gone = next(spec for spec in specs if spec.arg.name == place.name)
    specs.remove(gone)
    assert gone.target is not None
    del program.state_dict[gone.target]
    program.state_dict[name] = _stored(value)


def _stored(value: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(value.contiguous(), requires_grad=False) if value.is_floating_point() else value.contiguous()


def _is_parameter(program: ExportedProgram, node: fx.Node) -> bool:
    specs = program.graph_signature.input_specs
    return any(spec.arg.name == node.name and spec.kind == InputKind.PARAMETER for spec in specs)


def is_in_place(target: Any) -> bool:
    """Whether what a node of a graph calls changes one of its arguments."""
    return bool(getattr(getattr(target, "_schema", None), "is_mutable", False))


def _values(args: Any, values: dict[fx.Node, Any]) -> Any:
    return fx.node.map_arg(args, lambda node: values[node])
