"""Any stateful module as a function of the domain ``snn``, traced from the module's own single-step function.

No formula of ours: SpikingJelly's ``functional_forward`` of one step, with the states as arguments, goes through torch's exporter
once and becomes the body of a Scan over time.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
from onnx import helper
from spikingjelly.activation_based import base, functional, neuron
from spikingjelly.activation_based.neuron.base_node import NonSpikingBaseNode
from torch import nn

from custom_ops import DOMAIN
from custom_ops.operators import OPSET

from .errors import ExportError, one_line
from .neurons import overrides_forward
from .passes.cast_like import CastLikePass
from .refusals import cannot_be_traced, shortened
from .torch_export import to_onnx_ir

__all__ = ["TracedModule", "is_composite", "trace"]

_STEP = "module."
"""Prefix that torch gives to the parameters of the traced module."""


@dataclass(frozen=True)
class TracedModule:
    """A stateful module, traced.

    Args:
        kind: its class.
        states: names of its states, below its own path.
        initial: what each state starts with.
        shapes: of each state, for one sample.
        dtypes: element type of each state.
        parameters: names of the parameters and buffers that the function takes, below the module's path.
        output_shape: of the result, for one sample at one time step.
        step: the graph of one step: inputs ``x``, the parameters and the states; outputs the result and the next states.
        potentials: whether the first state of every step is given in place of the result.
    """

    kind: str
    states: tuple[str, ...]
    initial: tuple[float, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    parameters: tuple[str, ...]
    output_shape: tuple[int, ...]
    step: onnx.GraphProto
    potentials: bool = False

    def function(self, name: str, stateful: bool, opset: int) -> onnx.FunctionProto:
        """The model-local function: inputs ``x`` ``[T, N, *]``, the parameters and, with ``stateful``, the states."""
        return _function(self, name, stateful, opset)


def is_composite(module: nn.Module) -> bool:
    """Whether it is a stateful module that runs others step by step, so that all their states are its own."""
    return isinstance(module, base.MemoryModule) and any(
        isinstance(part, base.MemoryModule) for part in module.modules() if part is not module
    )


def trace(module: nn.Module, path: str, features: Sequence[int], opset: int = OPSET, potentials: bool = False) -> TracedModule:
    """Trace one step of ``module``.

    Args:
        module: has ``single_step_functional_forward``, or is made of modules that have, or says in a ``forward`` of its own what
            it does with one step, or has the ``neuronal_charge`` of a NonSpikingBaseNode; in evaluation mode. Left as it is.
        path: its module path, for messages.
        features: shape of its input for one sample at one time step.
        opset: version of the standard operators.
        potentials: whether the function is to give the membrane potential of every step, which is the first state.

    Raises:
        ExportError: it has no single step, a state that is not one tensor per sample, or operators that cannot be exported.
    """
    who = f"The module {path!r} ({type(module).__name__})"
    single = copy.deepcopy(module, {id(value): value for value in [*module.parameters(), *module.buffers()]})
    functional.reset_net(single)
    try:
        if not isinstance(module, NonSpikingBaseNode):
            functional.set_step_mode(single, "s")
    except ValueError as error:
        raise ExportError(
            f"{who} works on whole sequences only, not step by step: take it out of the loop over time, and set step mode 'm'."
        ) from error
    step = _Step(single)
    x = torch.rand(2, *features, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            first = step.initial(x)
            y, *after = step(x, *first)
    except Exception as error:  # whatever the module's own code raises
        reason = one_line(error) or type(error).__name__
        remedy = "write its single step with torch operations alone, or leave it out of the exported network."
        raise ExportError(shortened(f"{who} does not run step by step", reason, remedy)) from error
    unused = [value is None and later is None for value, later in zip(first, after, strict=True)]
    names = tuple(name for name, idle in zip(step.state_names(), unused, strict=True) if not idle)
    step.unused = unused
    first, after = ([value for value, idle in zip(values, unused, strict=True) if not idle] for values in (first, after))
    initial, states = _materialised(who, names, first, after)
    with torch.no_grad():
        again = step(x, *states)
    if not all(torch.equal(one, other) for one, other in zip((y, *after), again, strict=True)):
        if any(value.isnan().any() for value in again):
            raise ExportError(
                f"{who} gives NaN in SpikingJelly itself, as an infinite threshold with a soft reset does: "
                "give it a v_reset, or a finite threshold."
            )
        raise ExportError(
            f"{who} starts from something else than one number for all neurons, or draws random numbers: set what it starts from "
            "by set_reset_value, and draw outside of the network."
        )
    if not isinstance(module, NonSpikingBaseNode) and getattr(module, "step_mode", "s") == "m":
        _require_same_in_both_modes(who, module, step, x, states)
    batch = torch.export.Dim("N", min=1)
    inputs = (x, *states)
    counted = range(len(states))
    try:
        model = to_onnx_ir(
            step,
            inputs,
            ({0: batch}, tuple({0: batch} for _ in states)),
            opset,
            names=["x", *(f"state_{i}" for i in counted), "y", *(f"next_{i}" for i in counted)],
            fold=False,
        )
    except Exception as error:  # torch raises whatever the module's own code raised
        raise cannot_be_traced(module, "", error, who) from None
    used = _tidy(model)
    return TracedModule(
        type(module).__name__,
        names,
        initial,
        tuple(tuple(state.shape[1:]) for state in states),
        tuple(state.dtype for state in states),
        tuple(name.removeprefix(_STEP) for name in used),
        tuple(states[0].shape[1:] if potentials else y.shape[1:]),
        ir.to_proto(model).graph,
        potentials,
    )


def _require_same_in_both_modes(
    who: str, module: nn.Module, step: "_Step", x: torch.Tensor, states: Sequence[torch.Tensor]
) -> None:
    """Refuse a module whose multi-step pass, which the network uses, does something else than its single step."""
    sequence = torch.stack([x, 2 * x, -x, 3 * x])
    multi = copy.deepcopy(module)
    functional.reset_net(multi)
    with torch.no_grad():
        expected = multi(sequence)
        for x_t, y_t in zip(sequence, expected, strict=True):
            y, *states = step(x_t, *states)
            if not torch.allclose(y, y_t, rtol=1e-4, atol=1e-4):
                raise ExportError(
                    f"{who} gives other results in step mode 'm' than step by step in SpikingJelly itself: export it in step "
                    "mode 's' (stateful=True), which custom_ops.over_time runs over time."
                )


class _Step(nn.Module):
    """One step of a module, with its states as arguments and results.

    Attributes:
        unused: for each state whether it is None and stays so in evaluation; such a state is neither argument nor result.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.unused: list[bool] = []
        self._function: Callable[..., Any] = (
            self._charged
            if isinstance(module, NonSpikingBaseNode)
            else base.to_functional_forward(module, module.forward if overrides_forward(module) else None)
        )
        self._settings = {"static_inputs": module.static_inputs} if isinstance(module, neuron.FlexSN) else {}

    def state_names(self) -> tuple[str, ...]:
        """The states in the order of ``base.extract_memories``."""
        if isinstance(self.module, NonSpikingBaseNode):
            return ("v",)
        return tuple(
            f"{path}.{name}" if path else name
            for path, part in self.module.named_modules()
            if isinstance(part, base.MemoryModule)
            for name in part._memories
        )

    def initial(self, x: torch.Tensor) -> list[Any]:
        """The states as they are after a reset, for an input ``x``: mostly tensors, sometimes plain numbers or None."""
        if isinstance(self.module, NonSpikingBaseNode):
            return [0.0]
        states = [
            value for part in self.module.modules() if isinstance(part, base.MemoryModule) for value in part._memories.values()
        ]
        if isinstance(self.module, base.MemoryModule) and not (is_composite(self.module) or overrides_forward(self.module)):
            states = list(self.module.materialize_states((x,), tuple(states), "s"))
        return states

    def _charged(self, inputs: tuple[torch.Tensor], states: tuple[Any], **_: Any) -> tuple[tuple[Any], tuple[Any]]:
        """A neuron that never spikes gives its potential."""
        self.module.v = states[0]
        self.module.neuronal_charge(inputs[0])  # type: ignore[operator]
        v = self.module.__dict__.pop("v")
        return (v,), (v,)

    def forward(self, x: torch.Tensor, *given: Any) -> tuple[torch.Tensor, ...]:
        values = iter(given)
        states = tuple(None if idle else next(values) for idle in self.unused or [False] * len(given))
        (y,), after = self._function((x,), states, **self._settings)
        return (y, *(state for state, idle in zip(after, self.unused or [False] * len(given), strict=True) if not idle))


def _materialised(
    who: str, names: Sequence[str], first: Sequence[Any], after: Sequence[Any]
) -> tuple[tuple[float, ...], list[torch.Tensor]]:
    """The initial states as numbers, and as tensors of the shapes that they have after a step."""
    numbers, tensors = [], []
    for name, value, later in zip(names, first, after, strict=True):
        number = 0.0 if value is None else value
        if isinstance(value, torch.Tensor) and bool((value == value.flatten()[0]).all()):
            number = value.flatten()[0].item()
        if not isinstance(number, int | float) or isinstance(number, bool) or not isinstance(later, torch.Tensor):
            raise ExportError(
                f"{who} keeps a {type(value).__name__} as its state {name!r}, not one number per neuron: keep a tensor "
                "[N, *] there, which starts from one number."
            )
        if later.dim() == 0 or later.shape[0] != 2:
            raise ExportError(
                f"{who} has a state {name!r} of the shape {list(later.shape)} for two samples: keep one for each sample, along "
                "its first axis."
            )
        numbers.append(float(number))
        tensors.append(torch.full_like(later, number))
    return tuple(numbers), tensors


def _tidy(model: ir.Model) -> list[str]:
    """Turn the parameters that the step uses into inputs behind ``x``, and everything else that is constant into nodes."""
    ir.passes.Sequential(
        CastLikePass(),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    )(model)
    graph = model.graph
    used = []
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        if name.startswith(_STEP):
            used.append(name)
            graph.inputs.insert(len(used), value)
            value.const_value = None
            continue
        constant = ir.node("Constant", [], {"value": value.const_value})
        graph.insert_before(graph[0], constant)
        value.replace_all_uses_with(constant.outputs[0])
    common.ClearMetadataAndDocStringPass()(model)
    for index, value in enumerate(value for node in graph for value in node.outputs):
        if not value.is_graph_output():
            value.name = f"value_{index}"
    for node in graph:
        node.name = None
    return used


def _function(traced: TracedModule, name: str, stateful: bool, opset: int) -> onnx.FunctionProto:
    step = traced.step
    count = len(traced.states)
    parameters = [_parameter(index) for index in range(len(traced.parameters))]
    step_inputs = [value.name for value in step.input]
    nodes: list[onnx.NodeProto] = []
    starts: list[str] = []
    for index, (shape, value, dtype) in enumerate(zip(traced.shapes, traced.initial, traced.dtypes, strict=True)):
        if stateful:
            starts.append(f"initial_{index}")
            continue
        if not nodes:
            nodes.append(helper.make_node("Shape", ["x"], ["samples"], start=1, end=2))
        filled = np.full(1, value, str(dtype).removeprefix("torch."))
        nodes += [
            helper.make_node("Constant", [], [f"rest_{index}"], value=onnx.numpy_helper.from_array(np.array(shape, np.int64))),
            helper.make_node("Concat", ["samples", f"rest_{index}"], [f"shape_{index}"], axis=0),
            helper.make_node(
                "ConstantOfShape", [f"shape_{index}"], [f"start_{index}"], value=onnx.numpy_helper.from_array(filled)
            ),
        ]
        starts.append(f"start_{index}")
    renamed = dict(zip(step_inputs[1 : 1 + len(parameters)], parameters, strict=True))
    body_nodes = []
    for node in step.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.input[:] = [renamed.get(value, value) for value in node.input]
        body_nodes.append(copied)
    # The results of a Scan's body must differ from each other and from what comes in.
    outputs: list[onnx.ValueInfoProto] = []
    for value in [*step.output[1:], step.output[int(traced.potentials)]]:
        result = onnx.ValueInfoProto()
        result.CopyFrom(value)
        result.name = f"out_{len(outputs)}"
        body_nodes.append(helper.make_node("Identity", [renamed.get(value.name, value.name)], [result.name]))
        outputs.append(result)
    states = list(step.input[1 + len(parameters) :])
    body = helper.make_graph(body_nodes, "step", [*states, step.input[0]], outputs)
    finals = [f"final_{index}" for index in range(count)]
    body.input[-1].name = "x_t"
    for node in body.node:
        node.input[:] = ["x_t" if value == step_inputs[0] else value for value in node.input]
    nodes.append(helper.make_node("Scan", [*starts, "x"], [*finals, "y"], body=body, num_scan_inputs=1))
    initial = starts if stateful else []
    return helper.make_function(
        DOMAIN, name, ["x", *parameters, *initial], ["y", *(finals if stateful else [])], nodes, [helper.make_opsetid("", opset)]
    )


def _parameter(index: int) -> str:
    return f"parameter_{index}"
