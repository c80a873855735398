"""Put a node of the domain ``snn`` into a graph that torch is tracing."""

from collections.abc import Mapping, Sequence

import torch

from custom_ops import DOMAIN, VERSION

__all__ = ["emit"]


def emit(
    operator: str,
    inputs: Sequence[torch.Tensor | None],
    attributes: Mapping[str, int | float],
    outputs: Sequence[torch.Tensor],
    notes: Mapping[str, str] | None = None,
) -> Sequence[torch.Tensor]:
    """Stand for one ``snn`` node: its results have the shapes and types of ``outputs``, and no values.

    Args:
        operator: the operator's name.
        inputs: its inputs in order, None for an optional one that is left out.
        attributes: its attributes.
        outputs: one tensor for each output that the node has, of the same shape and element type.
        notes: metadata of the node.
    """
    return torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{operator}",
        inputs,
        dict(attributes),
        dtypes=[value.dtype for value in outputs],
        shapes=[value.shape for value in outputs],
        version=VERSION,
        metadata_props=dict(notes or {}),
    )
