"""Modules of people's own that loop over time in Python, neurons mostly, as modules of one step.

``for t in range(T): v = v * decay + x[t]; s = (v > 1).float(); v = v * (1 - s)`` is traced as T copies of its body. What one copy
does is found in the trace: whatever depends on ``x[t]`` and on no later step is made in step t, and what a step reads of the step
before is a state. A loop with states becomes a module with memories, whose single step is exported as those of SpikingJelly are;
one without becomes that step on all time steps at once. Both are only taken where they give the very numbers of the loop.
"""

import dis
import inspect
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import fx, nn

from .preparing import as_it_was
from .torch_export import quiet

__all__ = ["OverTime", "replace_own_loops"]

aten: Any = torch.ops.aten
_KNOWN = ("torch", "torchvision", "spikingjelly", "sj2onnx")
_SAME = (
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.lift_fresh_copy.default,
)
_SAME_IF_ALIKE = (aten._to_copy.default, aten.to.dtype, aten.slice.Tensor, aten.expand.default)
"""Operations that give what they take, where its shape and type stay."""
_SIZES_ONLY = (
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
)
"""Operations that ask their input for its shape alone."""


class _NoLoopError(Exception):
    """The module is something else."""


class _OwnNeuron(MemoryModule):  # type: ignore[misc]
    """A loop's step, with memories that start from zero.

    Args:
        step: from ``x[t]`` and the states to the result and the next states.
        shapes: of the states, for one sample.
    """

    def __init__(self, step: fx.GraphModule, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.step, self.shapes = step, shapes
        for at in range(len(shapes)):
            self.register_memory(f"state_{at}", 0.0)
        self.step_mode = "m"

    def materialize_states(self, inputs: tuple[Any, ...], states: tuple[Any, ...], step_mode: str) -> tuple[Any, ...]:
        """The states as tensors ``[N, *]``."""
        x = inputs[0] if step_mode == "s" else inputs[0][0]
        return tuple(
            x.new_zeros(x.shape[0], *shape) if isinstance(state, float) else state
            for state, shape in zip(states, self.shapes, strict=True)
        )

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[Any, ...], **_: Any
    ) -> tuple[tuple[torch.Tensor, ...], tuple[Any, ...]]:
        """One time step ``[N, *]``."""
        y, *after = self.step(inputs[0], *self.materialize_states(inputs, states, "s"))
        return (y,), tuple(after)


class OverTime(nn.Module):
    """What stands in the place of a loop.

    Args:
        axis: of time in the input.
        made: of time in the result.

    Attributes:
        only_steps: the number of time steps for which the loop was written; None where it takes any.
    """

    only_steps: int | None = None

    def __init__(self, step: nn.Module, axis: int, made: int) -> None:
        super().__init__()
        self.step, self.axis, self.made = step, axis, made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All time steps; what is called ``[T, N, *]`` elsewhere may have the samples first."""
        y = self.over_time(x.movedim(self.axis, 0) if self.axis else x)
        return y.movedim(0, self.made) if self.made else y

    def over_time(self, x: torch.Tensor) -> torch.Tensor:
        """Of ``[T, N, *]``: a module with states goes through them, one without takes time steps for samples."""
        if isinstance(self.step, MemoryModule):
            return self.step(x)  # type: ignore[no-any-return]
        (y,) = self.step(x.flatten(0, 1))
        return y.unflatten(0, x.shape[:2])  # type: ignore[no-any-return]


def replace_own_loops(net: nn.Module, example: torch.Tensor) -> None:
    """Put modules of one step in the places of those that loop over time; changed in place.

    Args:
        net: a copy of the network, in evaluation mode.
        example: an input that it takes.
    """
    found = {path: module for path, module in net.named_modules() if path and _may_loop(module)}
    found = {path: module for path, module in found.items() if not any(other.startswith(f"{path}.") for other in found)}
    if not found:
        return
    calls: dict[str, list[torch.Tensor | None]] = {path: [] for path in found}
    hooks = [module.register_forward_hook(_keep(calls[path])) for path, module in found.items()]
    try:
        with as_it_was(net), torch.no_grad():
            net(example.clone())
    except Exception:  # whatever the network's own code raises is said where it is run next
        return
    finally:
        functional.reset_net(net)
        for hook in hooks:
            hook.remove()
    for path, module in found.items():
        given = calls[path][0] if len(calls[path]) == 1 else None
        if given is not None:
            try:
                with quiet(), torch.no_grad():
                    made = _without_loop(module, given)
            except Exception:  # it is no such loop, and stays what it is
                continue
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, made)


def _may_loop(module: nn.Module) -> bool:
    """Whether its class is nobody's library, and one of its methods has a loop."""
    kind = type(module)
    if _is_known(kind) or any(isinstance(part, MemoryModule) for part in module.modules()):
        return False
    methods = [
        method for each in kind.__mro__ if not _is_known(each) for name, method in vars(each).items() if name != "__init__"
    ]
    return any(_has_loop(inspect.unwrap(method).__code__) for method in methods if inspect.isfunction(method))


def _is_known(kind: type) -> bool:
    return kind is object or kind.__module__.split(".")[0] in _KNOWN


def _has_loop(code: CodeType) -> bool:
    """Whether it jumps back, as ``for`` and ``while`` do; the source of what a program was given as text is nowhere."""
    jumps = any(each.opname == "FOR_ITER" or "JUMP_BACKWARD" in each.opname for each in dis.get_instructions(code))
    return jumps or any(_has_loop(each) for each in code.co_consts if isinstance(each, CodeType))


def _keep(calls: list[torch.Tensor | None]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        alone = len(inputs) == 1 and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor)
        calls.append(inputs[0].detach().clone() if alone else None)

    return hook


def _without_loop(module: nn.Module, x: torch.Tensor) -> OverTime:
    """A module that gives the same without a loop.

    Raises:
        Exception: there is none; it differs, or the trace is of another kind.
    """
    loop = _Loop(module, x)
    step: nn.Module
    step, states = loop.step()
    if states:
        # Of a class that is called like the module's, after which its function in the file is named.
        kind = type(type(module).__name__, (_OwnNeuron,), {"__module__": __name__})
        step = kind(step, [shape[1:] for shape in states])
    made = OverTime(step, loop.axis, loop.given_at)
    made.eval()
    generator = torch.Generator().manual_seed(0)
    others = [x]
    for samples, size in ((2, 1.0), (3, 8.0)):  # of numbers like the example's, and so large that what rarely happens does
        noise = torch.rand(_resized(x, int(loop.axis == 0), samples).shape, generator=generator) * 3 - 1
        others.append(noise * size * max(1.0, float(x.abs().max())))
    if not all(_agree(made, module, given) for given in others):
        raise _NoLoopError
    if not all(_agree(made, module, _resized(x, loop.axis, loop.steps + more)) for more in (-1, 1)):
        made.only_steps = loop.steps
    return made


def _agree(made: OverTime, module: nn.Module, x: torch.Tensor) -> bool:
    """Whether both give the same: of neurons the very numbers, of other layers up to the order in which sums are added up."""
    functional.reset_net(made)
    try:
        own, theirs = made(x), module(x)
        if isinstance(made.step, MemoryModule):
            return torch.equal(own, theirs)
        return own.shape == theirs.shape and torch.allclose(own, theirs, rtol=1e-4, atol=1e-5)
    except Exception:  # whatever the module's own code raises, for a number of steps that it does not take
        return False
    finally:
        functional.reset_net(made)


def _resized(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    return x.index_select(axis, torch.arange(size) % x.shape[axis])


class _Loop:
    """A trace of a module that loops over one axis of its input."""

    def __init__(self, module: nn.Module, x: torch.Tensor) -> None:
        program = torch.export.export(module, (x,), strict=False).run_decompositions({})
        self.program = program.module(check_guards=False)
        self.graph = self.program.graph
        (self.x,) = [node for node in self.graph.nodes if node.op == "placeholder"]
        self._levels: dict[fx.Node, int] = {}
        self._follow_copies()
        self.axis, self.steps = self._axis(x)
        (output,) = next(node for node in self.graph.nodes if node.op == "output").args[0]
        self.made, self.given_at = self._results(self._same(output))
        for node in self.graph.nodes:
            self._levels[node] = self._level(node)

    def _follow_copies(self) -> None:
        for node in self.graph.nodes:
            same = self._same(node)
            if same is not node:
                node.replace_all_uses_with(same)

    def _same(self, node: Any) -> Any:
        """The node that ``node`` takes as it is: a copy, all of it, or an entry that was assigned before."""
        while True:
            if node.target in _SAME:
                node = node.args[0]
            elif node.target == aten.copy.default and _alike(node, node.args[1]):
                node = node.args[1]
            elif node.target in _SAME_IF_ALIKE and _alike(node, node.args[0]):
                node = node.args[0]
            elif node.target == aten.select.int and node.args[0].target == aten.select_scatter.default:
                whole, axis, index = node.args
                base, value, at, place = whole.args
                if axis != at:
                    return node
                if index == place:
                    node = value
                else:
                    with self.graph.inserting_before(node):
                        other = self.graph.call_function(aten.select.int, (base, axis, index))
                    other.meta["val"] = node.meta["val"]
                    node = other
            else:
                return node

    def _axis(self, x: torch.Tensor) -> tuple[int, int]:
        uses: list[Any] = list(self.x.users)
        taken = [use.args[1] for use in uses if use.target == aten.select.int]
        taken += [use.args[1] if len(use.args) > 1 else 0 for use in uses if use.target == aten.unbind.int]
        axes = {axis % x.dim() for axis in taken}
        if len(axes) != 1:
            raise _NoLoopError
        (axis,) = axes
        if x.shape[axis] < 3:
            raise _NoLoopError
        return axis, x.shape[axis]

    def _results(self, output: Any) -> tuple[list[fx.Node], int]:
        """What each step gives, and the axis on which the steps are joined."""
        if output.target in (aten.stack.default, aten.cat.default):
            parts = list(output.args[0])
            axis = int(output.args[1] if len(output.args) > 1 else 0)
            if output.target == aten.cat.default:
                if any(part.target != aten.unsqueeze.default or part.args[1] != axis for part in parts):
                    raise _NoLoopError
                parts = [part.args[0] for part in parts]
        else:
            entries: dict[Any, fx.Node] = {}
            axes = set()
            while output.target == aten.select_scatter.default:
                output, value, at, place = output.args
                axes.add(at)
                entries.setdefault(place, value)
                output = self._same(output)
            (axis,) = axes
            parts = [entries[step] for step in range(len(entries))]
        parts = [self._same(part) for part in parts]
        if len(parts) != self.steps:
            raise _NoLoopError
        return parts, axis

    def _level(self, node: Any) -> int:
        """The last step on which it depends; -1 for constants."""
        if node.op != "call_function" or node.target in _SIZES_ONLY:
            return self.steps if node is self.x else -1
        if node.args and node.args[0] is self.x and node.target == aten.select.int:
            return int(node.args[2]) % self.steps
        if node.args and isinstance(node.args[0], fx.Node) and node.args[0].target == aten.unbind.int:
            return int(node.args[1])
        return max((self._levels[each] for each in node.all_input_nodes), default=-1)

    def step(self) -> tuple[fx.GraphModule, list[tuple[int, ...]]]:
        """One step, from ``x[t]`` and the states to the result and the next states; and the shapes of the states."""
        last = self.steps - 1
        pairs: dict[fx.Node, fx.Node] = {}
        self._pair(self.made[last], self.made[last - 1], last, pairs, set())
        self._check_earlier_steps(list(pairs), list(pairs.values()))
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        x = graph.placeholder("x")
        before = {node: graph.placeholder(f"state_{at}") for at, node in enumerate(pairs.values())}

        def copied(node: fx.Node) -> fx.Node:
            if node in before:
                return before[node]
            if node not in copies:
                level = self._levels[node]
                if level == last - 1 and (
                    node.args[0] is self.x or (isinstance(node.args[0], fx.Node) and node.args[0].target == aten.unbind.int)
                ):
                    copies[node] = x
                elif level in (-1, last - 1) or (level == last - 2 and self._alone(node) is not None):
                    copies[node] = graph.node_copy(node, copied)
                else:
                    raise _NoLoopError
            return copies[node]

        graph.output((copied(self.made[last - 1]), *(copied(node) for node in pairs)))
        module = fx.GraphModule(self.program, graph)
        return module, [tuple(node.meta["val"].shape) for node in pairs]

    def _check_earlier_steps(self, after: list[fx.Node], before: list[fx.Node]) -> None:
        """That all do what the last ones do. The first ones, whose states are constants, are compared by their numbers alone.

        Args:
            after: the states behind the last step but one.
            before: the same states behind the step before that.
        """
        for step in range(self.steps - 2, 1, -1):
            pairs: dict[fx.Node, fx.Node] = {}
            seen: set[tuple[Any, Any]] = set()
            for one, other in zip((self.made[step], *after), (self.made[step - 1], *before), strict=True):
                self._pair(one, other, step, pairs, seen)
            if pairs.keys() != set(before):
                raise _NoLoopError
            after, before = before, [pairs[state] for state in before]

    def _alone(self, node: fx.Node) -> fx.Node | None:
        """The number that ``node`` is made of where that is one alone, of the same step: states are what stands before a leak, or
        before the weights of feedback. Spikes are such numbers, and not what they are compared with."""
        made_of = [each for each in node.all_input_nodes if self._levels[each] != -1]
        if len(made_of) != 1 or node.op != "call_function" or node.kwargs or self._levels[made_of[0]] != self._levels[node]:
            return None
        return made_of[0] if all(_is_real(each.meta.get("val")) for each in (node, made_of[0])) else None

    def _pair(self, one: Any, other: Any, step: int, pairs: dict[fx.Node, fx.Node], seen: set[tuple[Any, Any]]) -> None:
        """Find the states that ``one``, of ``step``, reads, and what stands for them in ``other``, of the step before."""
        if isinstance(one, list | tuple):
            if not isinstance(other, list | tuple) or len(one) != len(other):
                raise _NoLoopError
            for a, b in zip(one, other, strict=True):
                self._pair(a, b, step, pairs, seen)
            return
        if not isinstance(one, fx.Node) or not isinstance(other, fx.Node):
            if one != other:
                raise _NoLoopError
            return
        if (one, other) in seen:
            return
        seen.add((one, other))
        levels = self._levels[one], self._levels[other]
        if levels == (-1, -1):
            return
        if levels == (step - 1, step - 2):
            below = self._alone(one), self._alone(other)
            if None not in below and one.target == other.target:
                self._pair(one.args, other.args, step, pairs, seen)
                return
            if pairs.setdefault(one, other) is not other:
                raise _NoLoopError
            return
        if levels != (step, step - 1) or one.target != other.target:
            raise _NoLoopError
        if one.args and (one.args[0] is self.x or one.args[0].target == aten.unbind.int):  # type: ignore[union-attr]
            return
        if len(one.args) != len(other.args) or one.kwargs.keys() != other.kwargs.keys():
            raise _NoLoopError
        for a, b in [*zip(one.args, other.args, strict=True), *((one.kwargs[key], other.kwargs[key]) for key in one.kwargs)]:
            self._pair(a, b, step, pairs, seen)


def _is_real(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _alike(one: Any, other: Any) -> bool:
    a, b = (each.meta.get("val") if isinstance(each, fx.Node) else None for each in (one, other))
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape
