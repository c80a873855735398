"""Loops over time that Python unrolled, rolled up again: all steps at once, so that each neuron is one node.

A loop ``for t in range(T): out.append(neuron(layer(x[t])))`` is traced as T copies of its body, which a neuron's states hold
together. Where the copies are alike, what they do to one step each is done to all steps: a stateless operation takes a leading
axis of time, and the T calls of a neuron are one call over T steps, which is what its operator is.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.onnx.ops  # registers the operator below
from torch import fx
from torch.export import ExportedProgram

__all__ = ["NotRegularError", "roll"]

aten: Any = torch.ops.aten
_NEURON: Any = torch.ops.onnx_symbolic._symbolic_multi_out.default
_Values: TypeAlias = tuple[Any, ...]


class NotRegularError(Exception):
    """The steps of a loop are not alike, so that it stays as it is."""


def roll(program: ExportedProgram) -> fx.GraphModule:
    """``program`` with its loops over time rolled up.

    Args:
        program: a network as torch traced it, for one number of time steps, without operations that change a tensor in place.

    Returns:
        A module that takes the same input; it does not say any more how many steps the loops have where the input tells.

    Raises:
        NotRegularError: there is no loop, or its steps are not alike.
    """
    module: Any = program.module(check_guards=False)
    old: fx.Graph = module.graph
    for node in list(old.nodes):
        if (same := _same_as(node)) is not None:
            node.replace_all_uses_with(same)
    for node in reversed(list(old.nodes)):
        if not node.users and node.op not in ("output", "placeholder") and not node.is_impure():
            old.erase_node(node)
    rolled = fx.GraphModule(module, _Roller(old).new, type(module).__name__)
    rolled.graph.eliminate_dead_code()
    rolled.recompile()
    return rolled


def _same_as(node: fx.Node) -> fx.Node | None:
    """The value that ``node`` takes all of, as ``x[:, t]`` does first, adds the zero to that a sum began with, or copies."""
    if node.kwargs or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    first = node.args[0]
    if node.target == aten.slice.Tensor:
        given: list[Any] = list(node.args[2:])
        usual: list[Any] = [None, None, 1]
        start, end, step = given + usual[len(given) :]
        whole = start in (0, None) and (end is None or (isinstance(end, int) and end >= 2**62)) and step == 1
        return first if whole else None
    if node.target == aten.add.Tensor and isinstance(node.args[1], int | float) and node.args[1] == 0:
        return first if _is_alike(first, node) else None
    if node.target == aten.copy.default and isinstance(node.args[1], fx.Node):
        return node.args[1] if _is_alike(node.args[1], node) else None
    return None


def _is_alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether both are tensors of one shape and type."""
    a, b = one.meta.get("val"), other.meta.get("val")
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape


class _AlwaysTheSame(Exception):  # noqa: N818
    """Every step computes the same from what does not change with time: one of them stands for all."""


class _Chain:
    """The calls of one neuron, one for each time step."""

    def __init__(self, nodes: Sequence[fx.Node]) -> None:
        self.nodes = nodes
        self.parts: list[dict[int, fx.Node]] = [
            {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]
            for node in nodes
        ]
        self.fixed = next((i for i, value in enumerate(_inputs(nodes[1])) if self._is_state(value, 0)), len(_inputs(nodes[1])))
        for step in range(1, len(nodes)):
            given = _inputs(nodes[step])[self.fixed :]
            if not given or not all(self._is_state(value, step - 1) for value in given):
                raise NotRegularError("a neuron does not go on from the step before")

    def _is_state(self, value: Any, step: int) -> bool:
        return value is not None and any(value is part for index, part in self.parts[step].items() if index > 0)


class _Roller:
    """Writes the graph ``new``, in which loops are rolled up, from ``old``."""

    def __init__(self, old: fx.Graph) -> None:
        self.new = fx.Graph()
        self._copies: dict[fx.Node, Any] = {}
        self._rolled: dict[_Values, fx.Node] = {}
        self._member: dict[fx.Node, tuple[_Values, int]] = {}
        self._open: set[_Values] = set()
        calls: dict[str, list[fx.Node]] = {}
        for node in old.nodes:
            if node.target is _NEURON:
                calls.setdefault(str(node.kwargs["metadata_props_values"]), []).append(node)
        self._chains = {nodes[0]: _Chain(nodes) for nodes in calls.values() if len(nodes) > 1}
        if not self._chains:
            raise NotRegularError("there is no loop")
        self._of = {node: (chain, step) for chain in self._chains.values() for step, node in enumerate(chain.nodes)}
        self._calls: dict[_Chain, fx.Node] = {}
        for node in old.nodes:
            if node.op == "placeholder":
                self._copies[node] = self.new.node_copy(node)
        for chain in self._chains.values():
            self._call(chain)
        (output,) = [node for node in old.nodes if node.op == "output"]
        self.new.node_copy(output, self._copied)

    # What one step does, for all of them.

    def _all_steps(self, values: _Values) -> tuple[Any, bool]:
        """``values``, one for each step, as one value; and whether that has a leading axis of time."""
        first = values[0]
        if all(value is first or (not isinstance(first, fx.Node) and value == first) for value in values):
            return (self._copied(first) if isinstance(first, fx.Node) else first), False
        if isinstance(first, list | tuple):
            pairs = [self._all_steps(tuple(part)) for part in zip(*values, strict=True)]
            if any(timed for _, timed in pairs):
                raise NotRegularError("a list of values of each step")
            return [value for value, _ in pairs], False
        if not all(isinstance(value, fx.Node) for value in values):
            raise NotRegularError("numbers that differ from step to step")
        if values in self._rolled:
            return self._rolled[values], True
        if values in self._open:
            raise NotRegularError("a step that depends on the one before")
        self._open.add(values)
        try:
            made = self._made(values)
        except _AlwaysTheSame:
            return self._copied(first), False
        finally:
            self._open.discard(values)
        made.meta.setdefault("nn_module_stack", first.meta.get("nn_module_stack"))
        if made.meta["nn_module_stack"] is None:
            del made.meta["nn_module_stack"]
        self._rolled[values] = made
        self._member.update({value: (values, step) for step, value in enumerate(values)})
        return made, True

    def _made(self, values: _Values) -> fx.Node:
        first = values[0]
        if any(value.op != "call_function" or value.target != first.target for value in values):
            raise NotRegularError("steps that do different things")
        if all(value.args == first.args and value.kwargs == first.kwargs for value in values):
            raise _AlwaysTheSame
        if first.target is operator.getitem and first.args[0] in self._of:
            return self._of_neuron(values)
        if first.target == aten.select.int:
            return self._selected(values)
        if first.target is operator.getitem and first.args[0].target in (aten.unbind.int, aten.split.Tensor):
            return self._unbound(values)
        if first.target is operator.getitem:
            raise NotRegularError("one of several results")
        if first.target == aten.squeeze.dim and first.args[1] == 0 and self._is_spikes(first.args[0]):
            return self._all_steps(self._spikes(values))[0].args[0]  # type: ignore[no-any-return]
        if first.target == aten.squeeze.dim and first.args[1] == 0 and first.args[0].target == aten.unsqueeze.default:
            return self._all_steps(tuple(value.args[0].args[0] for value in values))[0]  # type: ignore[no-any-return]
        count = len(first.args)
        if any(len(value.args) != count or value.kwargs.keys() != first.kwargs.keys() for value in values):
            raise NotRegularError("steps that do different things")
        parts = [self._all_steps(tuple(value.args[i] for value in values)) for i in range(count)]
        named = {key: self._all_steps(tuple(value.kwargs[key] for value in values)) for key in first.kwargs}
        if any(timed for _, timed in named.values()):
            raise NotRegularError("a named argument of each step")
        if not any(timed for _, timed in parts):
            raise _AlwaysTheSame
        arguments = tuple(value for value, _ in parts)
        times = tuple(timed for _, timed in parts)
        ranks = tuple(_rank(value) for value in first.args)
        return self.new.call_function(
            _at_all_steps, (first.target, times, ranks, arguments, {key: value for key, (value, _) in named.items()})
        )

    def _is_spikes(self, node: fx.Node) -> bool:
        return node.target is operator.getitem and node.args[0] in self._of and node.args[1:] == (0,)

    def _spikes(self, values: _Values) -> _Values:
        return tuple(value.args[0] for value in values)

    def _of_neuron(self, values: _Values) -> fx.Node:
        """The spikes of a neuron, ``[T, 1, N, *]``."""
        chain, _ = self._of[values[0].args[0]]
        if [value.args[0] for value in values] != list(chain.nodes) or any(value.args[1] != 0 for value in values):
            raise NotRegularError("states of each step")
        return self.new.call_function(torch.unsqueeze, (self._part(chain, 0), 1))

    def _selected(self, values: _Values) -> fx.Node:
        source, axis, start = values[0].args[0], values[0].args[1], values[0].args[2]
        if any(value.args != (source, axis, start + step) for step, value in enumerate(values)):
            raise NotRegularError("steps in another order")
        return self._steps_of(source, axis, start, len(values))

    def _unbound(self, values: _Values) -> fx.Node:
        whole = values[0].args[0]
        if any(value.args != (whole, step) for step, value in enumerate(values)):
            raise NotRegularError("steps in another order")
        axis = (whole.args[1:] or (whole.kwargs.get("dim", 0),))[-1]
        if whole.target == aten.split.Tensor:
            if whole.args[1] != 1:
                raise NotRegularError("pieces of several steps")
            axis = whole.args[2] if len(whole.args) > 2 else 0
            steps = self._steps_of(whole.args[0], axis, 0, len(values))
            return self.new.call_function(torch.unsqueeze, (steps, axis + 1 if axis >= 0 else axis))
        return self._steps_of(whole.args[0], axis, 0, len(values))

    def _steps_of(self, source: fx.Node, axis: int, start: int, count: int) -> fx.Node:
        steps = self._copied(source)
        if axis != 0:
            steps = self.new.call_function(torch.movedim, (steps, axis, 0))
        size = source.meta["val"].shape[axis]
        if start != 0 or size != count:
            steps = self.new.call_function(torch.narrow, (steps, 0, start, count))
        # A node of its own, so that what is known of it is known of this one alone.
        return self.new.call_function(_itself, (steps,))

    # Neurons.

    def _call(self, chain: _Chain) -> fx.Node:
        if chain in self._calls:
            return self._calls[chain]
        first = chain.nodes[0]
        x = [_inputs(node)[0] for node in chain.nodes]
        if all(value.target == aten.unsqueeze.default and value.args[1] == 0 for value in x):
            steps, timed = self._all_steps(tuple(value.args[0] for value in x))
            if not timed:
                steps = self.new.call_function(_repeated, (steps, len(x)))
        else:
            steps, timed = self._all_steps(tuple(x))
            steps = (
                self.new.call_function(torch.squeeze, (steps, 1)) if timed else self.new.call_function(_again, (steps, len(x)))
            )
        rest = []
        for index in range(1, chain.fixed):
            value, timed = self._all_steps(tuple(_inputs(node)[index] for node in chain.nodes))
            if timed:
                raise NotRegularError("parameters of each step")
            rest.append(value)
        rest += [self._copied(value) for value in _inputs(first)[chain.fixed :]]
        kwargs = {key: value for key, value in first.kwargs.items() if key != "shapes"}
        shapes = [[self._copied(size) for size in shape] for shape in first.kwargs["shapes"]]  # type: ignore[union-attr]
        made = self.new.call_function(_neuron, (steps, rest, first.args[1:], shapes, kwargs))
        made.meta["nn_module_stack"] = first.meta.get("nn_module_stack", {})
        self._calls[chain] = made
        return made

    def _part(self, chain: _Chain, index: int) -> fx.Node:
        return self.new.call_function(operator.getitem, (self._call(chain), index))

    # The rest of the graph, as it is.

    def _copied(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(self._copied(part) for part in value)
        if not isinstance(value, fx.Node):
            return value
        if value not in self._copies:
            self._copies[value] = self._copy(value)
        return self._copies[value]

    def _copy(self, node: fx.Node) -> Any:
        for attempt in (self._joined, self._summed, self._filled):
            try:
                if (found := attempt(node)) is not None:
                    found.meta.setdefault("nn_module_stack", node.meta.get("nn_module_stack", {}))
                    return found
            except NotRegularError:
                pass
        if node.target is operator.getitem and node.args[0] in self._of:
            chain, step = self._of[node.args[0]]  # type: ignore[index]
            if node.args[1] == 0:
                return self.new.call_function(_one_step, (self._part(chain, 0), step, len(chain.nodes), True))
            if step == len(chain.nodes) - 1:
                return self._part(chain, node.args[1])  # type: ignore[arg-type]
            raise NotRegularError("states of each step")
        if node in self._member:
            values, step = self._member[node]
            return self.new.call_function(_one_step, (self._rolled[values], step, len(values), False))
        if node.target == aten.div.Tensor and isinstance(node.args[1], int | float):
            for chain in self._chains.values():
                if node.args[1] == len(chain.nodes):  # a mean over time
                    count = self.new.call_function(_count, (self._part(chain, 0),))
                    return self.new.call_function(torch.div, (self._copied(node.args[0]), count))
        return self.new.node_copy(node, self._copied)

    def _joined(self, node: fx.Node) -> fx.Node | None:
        """``stack`` or ``cat`` of what all steps gave."""
        if node.target not in (aten.stack.default, aten.cat.default):
            return None
        values = tuple(node.args[0])  # type: ignore[arg-type]
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if len(values) < 2 or not self._is_loop(values):
            return None
        steps, timed = self._all_steps(values)
        if not timed:
            return None
        if node.target == aten.stack.default:
            return self.new.call_function(torch.movedim, (steps, 0, axis))
        return self.new.call_function(torch.flatten, (steps, 0, 1)) if axis == 0 else None

    def _summed(self, node: fx.Node) -> fx.Node | None:
        """A sum to which each step adds."""
        terms: list[fx.Node] = []
        start: Any = node
        while isinstance(start, fx.Node) and start.target == aten.add.Tensor and not start.kwargs:
            if terms and len(start.users) != 1:
                break
            terms.insert(0, start.args[1])  # type: ignore[arg-type]
            start = start.args[0]
        lengths = {len(chain.nodes) for chain in self._chains.values()}
        first_too = len(terms) + 1 in lengths and isinstance(start, fx.Node) and self._is_loop((start, *terms))
        if first_too:
            terms, start = [start, *terms], None
        if len(terms) not in lengths or not self._is_loop(tuple(terms)):
            return None
        steps, timed = self._all_steps(tuple(terms))
        if not timed:
            return None
        total = self.new.call_function(_total, (steps,))
        return total if start is None else self.new.call_function(torch.add, (self._copied(start), total))

    def _filled(self, node: fx.Node) -> fx.Node | None:
        """A tensor of which each step fills its own entry, in any order."""
        if node.target != aten.select_scatter.default:
            return None
        axis = node.args[2]
        entries: dict[Any, Any] = {}
        start: Any = node
        while isinstance(start, fx.Node) and start.target == aten.select_scatter.default and start.args[2] == axis:
            entries.setdefault(start.args[3], start.args[1])
            start = start.args[0]
        values = tuple(entries.get(step) for step in range(len(entries)))
        if len(values) != node.meta["val"].shape[axis] or not self._is_loop(values):
            return None
        steps, timed = self._all_steps(values)
        return self.new.call_function(torch.movedim, (steps, 0, axis)) if timed else None

    def _is_loop(self, values: _Values) -> bool:
        """Whether these could be the results of all steps of a loop."""
        lengths = {len(chain.nodes) for chain in self._chains.values()}
        return len(values) in lengths and all(isinstance(value, fx.Node) and value.target == values[0].target for value in values)


def _inputs(node: fx.Node) -> list[Any]:
    return list(node.args[0])  # type: ignore[arg-type]


def _rank(value: Any) -> int:
    return value.meta["val"].dim() if isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor) else -1


# What the rolled graph calls.


def _neuron(x: torch.Tensor, rest: list[Any], head: Any, shapes: list[list[Any]], kwargs: dict[str, Any]) -> Any:
    """A neuron over all steps ``[T, N, *]``."""
    over_time = [[*x.shape[:2], *shapes[0][2:]], *shapes[1:]]
    return _NEURON([x, *rest], *head, shapes=over_time, **kwargs)


def _repeated(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The same input ``[N, *]`` at each step."""
    return x.unsqueeze(0).expand(steps, *[-1] * x.dim())


def _again(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The same input ``[1, N, *]`` at each step."""
    return x.expand(steps, *[-1] * (x.dim() - 1))


def _itself(x: torch.Tensor) -> torch.Tensor:
    return x


def _count(steps: torch.Tensor) -> int:
    return steps.shape[0]


def _total(steps: torch.Tensor) -> torch.Tensor:
    return steps.sum(0)


def _one_step(steps: torch.Tensor, step: int, count: int, keep: bool) -> torch.Tensor:
    """One of the steps, the last one counted from the end."""
    index = -1 if step == count - 1 else step
    y = steps.select(0, index)
    return y.unsqueeze(0) if keep else y


_FOLDED = {
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.batch_norm.default,
    aten.group_norm.default,
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.upsample_nearest2d.vec,
}
"""Operations that take samples first: time is folded into them."""
_SAME = {
    aten.linear.default,
    aten.dropout.default,
    aten.clone.default,
    aten.detach.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.to.dtype,
}
"""Operations that take any number of leading axes."""
_SHAPED = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}
_ON_AXES = {
    aten.flatten.using_ints,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.select.int,
    aten.slice.Tensor,
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.softmax.int,
    aten.permute.default,
}
"""Operations that name axes, by numbers or by lists of them."""


def _at_all_steps(
    target: Callable[..., Any], times: tuple[bool, ...], ranks: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``target`` at each step, where the arguments that ``times`` marks have a leading axis of time."""
    x = args[0]
    alone = times[0] and not any(times[1:])
    if alone and target in _FOLDED:
        return target(x.flatten(0, 1), *args[1:], **kwargs).unflatten(0, x.shape[:2])
    if alone and target in _SAME:
        return target(*args, **kwargs)
    if alone and target in _SHAPED:
        return x.reshape(x.shape[0], *args[1])
    if alone and target in _ON_AXES:
        return _on_axes(target, x, args[1:], kwargs)
    tags = getattr(target, "tags", ())
    if torch.Tag.pointwise in tags and target._schema.name[-1] != "_":  # type: ignore[attr-defined]
        rank = max(ranks)
        aligned = [
            value.reshape(value.shape[0], *[1] * (rank - own), *value.shape[1:]) if timed and own < rank else value
            for value, timed, own in zip(args, times, ranks, strict=True)
        ]
        return target(*aligned, **kwargs)
    return torch.vmap(lambda *given: target(*given, **kwargs), tuple(0 if timed else None for timed in times))(*args)


def _on_axes(target: Any, x: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def later(axis: int) -> int:
        return axis + 1 if axis >= 0 else axis

    if target is aten.permute.default:
        return x.permute(0, *[later(axis % (x.dim() - 1)) for axis in args[0]])
    if target is aten.flatten.using_ints:
        start, end = [*args, *(0, -1)[len(args) :]]  # type: ignore[misc]
        return x.flatten(later(start), later(end))
    if target is aten.transpose.int:
        return x.transpose(later(args[0]), later(args[1]))
    if not args:
        raise NotRegularError("an operation on all axes")
    first = [later(axis) for axis in args[0]] if isinstance(args[0], list | tuple) else later(args[0])
    return target(x, first, *args[1:], **kwargs)
