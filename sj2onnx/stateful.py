"""Let every stateful module of a network stand for a node while torch traces it, and carry its states if they are wanted."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

import onnx
import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from custom_ops.operators import FUNCTIONS, OPERATORS, OPSET, Form
from custom_ops.stream import StateInfo

from .emit import emit
from .errors import BlockError, ExportError
from .integer_block import IntegerBlock
from .neurons import translation
from .tracing import TracedModule, trace

__all__ = ["Node", "NodeCall", "carry_states", "network_step_mode", "node_calls", "replace_neurons", "states_entry"]


_DEFINITIONS = {**OPERATORS, **FUNCTIONS}


class NodeCall:
    """What a neuron's ``forward`` is while torch traces: one node of the domain ``snn``.

    Args:
        path: module path of the neuron.
        kind: its class, for messages.
        node: the operator, or the function, that it becomes.
        single_step: whether inputs have no time axis.
        spiking: whether spikes come out.

    Attributes:
        operator: the name of the operator or function.
        given: the states to start from; None to start from reset ones and give none back.
        final: the states after the last run.
        input_shape: shape of the input of the last run; None before it.
    """

    def __init__(self, path: str, kind: str, node: "Node", single_step: bool, spiking: bool = True) -> None:
        self.path = path
        self.node = node
        self.operator = node.name
        self.single_step = single_step
        self.spiking = spiking
        self.given: Sequence[torch.Tensor] | None = None
        self.final: Sequence[torch.Tensor] = ()
        self.input_shape: tuple[int, ...] | None = None
        self.who = f"The module {path!r} ({kind})"

    def begin(self, given: Sequence[torch.Tensor] | None = None) -> None:
        """Forget the last run, and start from ``given``."""
        self.given = given
        self.input_shape = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.input_shape is not None:
            raise ExportError(
                f"{self.who} is used twice in one run, so that its state passes from one place to another: "
                "use two neuron modules."
            )
        self.input_shape = tuple(x.shape)
        if x.dtype != torch.float32:
            raise ExportError(f"{self.who} gets {x.dtype}, but neurons are exported in float32: use net.float().")
        steps = x.unsqueeze(0) if self.single_step else x
        like = self.node.result(steps)
        inputs = [steps, *self.node.parameters()]
        if self.given is None:
            y = emit(self.operator, inputs, self.node.attributes, [like])[0]
        else:
            y, *self.final = emit(self.operator, [*inputs, *self.given], self.node.attributes, [like, *self.given])
        return y.squeeze(0) if self.single_step else y

    @property
    def described(self) -> dict[str, Any]:
        """The neuron's own numbers, for the metadata."""
        return dict(self.node.described)

    def function(self, stateful: bool, opset: int) -> onnx.FunctionProto:
        """The function body for the node."""
        return self.node.function(stateful, opset)


@dataclass(frozen=True)
class Node:
    """An operator, or a function, as a neuron uses it.

    Args:
        name: of the operator or function.
        attributes: the node's attributes.
        parameters: gives what the node reads between its input and its states, None for an optional input that is left out;
            asked at every call, because a trace puts others in place of a module's parameters.
        states: names of the states, in the order of inputs and outputs.
        initial: what each state starts with.
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


def network_step_mode(net: nn.Module, stateful: bool) -> str:
    """``"s"`` or ``"m"``, whichever all neurons of ``net`` are in; ``"m"`` for a network without any.

    Raises:
        ExportError: they are in different modes, or in single-step mode without ``stateful``; the message names one.
    """
    found: dict[str, str] = {}
    for path, module in _stateful(net):
        if isinstance(module, IntegerBlock):
            found.setdefault(module.step_mode, f"{path!r} (BlockContainer)")
        else:
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


def replace_neurons(net: nn.Module, step_mode: str, sample: Callable[[int], torch.Tensor], opset: int) -> None:
    """Give each neuron of ``net`` a forward pass that is one node of the domain ``snn``; changed in place.

    Args:
        net: the network.
        step_mode: that of all its neurons.
        sample: gives an input for a number of samples.
        opset: version of the standard operators.

    Raises:
        ExportError: a stateful module has no such node.
    """
    single = step_mode == "s"
    _give_all_a_bias(net)
    unknown: list[tuple[str, nn.Module]] = []
    for path, module in _stateful(net):
        if isinstance(module, layer.DropConnectLinear):
            raise ExportError(
                f"The module {path!r} (DropConnectLinear) draws random numbers in evaluation too: put a Linear with its weight "
                "in its place."
            )
        node = _node(module, path)
        if node is None:
            unknown.append((path, module))
        else:
            _replace(module, path, node, single)
    if unknown:
        features = _input_features(net, unknown, sample, axes=1 if single else 2)
        names = _Names()
        for path, module in unknown:
            _replace(module, path, _traced_node(module, trace(module, path, features[path], opset), names), single)


def _give_all_a_bias(net: nn.Module) -> None:
    """One function serves all CubaLIF nodes of a file, so that where one has a bias all have: zero where there is none."""
    blocks = [module for module in net.modules() if isinstance(module, IntegerBlock) and module.spikes and not module.feedback]
    if any(block.bias is not None for block in blocks):
        for block in blocks:
            block.bias = torch.zeros(1) if block.bias is None else block.bias


def _replace(module: nn.Module, path: str, node: "Node", single_step: bool) -> None:
    if isinstance(module, IntegerBlock):
        module.neuron = NodeCall(path, "BlockContainer", node, single_step)
    else:
        # The instance keeps its class and attributes, so that whatever the network asks of them still holds.
        spiking = any(hasattr(part, "surrogate_function") for part in module.modules())
        module.forward = NodeCall(path, type(module).__name__, node, single_step, spiking)


def node_calls(net: nn.Module) -> list[NodeCall]:
    """What :func:`replace_neurons` put into ``net``, in the order of its modules."""
    found = [module.neuron if isinstance(module, IntegerBlock) else module.__dict__.get("forward") for module in net.modules()]
    return [call for call in found if isinstance(call, NodeCall)]


def carry_states(net: nn.Module, sample: Callable[[int], torch.Tensor]) -> list[StateInfo]:
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
    states = [
        StateInfo(f"{call.path}.{name}", f"{call.path}.{name}.next", shape, str(dtype).removeprefix("torch."), float(initial))
        for call, own in zip(calls, _features(net, calls, sample), strict=True)
        for name, shape, dtype, initial in zip(
            call.node.states,
            call.node.shapes or [own] * len(call.node.states),
            call.node.dtypes,
            call.node.initial,
            strict=True,
        )
    ]
    if not states:
        return []
    forward = net.forward

    def with_states(x: torch.Tensor, states: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        given = iter(states)
        for call in calls:
            call.begin(list(islice(given, len(call.node.states))))
        y = forward(x)
        return (y, *(state for call in calls for state in call.final))

    net.forward = with_states
    return states


def states_entry(states: Sequence[StateInfo]) -> str:
    """The metadata that tell whoever runs the file which inputs are states, and what they start with."""
    return json.dumps([asdict(state) for state in states])


def _features(net: nn.Module, calls: Sequence[NodeCall], sample: Callable[[int], torch.Tensor]) -> list[tuple[int, ...]]:
    """The shape of one sample in front of each neuron, from runs with two and with three samples."""
    seen: list[list[tuple[int, ...]]] = []
    for samples in (2, 3):
        for call in calls:
            call.begin()
        _run(net, sample(samples))
        for call in calls:
            if call.input_shape is None:
                raise ExportError(f"{call.who} is not used in a run, so that it has no state: remove it.")
        seen.append([call.input_shape for call in calls if call.input_shape is not None])
    return [_one_sample(call, two, three) for call, two, three in zip(calls, *seen, strict=True)]


def _one_sample(call: NodeCall, two: tuple[int, ...], three: tuple[int, ...]) -> tuple[int, ...]:
    axis = 0 if call.single_step else 1
    if two[axis] != 2 or three[axis] != 3 or two[axis + 1 :] != three[axis + 1 :]:
        raise ExportError(
            f"{call.who} sees {list(two)} for two samples, so that its state is not one per sample: keep the batch "
            f"axis {'first' if axis == 0 else 'second'} where neurons are, or export without stateful."
        )
    return two[axis + 1 :]


def _stateful(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that remember something in evaluation, and those blocks that have neurons; not what runs inside of another."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for path, module in net.named_modules():
        if id(module) in inside:
            continue
        if isinstance(module, IntegerBlock):
            if module.neuron_attributes is not None:
                found.append((path, module))
        elif _has_states(module):
            found.append((path, module))
            inside |= {id(part) for part in module.modules()}
    return found


def _has_states(module: nn.Module) -> bool:
    """Whether it remembers anything in evaluation: a dropout's mask is for training, a layer that sees all steps has no state."""
    return (
        isinstance(module, MemoryModule)
        and bool(module._memories)
        and not isinstance(module, layer.Dropout)
        and "forward" not in module.__dict__
    )


def _node(module: nn.Module, path: str) -> Node | None:
    """The node of a neuron that has an operator of this project."""
    if isinstance(module, IntegerBlock):
        assert module.neuron_attributes is not None
        if module.feedback:
            states = {"u": torch.int32, "v": torch.int32, "s": torch.float32}
            return _operator_node("RecurrentCubaLIF", module.neuron_attributes, lambda: (module.weight.t(), None), states)
        states = {"u": torch.int32, "v": torch.int32}
        biased = module.bias is not None
        return _operator_node("CubaLIF", module.neuron_attributes, lambda: (module.bias,), states, bias=biased)
    found = translation(module)
    if found is None:
        return None
    # Plain numbers: what reads a tensor while torch traces would become part of the graph.
    try:
        attributes = dict(found.attributes(module))
    except BlockError as error:
        reason = str(error).removesuffix(".")
        raise ExportError(f"The module {path!r} ({type(module).__name__}) cannot be exported: {reason}.") from error
    states = dict.fromkeys(found.states, torch.float32)
    return _operator_node(found.operator, attributes, tuple, states, found.initial(module))


def _operator_node(
    operator: str,
    attributes: Mapping[str, int | float],
    parameters: Callable[[], Sequence[torch.Tensor | None]],
    states: Mapping[str, torch.dtype],
    initial: Sequence[float] | None = None,
    bias: bool = False,
) -> Node:
    def function(stateful: bool, opset: int) -> onnx.FunctionProto:
        body = _DEFINITIONS[operator].function(Form(bias=bias, states=stateful))
        body.opset_import[0].version = opset
        return body

    names, types = list(states), list(states.values())
    starts = initial or [0.0] * len(names)
    return Node(operator, attributes, parameters, names, starts, None, types, function, lambda x: x, attributes)


class _Names:
    """Functions by their content: neurons that do the same share one."""

    def __init__(self) -> None:
        self._taken: dict[str, bytes] = {}

    def name(self, kind: str, content: bytes) -> str:
        """The class's name; with a number where another function has it."""
        for number in count(1):
            name = kind if number == 1 else f"{kind}_{number}"
            if name not in _DEFINITIONS and self._taken.setdefault(name, content) == content:
                return name
        raise AssertionError


def _traced_node(module: nn.Module, traced: TracedModule, names: _Names) -> Node:
    name = names.name(traced.kind, traced.function("", True, OPSET).SerializeToString(deterministic=True))
    numbers = {key: value for key, value in vars(module).items() if isinstance(value, int | float) and key[0] != "_"}
    numbers.pop("training", None)

    def result(x: torch.Tensor) -> torch.Tensor:
        return x.new_empty(*x.shape[:2], *traced.output_shape)

    return Node(
        name,
        {},
        lambda: [_tensor(module, parameter) for parameter in traced.parameters],
        traced.states,
        traced.initial,
        traced.shapes,
        traced.dtypes,
        lambda stateful, opset: traced.function(name, stateful, opset),
        result,
        numbers,
    )


def _tensor(module: nn.Module, path: str) -> torch.Tensor:
    parent, _, name = path.rpartition(".")
    value = getattr(module.get_submodule(parent), name)
    assert isinstance(value, torch.Tensor)
    return value


def _input_features(
    net: nn.Module, modules: Sequence[tuple[str, nn.Module]], sample: Callable[[int], torch.Tensor], axes: int
) -> dict[str, tuple[int, ...]]:
    """The shape of one sample at one time step in front of each of ``modules``, from a run of the network itself."""
    seen: dict[str, tuple[int, ...]] = {}

    def keep(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: seen.update({path: tuple(inputs[0].shape[axes:])})

    hooks = [module.register_forward_pre_hook(keep(path)) for path, module in modules]
    try:
        _run(net, sample(2))
    finally:
        for hook in hooks:
            hook.remove()
        functional.reset_net(net)
        for call in node_calls(net):
            call.begin()
    for path, module in modules:
        if path not in seen:
            raise ExportError(f"The module {path!r} ({type(module).__name__}) is not used in a run: remove it.")
    return seen


def _run(net: nn.Module, x: torch.Tensor) -> None:
    try:
        with torch.no_grad():
            net(x)
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own code raises
        reason = " ".join(str(error).split())
        raise ExportError(f"{type(net).__name__} does not run on an input of {list(x.shape)}: {reason}") from error
