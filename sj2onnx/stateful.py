"""Let every stateful module of a network stand for a node while torch traces it, and carry its states if they are wanted."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import count, islice
from typing import Any

import onnx
import torch
from spikingjelly.activation_based import layer
from spikingjelly.activation_based.base import MemoryModule
from spikingjelly.activation_based.encoding import StatefulEncoder
from spikingjelly.activation_based.neuron.base_node import NonSpikingBaseNode
from torch import nn

from custom_ops.operators import OPERATORS, OPSET, Form
from custom_ops.sessions.stream import StateInfo

from .errors import ExportError, one_line
from .integer_block import IntegerBlock
from .neurons import overrides_forward, translation
from .node_call import Node, NodeCall
from .preparing import as_it_was
from .tracing import TracedModule, trace

__all__ = ["carry_states", "network_step_mode", "node_calls", "replace_neurons", "stateful_modules", "states_entry"]


def network_step_mode(net: nn.Module) -> str:
    """``"s"`` or ``"m"``, whichever all neurons of ``net`` are in; ``"m"`` for a network without any.

    Raises:
        ExportError: they are in different modes; the message names one of each.
    """
    found: dict[str, str] = {}
    for path, module in stateful_modules(net):
        kind = "BlockContainer" if isinstance(module, IntegerBlock) else type(module).__name__
        found.setdefault(getattr(module, "step_mode", "m"), f"{path!r} ({kind})")
    if len(found) > 1:
        raise ExportError(
            f"The module {found['s']} works in step mode 's' and {found['m']} in step mode 'm': set the whole network to one "
            "of them (functional.set_step_mode)."
        )
    return next(iter(found), "m")


def replace_neurons(net: nn.Module, run: Callable[[], None], opset: int) -> None:
    """Give each neuron of ``net`` a forward pass that is one node of the domain ``snn``; changed in place.

    A module of a user's own whose steps cannot be told from the rest of what it does stays as it is, for torch to trace.

    Args:
        net: the network.
        run: runs ``net`` once, on an input like that of the trace.
        opset: version of the standard operators.

    Raises:
        ExportError: a module draws random numbers.
    """
    _give_all_a_bias(net)
    _replace_all(net, run, opset, _Names(), set())


def _replace_all(net: nn.Module, run: Callable[[], None], opset: int, names: "_Names", opened: set[int]) -> None:
    """``opened``: the modules, by identity, that are left as they are and whose parts are looked at instead."""
    unknown: list[tuple[str, nn.Module]] = []
    stored: list[tuple[str, nn.Module, Node]] = []
    for path, module in stateful_modules(net, opened):
        if isinstance(module, layer.DropConnectLinear):
            raise ExportError(
                f"The module {path!r} (DropConnectLinear) draws random numbers in evaluation too: put a Linear with its weight "
                "in its place."
            )
        node = _node(module, path)
        if node is None:
            unknown.append((path, module))
        elif getattr(module, "store_v_seq", False) and module.step_mode == "m":
            stored.append((path, module, node))
        else:
            _replace(module, path, node)
    if not unknown and not stored:
        return
    features = _input_features(net, [*unknown, *((path, module) for path, module, _ in stored)], run)

    def traced(module: nn.Module, path: str, potentials: bool = False) -> Node:
        return _traced_node(module, trace(module, path, features[path], opset, potentials), names)

    for path, module, node in stored:
        _replace(module, path, node, traced(module, path, potentials=True) if path in features else None)
    before = len(opened)
    for path, module in unknown:
        if id(module) in opened or path not in features:
            continue  # It is not called, or only by a module of the user's own.
        try:
            node = traced(module, path)
            stores = getattr(module, "store_v_seq", False) and module.step_mode == "m"
            _replace(module, path, node, traced(module, path, potentials=True) if stores else None)
        except ExportError:
            if not overrides_forward(module) and not isinstance(module, StatefulEncoder):
                raise
            opened.add(id(module))
    if len(opened) > before:
        _replace_all(net, run, opset, names, opened)


def _give_all_a_bias(net: nn.Module) -> None:
    """One function serves all CubaLIF nodes of a file, so that where one has a bias all have: zero where there is none."""
    blocks = [module for module in net.modules() if isinstance(module, IntegerBlock) and module.spikes and not module.feedback]
    if any(block.bias is not None for block in blocks):
        for block in blocks:
            block.bias = torch.zeros(1) if block.bias is None else block.bias


def _replace(module: nn.Module, path: str, node: Node, potentials: Node | None = None) -> None:
    if isinstance(module, IntegerBlock):
        module.neuron = NodeCall(path, module, "BlockContainer", node)
    else:
        # The instance keeps its class and attributes, so that whatever the network asks of them still holds.
        finish = _decoded if isinstance(module, NonSpikingBaseNode) else None
        module.forward = NodeCall(path, module, type(module).__name__, node, potentials, finish)


def _decoded(module: Any, v_seq: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
    """What a neuron that never spikes makes of its potential at every step ``[T, N, *]``."""
    if module.decode == "max-mem":
        return v_seq.max(0).values
    if module.decode == "max-abs-mem":
        highest, lowest = v_seq.max(0).values, v_seq.min(0).values
        above = highest.abs() > lowest.abs()
        return highest * above + lowest * above.logical_not()
    if module.decode == "mean-mem":
        return v_seq.mean(0)
    if module.decode == "last_mem":
        return v_seq[-1]
    return list(v_seq.unbind(0))


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
    left = [(path, module) for path, module in stateful_modules(net) if not isinstance(module, IntegerBlock)]
    for path, module in left:
        raise ExportError(
            f"The module {path!r} ({type(module).__name__}) does something else when it is called than step by step, so that its "
            "states cannot be carried from chunk to chunk: write single_step_functional_forward, or export without stateful."
        )
    calls = node_calls(net)
    for call in calls:
        if call.starts_anew:
            raise ExportError(
                f"{call.who} sees all time steps at once and has no state that could be carried from chunk to chunk: export "
                "without stateful."
            )
    states = [
        StateInfo(f"{call.path}.{name}", f"{call.path}.{name}.next", shape, str(dtype).removeprefix("torch."), initial)
        for call, own in zip(calls, _features(net, calls, sample), strict=True)
        for name, shape, dtype, initial in zip(
            call.node.states,
            call.node.shapes or [own] * len(call.node.states),
            call.node.dtypes,
            call.initial,
            strict=True,
        )
    ]
    if not states:
        return []
    forward = net.forward

    def with_states(x: torch.Tensor, states: list[torch.Tensor]) -> tuple[Any, ...]:
        given = iter(states)
        for call in calls:
            call.states = list(islice(given, len(call.node.states)))
        y = forward(x)
        return (y, *(state for call in calls for state in call.states))

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
        with as_it_was(net), torch.no_grad():
            net(sample(samples))
        for call in calls:
            if call.input_shape is None:
                raise ExportError(f"{call.who} is not used in a run, so that it has no state: remove it.")
        seen.append([call.input_shape for call in calls if call.input_shape is not None])
        for call in calls:
            call.begin()
    return [_one_sample(call, two, three) for call, two, three in zip(calls, *seen, strict=True)]


def _one_sample(call: NodeCall, two: tuple[int, ...], three: tuple[int, ...]) -> tuple[int, ...]:
    axis = 0 if call.single_step else 1
    if two[axis] != 2 or three[axis] != 3 or two[axis + 1 :] != three[axis + 1 :]:
        raise ExportError(
            f"{call.who} sees {list(two)} for two samples, so that its state is not one per sample: keep the batch "
            f"axis {'first' if axis == 0 else 'second'} where neurons are, or export without stateful."
        )
    return two[axis + 1 :]


def stateful_modules(net: nn.Module, opened: Collection[int] = ()) -> list[tuple[str, nn.Module]]:
    """Modules that remember something in evaluation, and those blocks that have neurons; not what runs inside of another, but of
    one of ``opened``, by identity, the parts in its place."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for path, module in net.named_modules():
        if id(module) in inside:
            continue
        if isinstance(module, IntegerBlock):
            if module.neuron_attributes is not None:
                found.append((path, module))
        elif isinstance(module.__dict__.get("forward"), NodeCall):
            inside |= {id(part) for part in module.modules()}
        elif id(module) not in opened and _has_states(module):
            found.append((path, module))
            inside |= {id(part) for part in module.modules()}
    return found


def _has_states(module: nn.Module) -> bool:
    """Whether it remembers anything in evaluation: a dropout's mask is for training, a layer that sees all steps has no state."""
    if "forward" in module.__dict__ or isinstance(module, layer.Dropout):
        return False
    return isinstance(module, NonSpikingBaseNode) or (isinstance(module, MemoryModule) and bool(module._memories))


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
    operator, trained = found
    # Plain numbers: what reads a tensor while torch traces would become part of the graph.
    try:
        attributes = dict(trained.attributes(module))
    except ValueError as error:
        raise ExportError(f"The module {path!r} ({type(module).__name__}) cannot be exported: {one_line(error)}.") from error
    states = dict.fromkeys(trained.states, torch.float32)
    return _operator_node(operator.name, attributes, tuple, states, trained.initial(module))


def _operator_node(
    operator: str,
    attributes: Mapping[str, int | float],
    parameters: Callable[[], Sequence[torch.Tensor | None]],
    states: Mapping[str, torch.dtype],
    initial: Sequence[float] | None = None,
    bias: bool = False,
) -> Node:
    def function(stateful: bool, opset: int) -> onnx.FunctionProto:
        body = OPERATORS[operator].function(Form(bias=bias, states=stateful))
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
            if name not in OPERATORS and self._taken.setdefault(name, content) == content:
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
    net: nn.Module, modules: Sequence[tuple[str, nn.Module]], run: Callable[[], None]
) -> dict[str, tuple[int, ...]]:
    """The shape of one sample at one time step in front of each of ``modules`` that is used, from a run of the network itself."""
    seen: dict[str, tuple[int, ...]] = {}

    def keep(path: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            seen.setdefault(path, tuple(inputs[0].shape[2 if getattr(module, "step_mode", "m") == "m" else 1 :]))

        return hook

    hooks = [module.register_forward_pre_hook(keep(path)) for path, module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen
