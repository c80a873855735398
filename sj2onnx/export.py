"""Export a SpikingJelly network as one ONNX file that any onnxruntime runs."""

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import onnx
import onnx_ir as ir
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from custom_ops import DOMAIN
from custom_ops.model_file import write_model
from custom_ops.operators import OPSET
from custom_ops.stream import STATES_KEY, StateInfo

from .blocks import BlockContainer
from .containers import unroll_containers
from .errors import ExportError
from .fixed_steps import fixed_steps
from .integer_block import IntegerBlock, use_integers
from .passes import clean
from .passes.spiking_outputs import expose_spikes
from .stateful import NodeCall, carry_states, network_step_mode, node_calls, replace_neurons, states_entry
from .torch_export import to_onnx_ir
from .whole_sequence import see_all_steps

__all__ = ["export"]

_IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
_OLDEST_OPSET = 18  # the oldest that torch's exporter writes


def export(
    net: nn.Module,
    example: torch.Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    outputs: Literal["last", "all"] = "last",
    stateful: bool = False,
    opset: int = OPSET,
    progress: Callable[[str], None] = lambda stage: None,
) -> onnx.ModelProto:
    """Export ``net`` as an ONNX model whose neurons are operators of the domain ``snn``.

    Each operator comes with its model-local function, so that the file runs on a stock onnxruntime ≥ 1.20. The graph input
    is ``input``, the output ``output``, both time first (``[T, N, *]``) with T and N dynamic. ``net`` is left as it is.

    With ``stateful``, each state of a neuron is an input ``<module path>.<state>`` and an output ``<module path>.<state>.next``,
    ``[N, *]``, so that a long recording runs in chunks; the metadata entry ``sj2lava.states`` lists them with the values that
    they start with, and :class:`custom_ops.Stream` carries them from call to call. A network in step mode ``s`` is exported
    so, as one step without time axis; :func:`custom_ops.over_time` makes a network over time of it.

    Args:
        net: a network in step mode ``m``, or in step mode ``s`` with ``stateful``. IFNode, LIFNode, ParametricLIFNode and
            the neurons of BlockContainers become operators of this project; every other stateful module becomes a function
            that is named after its class and traced from its own single-step function.
        example: an input ``[T, N, *]``, or ``[N, *]`` in step mode ``s``; only its shape and element type count, and T and N
            are free. T is that of the example where a layer has parameters for each time step, or a loop over them that is
            its own (``fixed_steps.py`` lists them).
        path: where to write the model; None writes nothing.
        outputs: ``"all"`` adds one output per spiking layer, named by its module path.
        stateful: whether states are inputs and outputs.
        opset: version of the standard operators, 18 … 21.
        progress: is told what is being done, for exports that take a while.

    Returns:
        The model, checked by ONNX's checker.

    Raises:
        ExportError: the network cannot be exported; the message names the module path, the class and the reason.
    """
    if not OPSET >= opset >= _OLDEST_OPSET:
        raise ExportError(f"Opset {opset} is not supported: choose one from {_OLDEST_OPSET} to {OPSET}.")
    if outputs not in ("last", "all"):
        raise ExportError(f"outputs={outputs!r} is not known: choose 'last' or 'all'.")
    progress("tracing the network")
    ready, step_mode = _prepared(net, stateful)
    axes, fewest = ("[T, N, *]", 3) if step_mode == "m" else ("[N, *]", 2)
    if not isinstance(example, torch.Tensor) or example.dim() < fewest or not example.is_floating_point():
        raise ExportError(f"The example must be a floating-point tensor of the shape {axes} with at least one more axis.")
    steps = fixed_steps(ready, example.shape[0]) if step_mode == "m" else None
    sample = _sampler(example, step_mode, steps)
    replace_neurons(ready, step_mode, sample, opset)
    calls = node_calls(ready)
    states = carry_states(ready, sample) if stateful else []
    model = _traced(ready, sample(2), step_mode, steps, states, opset)
    progress("tidying the graph")
    weights = {path: m.weight.numpy() for path, m in ready.named_modules() if isinstance(m, IntegerBlock) and m.spikes}
    # The weights of integer blocks are new; all other initialisers keep the names that the network gives them.
    clean(model, weights, {*ready.state_dict(), *(f"{path}.weight" for path in weights)})
    if model.graph.outputs[0] is model.graph.inputs[0]:  # a network of nothing but dropout, say
        _copy_input(model.graph)
    spiking = {call.path: call for call in calls if call.spiking}
    layers = expose_spikes(model, set(spiking), every_layer=outputs == "all")
    _describe(model, layers, spiking, step_mode, states)
    proto = ir.to_proto(model)
    _attach_functions(proto, calls, stateful, opset)
    progress("checking and writing the file")
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        write_model(proto, path)
    return proto


def _prepared(net: nn.Module, stateful: bool) -> tuple[nn.Module, str]:
    """A copy of ``net`` in eval mode that shares its tensors, its blocks in Loihi's integers; and its step mode."""
    tensors = [*net.parameters(), *net.buffers()]
    tensors += [value for m in net.modules() if isinstance(m, MemoryModule) for value in m.memories() if torch.is_tensor(value)]
    # Tensors elsewhere are copied, since the copy of the network then moves to the CPU.
    shared = {id(tensor): tensor for tensor in tensors if tensor.device.type == "cpu"}
    ready = copy.deepcopy(net, shared).cpu()
    if isinstance(ready, BlockContainer | MemoryModule):
        ready = nn.Sequential(ready)
    use_integers(ready)
    ready.eval()
    functional.reset_net(ready)
    unroll_containers(ready)
    see_all_steps(ready, stateful)
    return ready, network_step_mode(ready, stateful)


def _sampler(example: torch.Tensor, step_mode: str, steps: int | None) -> Callable[[int], torch.Tensor]:
    """Makes inputs like ``example``, with a number of samples to be given; in step mode ``m`` of ``steps`` steps, or two."""
    first, features = ([steps or 2], example.shape[2:]) if step_mode == "m" else ([], example.shape[1:])
    return lambda samples: torch.zeros(*first, samples, *features, dtype=example.dtype)


def _traced(
    net: nn.Module, sample: torch.Tensor, step_mode: str, steps: int | None, states: Sequence[StateInfo], opset: int
) -> ir.Model:
    """``net`` as torch's exporter sees it, with T and N as symbols.

    Args:
        net: takes ``sample`` and, if there are any, the states; gives its output and the final states.
        sample: an input of at least two steps and samples, since sizes 0 and 1 would be taken for constants.
        step_mode: whether the first axis is time.
        steps: the number of time steps where a layer fixes it.
        states: names, shapes and types of the states.
        opset: version of the standard operators.
    """
    batch = torch.export.Dim("N", min=1)
    time_axes = int(step_mode == "m")
    axes = {time_axes: batch}
    if time_axes and steps is None:
        axes[0] = torch.export.Dim("T", min=1)
    samples = sample.shape[time_axes]
    inputs: tuple[Any, ...] = (sample,)
    dynamic: tuple[Any, ...] = (axes,)
    if states:
        inputs += ([torch.zeros(samples, *state.shape, dtype=getattr(torch, state.type)) for state in states],)
        dynamic += ([{0: batch} for _ in states],)
    model = to_onnx_ir(
        net,
        inputs,
        dynamic,
        ["input", *(state.input for state in states)],
        ["output", *(state.output for state in states)],
        opset,
        type(net).__name__,
    )
    if len(model.graph.outputs) != 1 + len(states):
        raise ExportError(
            f"{type(net).__name__} gives {len(model.graph.outputs) - len(states)} tensors, but an exported network has one "
            "output: stack or choose among them in its forward."
        )
    return model


def _copy_input(graph: ir.Graph) -> None:
    source = graph.inputs[0]
    source.name = "input"
    copy = ir.Value(name="output", shape=source.shape, type=source.type)
    graph.append(ir.node("Identity", [source], outputs=[copy], name="output/Identity"))
    graph.outputs[0] = copy


def _describe(
    model: ir.Model, layers: Sequence[ir.Node], calls: Mapping[str, NodeCall], step_mode: str, states: Sequence[StateInfo]
) -> None:
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "sj2onnx", _version("sj2lava")
    model.graph.name = "network"
    model.metadata_props.clear()
    described = [{"name": _path(node), "operator": node.op_type, **calls[_path(node)].described} for node in layers]
    model.metadata_props.update(
        {
            "sj2lava.versions": json.dumps({name: _version(name) for name in ("sj2lava", "spikingjelly", "torch")}),
            "sj2lava.step_mode": step_mode,
            "sj2lava.layers": json.dumps(described),
        }
    )
    if step_mode == "m":
        model.metadata_props["sj2lava.time_axis"] = "0"
    if states:
        model.metadata_props[STATES_KEY] = states_entry(states)


def _path(node: ir.Node) -> str:
    assert node.name is not None
    return node.name.rpartition("/")[0]


def _attach_functions(proto: onnx.ModelProto, calls: Sequence[NodeCall], stateful: bool, opset: int) -> None:
    """Give the file the function body of every ``snn`` operator it uses."""
    used = {node.op_type for node in proto.graph.node if node.domain == DOMAIN}
    functions = {call.operator: call.function(stateful, opset) for call in calls if call.operator in used}
    proto.functions.extend(functions[name] for name in sorted(functions))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
