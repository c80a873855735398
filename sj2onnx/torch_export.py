"""torch's exporter, quietly."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from spikingjelly._ops.stbif import reference as stbif
from torch import nn

from .errors import ExportError

__all__ = ["to_onnx_ir"]


def to_onnx_ir(
    net: nn.Module,
    inputs: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
    who: str,
) -> ir.Model:
    """What torch's exporter makes of ``net``, unoptimised.

    Args:
        net: what to trace.
        inputs: example inputs; sizes 0 and 1 would be taken for constants.
        dynamic_shapes: which of their sizes are free, as ``torch.export.export`` takes it.
        input_names: of the graph.
        output_names: of the graph.
        opset: version of the standard operators.
        who: how messages name ``net``.

    Raises:
        ExportError: torch cannot trace it.
    """
    try:
        with warnings.catch_warnings(), _Quiet():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                net, inputs, dynamic_shapes=dynamic_shapes, strict=False, prefer_deferred_runtime_asserts_over_guards=True
            )
            plain = _plain_torch()
            if any(node.target in plain for node in program.graph.nodes):
                program = program.run_decompositions(plain)
            exported = torch.onnx.export(
                program,
                inputs,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=dynamic_shapes,
                opset_version=opset,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except ExportError:
        raise
    except Exception as error:  # torch raises whatever the network's own code raised
        reason = " ".join(str(error).split())
        raise ExportError(f"{who} cannot be traced by torch: {reason}") from error
    assert exported is not None
    return exported.model


def _plain_torch() -> dict[Any, Callable[..., Any]]:
    """SpikingJelly's own torch operators that have no decomposition, with the reference that it gives for each itself."""
    return {torch.ops.sj_stbif.forward.default: stbif._forward_impl}


class _Quiet:
    """Keep torch from logging its progress, and stack traces of what becomes an error, to people who asked for a file."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)
