"""What a stateful module's forward pass is while torch traces: one node of the domain ``snn``."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch

from .emit import emit
from .errors import ExportError

__all__ = ["MODULE_KEY", "Node", "NodeCall"]

MODULE_KEY = "sj2lava.module"
"""Key under which a traced node carries the path of the module that it stands for."""


@dataclass(frozen=True)
class Node:
    """An operator, or a function, as a neuron uses it.

    Args:
        name: of the operator or function.
        attributes: the node's attributes.
        parameters: gives what the node reads between its input and its states, None for an optional input that is left out;
            asked at every call, because a trace puts others in place of a module's parameters.
        states: names of the states, in the order of inputs and outputs; ``sub.v`` for one of a module inside.
        initial: what each state starts with in the operator itself, where it is given no state.
        shapes: of each state, for one sample; None where it is the input's.
        dtypes: element types of the states.
        function: makes the function body, with or without states, for a version of the standard operators.
        result: something of the shape and type of the result, from the input.
        described: the neuron's numbers, for the metadata.
    """

    name: str
    attributes: Mapping[str, int | float]
    parameters: Callable[[], Sequence[torch.Tensor | None]]
    states: Sequence[str]
    initial: Sequence[float]
    shapes: Sequence[tuple[int, ...]] | None
    dtypes: Sequence[torch.dtype]
    function: Callable[[bool, int], onnx.FunctionProto]
    result: Callable[[torch.Tensor], torch.Tensor]
    described: Mapping[str, Any]


class NodeCall:
    """What a neuron's ``forward`` is while torch traces: one node of the domain ``snn`` for each call.

    States live where the module keeps them, so that whatever a network does with them is traced as well: it may read the
    membrane potential behind a call, set it before one, reset it, and call the neuron again.

    Args:
        path: module path of the neuron.
        module: the neuron; a module without states of SpikingJelly's keeps those of the node here.
        kind: its class, for messages.
        node: the operator, or the function, that it becomes.
        potentials: the function that gives the membrane potential of every step, where the module stores them.
        finish: what the module makes of the node's result, where it starts anew in each call.

    Attributes:
        operator: the name of the operator or function.
        calls: how often it was called since :meth:`begin`.
        input_shape: shape of the input of the first call; None before it.
    """

    def __init__(
        self,
        path: str,
        module: Any,
        kind: str,
        node: Node,
        potentials: Node | None = None,
        finish: Callable[[Any, torch.Tensor], Any] | None = None,
    ) -> None:
        self.path = path
        self.node = node
        self.operator = node.name
        self.potentials = potentials
        # A surrogate function says that spikes come out.
        self.spiking = kind == "BlockContainer" or any(hasattr(part, "surrogate_function") for part in module.modules())
        self.who = f"The module {path!r} ({kind})"
        self.calls = 0
        self.input_shape: tuple[int, ...] | None = None
        self._module: Any = module
        self._finish = finish
        self._own: dict[str, Any] = dict(zip(node.states, node.initial, strict=True))
        self._at_rest = [memory[name] for memory, name in self._memories()]

    @property
    def single_step(self) -> bool:
        """Whether inputs have no time axis."""
        return getattr(self._module, "step_mode", "m") == "s"

    @property
    def starts_anew(self) -> bool:
        """Whether each call starts from reset states, whatever was before it."""
        return self._finish is not None

    @property
    def initial(self) -> list[float]:
        """What each state is set to by a reset; what the operator starts with where that is no number."""
        return [
            float(value) if isinstance(value, int | float) else usual
            for value, usual in zip(self._at_rest, self.node.initial, strict=True)
        ]

    @property
    def states(self) -> list[Any]:
        """The states as they are now: a tensor behind a call, mostly a number before one."""
        return [memory[name] for memory, name in self._memories()]

    @states.setter
    def states(self, values: Sequence[Any]) -> None:
        for (memory, name), value in zip(self._memories(), values, strict=True):
            memory[name] = value

    def begin(self) -> None:
        """Forget the last run."""
        self.calls = 0
        self.input_shape = None
        self.states = self._at_rest

    reset = begin

    def __call__(self, x: torch.Tensor) -> Any:
        if self.input_shape is None:
            self.input_shape = tuple(x.shape)
        self.calls += 1
        if x.dtype != torch.float32:
            raise ExportError(f"{self.who} gets {_kind(x)}, but neurons are exported in float32: use net.float().")
        steps = x.unsqueeze(0) if self.single_step else x
        given = self._given(steps)
        like = self.node.result(steps)
        shapes = self.node.shapes or [tuple(like.shape[2:])] * len(self.node.states)
        finals = [
            steps.new_empty(steps.shape[1], *shape, dtype=dtype) for shape, dtype in zip(shapes, self.node.dtypes, strict=True)
        ]
        inputs = [steps, *self.node.parameters(), *(given or [])]
        y, *after = emit(self.operator, inputs, self.node.attributes, [like, *finals], {MODULE_KEY: self.path})
        if self.potentials is not None:
            self._store_potentials(steps, given)
        elif self.single_step and getattr(self._module, "store_v_seq", False):
            before, v = self._module.v_seq, after[0].unsqueeze(0)
            self._module.v_seq = v if before is None else torch.cat((before, v))
        if self._finish is not None:
            self._module.v = after[0]
            return self._finish(self._module, y)
        self.states = after
        return y.squeeze(0) if self.single_step else y

    @property
    def described(self) -> dict[str, Any]:
        """The neuron's own numbers, for the metadata."""
        return dict(self.node.described)

    def _memories(self) -> list[tuple[MutableMapping[str, Any], str]]:
        """Where each state is kept, and under which name."""
        found = []
        for name in self.node.states:
            parent, _, own = name.rpartition(".")
            memories = getattr(self._module.get_submodule(parent), "_memories", None)
            found.append((self._own, name) if memories is None or own not in memories else (memories, own))
        return found

    def _given(self, steps: torch.Tensor) -> list[torch.Tensor] | None:
        """The states to start from; None where they are those that the operator starts from by itself."""
        now = self.states
        if all(_same(value, rest) for value, rest in zip(now, self._at_rest, strict=True)) and all(
            not isinstance(rest, int | float) or rest == usual
            for rest, usual in zip(self._at_rest, self.node.initial, strict=True)
        ):
            return None
        return [
            self._state(value, usual, index, steps)
            for index, (value, usual) in enumerate(zip(now, self.node.initial, strict=True))
        ]

    def _state(self, value: Any, usual: float, index: int, steps: torch.Tensor) -> torch.Tensor:
        shape = (steps.shape[1], *(self.node.shapes[index] if self.node.shapes else steps.shape[2:]))
        dtype = self.node.dtypes[index]
        if isinstance(value, torch.Tensor):
            # A state of another shape is of no use to SpikingJelly either, which then starts anew.
            if value.dim() == len(shape) and all(_may_equal(one, other) for one, other in zip(value.shape, shape, strict=True)):
                return value if value.dtype == dtype else value.to(dtype)
            value = usual
        return steps.new_full(shape, usual if value is None else float(value), dtype=dtype)

    def _store_potentials(self, steps: torch.Tensor, given: list[torch.Tensor] | None) -> None:
        assert self.potentials is not None
        inputs = [steps, *self.potentials.parameters(), *(given or [])]
        like = self.potentials.result(steps)
        (self._module.v_seq,) = emit(self.potentials.name, inputs, {}, [like], {MODULE_KEY: self.path})


def _same(value: Any, rest: Any) -> bool:
    if isinstance(value, torch.Tensor) or isinstance(rest, torch.Tensor):
        return value is rest
    return bool(value == rest)


def _may_equal(one: Any, other: Any) -> bool:
    """Whether two sizes are the same, as far as is known while they are symbols."""
    return not (isinstance(one, int) and isinstance(other, int)) or one == other


def _kind(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
