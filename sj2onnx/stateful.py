"""Let every stateful module of a network stand for a node while torch traces it, and carry its states if they are wanted."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from spikingjelly.activation_based import layer
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from .emit import emit
from .errors import ExportError
from .integer_block import IntegerBlock
from .neurons import Translation, translation

__all__ = ["NodeCall", "State", "carry_states", "network_step_mode", "node_calls", "replace_neurons", "states_entry"]


@dataclass(frozen=True)
class State:
    """A state as an input and an output of the exported graph.

    Args:
        input: the input's name, ``<module path>.<state>``.
        output: the output's name, ``<module path>.<state>.next``.
        shape: of one sample; in the graph it is ``[N, *shape]``.
        type: NumPy's name of its element type.
        initial: what it is filled with before the first step.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    type: str
    initial: float


class NodeCall:
    """What a neuron's ``forward`` is while torch traces: one node of the domain ``snn``.

    Args:
        path: module path of the neuron.
        kind: its class, for messages.
        operator: the operator that it becomes.
        attributes: the node's attributes.
        states: names of the states, in the order of the operator's inputs and outputs.
        initial: what each state starts with.
        dtype: element type of the states.
        skipped: optional inputs of the operator between its first one and the states.
        single_step: whether inputs have no time axis.
    """

    def __init__(
        self,
        path: str,
        kind: str,
        operator: str,
        attributes: Mapping[str, int | float],
        states: Sequence[str],
        initial: Sequence[float],
        dtype: torch.dtype,
        skipped: int,
        single_step: bool,
    ) -> None:
        self.path = path
        self.states = states
        self.initial = initial
        self.dtype = dtype
        self.given: Sequence[torch.Tensor] | None = None
        self.final: Sequence[torch.Tensor] = ()
        self.input_shape: tuple[int, ...] | None = None
        self._name = f"The module {path!r} ({kind})"
        self._operator = operator
        self._attributes = attributes
        self._skipped = skipped
        self.single_step = single_step

    def begin(self, given: Sequence[torch.Tensor] | None = None) -> None:
        """Forget the last run; ``given`` are the states to start from, None to start from reset ones and give none back."""
        self.given = given
        self.input_shape = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.input_shape is not None:
            raise ExportError(
                f"{self._name} is used twice in one run, so that its state passes from one place to another: "
                "use two neuron modules."
            )
        self.input_shape = tuple(x.shape)
        if x.dtype != torch.float32:
            raise ExportError(f"{self._name} gets {x.dtype}, but neurons are exported in float32: use net.float().")
        steps = x.unsqueeze(0) if self.single_step else x
        if self.given is None:
            spikes = emit(self._operator, [steps], self._attributes, [steps])[0]
        else:
            inputs = [steps, *[None] * self._skipped, *self.given]
            spikes, *self.final = emit(self._operator, inputs, self._attributes, [steps, *self.given])
        return spikes.squeeze(0) if self.single_step else spikes

    @property
    def refusal_name(self) -> str:
        """How messages name the module."""
        return self._name


def network_step_mode(net: nn.Module, stateful: bool) -> str:
    """``"s"`` or ``"m"``, whichever all neurons of ``net`` are in; ``"m"`` for a network without any.

    Raises:
        ExportError: they are in different modes, or in single-step mode without ``stateful``; the message names one.
    """
    found: dict[str, str] = {}
    for path, module in net.named_modules():
        if isinstance(module, IntegerBlock):
            found.setdefault(module.step_mode, f"{path!r} (BlockContainer)")
        elif _has_states(module):
            found.setdefault(str(module.step_mode), f"{path!r} ({type(module).__name__})")
    if len(found) > 1:
        raise ExportError(
            f"The module {found['s']} works in step mode 's' and {found['m']} in step mode 'm': set the whole network to one "
            "of them (functional.set_step_mode)."
        )
    if "s" in found and not stateful:
        raise ExportError(
            f"The module {found['s']} works in step mode 's', which has no time axis to export: set the network to step mode "
            "'m' first (functional.set_step_mode(net, 'm')), or export one step with its states (stateful=True)."
        )
    return next(iter(found), "m")


def replace_neurons(net: nn.Module, step_mode: str) -> None:
    """Give each neuron of ``net`` a forward pass that is one node of the domain ``snn``; changed in place.

    Args:
        net: the network.
        step_mode: that of all its neurons.

    Raises:
        ExportError: a stateful module has no such node.
    """
    for path, module in net.named_modules():
        if isinstance(module, IntegerBlock):
            if module.neuron_attributes is not None:
                module.neuron = NodeCall(
                    path,
                    "BlockContainer",
                    "CubaLIF",
                    module.neuron_attributes,
                    ("u", "v"),
                    (0, 0),
                    torch.int32,
                    1,
                    step_mode == "s",
                )
            continue
        if not _has_states(module):
            continue
        if isinstance(module, layer.DropConnectLinear):
            raise ExportError(
                f"The module {path!r} (DropConnectLinear) draws random numbers in evaluation too: put a Linear with its weight "
                "in its place."
            )
        found = translation(module)
        if found is None:
            raise ExportError(f"The module {path!r} ({type(module).__name__}) is a neuron that this version does not export.")
        # The instance keeps its class and attributes, so that whatever the network asks of them still holds.
        module.forward = _call(path, module, found, step_mode)


def node_calls(net: nn.Module) -> list[NodeCall]:
    """What :func:`replace_neurons` put into ``net``, in the order of its modules."""
    found = [module.neuron if isinstance(module, IntegerBlock) else module.__dict__.get("forward") for module in net.modules()]
    return [call for call in found if isinstance(call, NodeCall)]


def carry_states(net: nn.Module, sample: Callable[[int], torch.Tensor]) -> list[State]:
    """Let the forward pass of ``net`` take the states as a second argument, a list, and give the final ones behind its output.

    Args:
        net: a network after :func:`replace_neurons`; changed in place.
        sample: gives an input for a number of samples.

    Returns:
        The states in the order in which they are taken and given.

    Raises:
        ExportError: a neuron sees something else than one sample along its batch axis.
    """
    calls = node_calls(net)
    shapes = _features(net, calls, sample)
    states = [
        State(f"{call.path}.{name}", f"{call.path}.{name}.next", shape, str(call.dtype).removeprefix("torch."), float(initial))
        for call, shape in zip(calls, shapes, strict=True)
        for name, initial in zip(call.states, call.initial, strict=True)
    ]
    forward = net.forward

    def with_states(x: torch.Tensor, states: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        given = iter(states)
        for call in calls:
            call.begin(list(islice(given, len(call.states))))
        y = forward(x)
        return (y, *(state for call in calls for state in call.final))

    net.forward = with_states
    return states


def states_entry(states: Sequence[State]) -> str:
    """The metadata that tell whoever runs the file which inputs are states, and what they start with."""
    return json.dumps([asdict(state) for state in states])


def _features(net: nn.Module, calls: Sequence[NodeCall], sample: Callable[[int], torch.Tensor]) -> list[tuple[int, ...]]:
    """The shape of one sample in front of each neuron, from runs with two and with three samples."""
    seen: list[list[tuple[int, ...]]] = []
    for samples in (2, 3):
        for call in calls:
            call.begin()
        x = sample(samples)
        with torch.no_grad():
            try:
                net(x)
            except ExportError:
                raise
            except Exception as error:  # whatever the network's own code raises
                reason = " ".join(str(error).split())
                raise ExportError(f"{type(net).__name__} does not run on an input of {list(x.shape)}: {reason}") from error
        for call in calls:
            if call.input_shape is None:
                raise ExportError(f"{call.refusal_name} is not used in a run, so that it has no state: remove it.")
        seen.append([call.input_shape for call in calls if call.input_shape is not None])
    return [_one_sample(call, two, three) for call, two, three in zip(calls, *seen, strict=True)]


def _one_sample(call: NodeCall, two: tuple[int, ...], three: tuple[int, ...]) -> tuple[int, ...]:
    axis = 0 if call.single_step else 1
    if two[axis] != 2 or three[axis] != 3 or two[axis + 1 :] != three[axis + 1 :]:
        raise ExportError(
            f"{call.refusal_name} sees {list(two)} for two samples, so that its state is not one per sample: keep the batch "
            f"axis {'first' if axis == 0 else 'second'} where neurons are, or export without stateful."
        )
    return two[axis + 1 :]


def _has_states(module: nn.Module) -> bool:
    """Whether it remembers anything in evaluation: a dropout's mask is for training, a layer that sees all steps has no state."""
    return (
        isinstance(module, MemoryModule)
        and bool(module._memories)
        and not isinstance(module, layer.Dropout)
        and "forward" not in module.__dict__
    )


def _call(path: str, module: Any, found: Translation, step_mode: str) -> NodeCall:
    # Plain numbers: what reads a tensor while torch traces would become part of the graph.
    attributes = dict(found.attributes(module))
    kind = type(module).__name__
    return NodeCall(
        path, kind, found.operator, attributes, found.states, found.initial(module), torch.float32, 0, step_mode == "s"
    )
