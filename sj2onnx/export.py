"""Export a SpikingJelly network as one ONNX file that any onnxruntime runs."""

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import onnx
import onnx_ir as ir
import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from custom_ops import DOMAIN, OPERATORS
from custom_ops.model_file import write_model
from custom_ops.operators import OPSET, Form

from .blocks import BlockContainer
from .errors import ExportError
from .integer_block import IntegerBlock
from .passes import clean
from .passes.spiking_outputs import expose_spikes
from .stateful import replace_neurons

__all__ = ["export"]

_IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
_OLDEST_OPSET = 18  # the oldest that torch's exporter writes


def export(
    net: nn.Module,
    example: torch.Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    outputs: Literal["last", "all"] = "last",
    opset: int = OPSET,
    progress: Callable[[str], None] = lambda stage: None,
) -> onnx.ModelProto:
    """Export ``net`` as an ONNX model whose neurons are operators of the domain ``snn``.

    Each operator comes with its model-local function, so that the file runs on a stock onnxruntime ≥ 1.20. The graph input
    is ``input``, the output ``output``, both time first (``[T, N, *]``) with T and N dynamic. ``net`` is left as it is.

    Args:
        net: a network in step mode ``m``; its neurons in BlockContainers, or IFNode, LIFNode and ParametricLIFNode.
        example: an input ``[T, N, *]``; only its shape and element type count, and T and N are free.
        path: where to write the model; None writes nothing.
        outputs: ``"all"`` adds one output per spiking layer, named by its module path.
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
    if not isinstance(example, torch.Tensor) or example.dim() < 3 or not example.is_floating_point():
        raise ExportError("The example must be a floating-point tensor of the shape [T, N, *] with at least one more axis.")
    progress("tracing the network")
    ready = _prepared(net)
    model = _traced(ready, example, opset)
    progress("tidying the graph")
    weights = {path: m.weight.numpy() for path, m in ready.named_modules() if isinstance(m, IntegerBlock) and m.spikes}
    # The weights of integer blocks are new; all other initialisers keep the names that the network gives them.
    clean(model, weights, {*ready.state_dict(), *(f"{path}.weight" for path in weights)})
    layers = expose_spikes(model, every_layer=outputs == "all")
    _describe(model, layers)
    proto = ir.to_proto(model)
    _attach_functions(proto, opset)
    progress("checking and writing the file")
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        write_model(proto, path)
    return proto


def _prepared(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in eval mode that shares its tensors, with every block in the form in which it is exported."""
    tensors = [*net.parameters(), *net.buffers()]
    tensors += [value for m in net.modules() if isinstance(m, MemoryModule) for value in m.memories() if torch.is_tensor(value)]
    # Tensors elsewhere are copied, since the copy of the network then moves to the CPU.
    shared = {id(tensor): tensor for tensor in tensors if tensor.device.type == "cpu"}
    ready = copy.deepcopy(net, shared).cpu()
    if isinstance(ready, BlockContainer | MemoryModule):
        ready = nn.Sequential(ready)
    for path, module in list(ready.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BlockContainer):
                setattr(module, name, IntegerBlock(child, f"{path}.{name}" if path else name))
    ready.eval()
    replace_neurons(ready)
    return ready


def _traced(net: nn.Module, example: torch.Tensor, opset: int) -> ir.Model:
    """``net`` as torch's exporter sees it, with T and N as symbols."""
    # Sizes 0 and 1 would be taken for constants.
    steps, batch = max(example.shape[0], 2), max(example.shape[1], 2)
    sample = torch.zeros(steps, batch, *example.shape[2:], dtype=example.dtype)
    dynamic = ({0: torch.export.Dim("T", min=1), 1: torch.export.Dim("N", min=1)},)
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                net, (sample,), dynamic_shapes=dynamic, strict=False, prefer_deferred_runtime_asserts_over_guards=True
            )
            exported = torch.onnx.export(
                program,
                (sample,),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=dynamic,
                opset_version=opset,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except ExportError:
        raise
    except Exception as error:  # torch raises whatever the network's own code raised
        reason = " ".join(str(error).split())
        raise ExportError(f"{type(net).__name__} cannot be traced by torch: {reason}") from error
    assert exported is not None
    return exported.model


class _quiet:  # noqa: N801  (a context manager, used like a function)
    """Keep torch from logging its progress, and stack traces of what becomes an error, to people who asked for a file."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)


def _describe(model: ir.Model, layers: list[ir.Node]) -> None:
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "sj2onnx", _version("sj2lava")
    model.graph.name = "network"
    model.metadata_props.clear()
    described = [
        {"name": _path(n), "operator": n.op_type, **{key: value.value for key, value in n.attributes.items()}} for n in layers
    ]
    model.metadata_props.update(
        {
            "sj2lava.versions": json.dumps({name: _version(name) for name in ("sj2lava", "spikingjelly", "torch")}),
            "sj2lava.step_mode": "m",
            "sj2lava.time_axis": "0",
            "sj2lava.layers": json.dumps(described),
        }
    )


def _path(node: ir.Node) -> str:
    assert node.name is not None
    return node.name.rpartition("/")[0]


def _attach_functions(proto: onnx.ModelProto, opset: int) -> None:
    """Give the file the function body of every ``snn`` operator it uses."""
    for operator in sorted({node.op_type for node in proto.graph.node if node.domain == DOMAIN}):
        function = OPERATORS[operator].function(Form())
        function.opset_import[0].version = opset
        proto.functions.append(function)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
