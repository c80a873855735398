"""torch's exporter, quietly."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx_ir as ir
import torch
from spikingjelly._ops.if_ import reference as if_
from spikingjelly._ops.lif import reference as lif
from spikingjelly._ops.plif import reference as plif
from spikingjelly._ops.stbif import reference as stbif
from torch import nn
from torch.export import ExportedProgram

from .assignments import without_assignments
from .folding import fold_parameters, is_in_place
from .rolling import roll
from .sizes import Sizes, sizes_apart

__all__ = ["quiet", "to_onnx_ir"]


def to_onnx_ir(
    net: nn.Module,
    inputs: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    opset: int,
    names: Sequence[str],
    rolled_shapes: tuple[Any, ...] | None = None,
    fold: bool = True,
    apart: list[Sizes] | None = None,
) -> ir.Model:
    """What torch's exporter makes of ``net``, unoptimised.

    Args:
        net: what to trace.
        inputs: example inputs; sizes 0 and 1 would be taken for constants.
        dynamic_shapes: which of their sizes are free, as ``torch.export.export`` takes it.
        opset: version of the standard operators.
        names: of the graph's inputs and outputs, in this order.
        rolled_shapes: which sizes are free once loops over time are rolled up; None to leave such loops unrolled.
        fold: whether to compute what depends on parameters alone; not where the caller goes on to find them by their names.
        apart: takes the sizes that the network may treat apart from those that were traced.

    Raises:
        Exception: whatever torch or the network's own code raises; NotRegularError where a loop cannot be rolled up.
    """
    with quiet(), _one_registry():
        program = _exported(net, inputs, dynamic_shapes)
        if apart is not None:
            apart += sizes_apart(program, _names_of(dynamic_shapes))
        if rolled_shapes is not None:
            if any(is_in_place(node.target) for node in program.graph.nodes):
                program = program.run_decompositions({})
            program = _exported(roll(program), inputs, rolled_shapes)
            dynamic_shapes = rolled_shapes
            if apart is not None:
                apart += sizes_apart(program, _names_of(dynamic_shapes))
        plain = _plain_torch()
        if any(node.target in plain for node in program.graph.nodes):
            program = program.run_decompositions(plain)
        program = without_assignments(program)
        if fold:
            fold_parameters(program)
        exported = torch.onnx.export(
            program,
            inputs,
            dynamic_shapes=dynamic_shapes,
            opset_version=opset,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert exported is not None
    graph = exported.model.graph
    for value, name in zip([*graph.inputs, *graph.outputs], names, strict=False):
        value.name = name
    return exported.model


def _exported(net: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: tuple[Any, ...]) -> ExportedProgram:
    return torch.export.export(
        net, inputs, dynamic_shapes=dynamic_shapes, strict=False, prefer_deferred_runtime_asserts_over_guards=True
    )


def _names_of(dynamic_shapes: tuple[Any, ...]) -> dict[int, str]:
    return {axis: dim.__name__ for axis, dim in dynamic_shapes[0].items()}


def _plain_torch() -> dict[Any, Callable[..., Any]]:
    """SpikingJelly's own torch operators that have no decomposition, with the reference that it gives for each itself."""
    return {
        torch.ops.sj_stbif.forward.default: stbif._forward_impl,
        torch.ops.sj_if.forward.default: if_._forward_impl,
        torch.ops.sj_lif.forward.default: lif._forward_impl,
        torch.ops.sj_plif.forward.default: plif._forward_impl,
    }


@contextlib.contextmanager
def _one_registry() -> Iterator[None]:
    """Let torch build its table of operators once in a process: it does so for each export, for a third of an export's time."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        build = vars(ONNXRegistry)["from_torchlib"]
    except (ImportError, KeyError):  # no part of torch's interface: another version may have none
        yield
        return
    make = functools.partial(build.__func__, ONNXRegistry)
    ONNXRegistry.from_torchlib = staticmethod(lambda **of: _registry(make, **of))  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = build  # type: ignore[method-assign]


_REGISTRIES: dict[Any, Any] = {}


def _registry(make: Callable[..., Any], **of: Any) -> Any:
    key = tuple(sorted(of.items()))
    if key not in _REGISTRIES:
        _REGISTRIES[key] = make(**of)
    return _REGISTRIES[key]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from writing its progress, graphs and stack traces to people who asked for a file."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
