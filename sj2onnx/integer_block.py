"""The form in which a BlockContainer is exported: Loihi's whole numbers instead of quantised real ones."""

import torch
from torch import nn

from .blocks import BlockContainer, synaptic_sum
from .emit import emit
from .errors import ExportError

__all__ = ["IntegerBlock"]


class IntegerBlock(nn.Module):
    """A BlockContainer in Loihi's integers, for multi-step input ``[T, N, *]``.

    The weight holds the even 8-bit weights as float32, so that the synapse gives whole synaptic sums; the neuron is one
    ``snn.CubaLIF`` node.
    """

    weight: torch.Tensor

    def __init__(self, block: BlockContainer, path: str) -> None:
        """Take over ``block``, found at the module path ``path``.

        Raises:
            ExportError: the block works single-step.
        """
        super().__init__()
        if block.step_mode != "m":
            raise ExportError(
                f"The module {path!r} (BlockContainer) works in step mode 's', which has no time axis to export: "
                "set the network to step mode 'm' first (functional.set_step_mode(net, 'm'))."
            )
        self.synapse = block.synapse
        # Plain numbers: what reads a tensor while torch traces would become part of the graph.
        self.neuron_attributes = block.neuron.device_params if block.neuron is not None else None
        if block.neuron is not None:
            self.register_buffer("weight", block.integer_weight().to(torch.float32))

    @property
    def spikes(self) -> bool:
        """Whether the block has neurons; Flatten has none."""
        return self.neuron_attributes is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``[T, N, *]`` → spikes ``[T, N, *]`` (for Flatten: the same values, flattened)."""
        if self.neuron_attributes is None:
            return x.flatten(2)
        if isinstance(self.synapse, nn.Linear):  # MatMul takes time and batch as they are
            a = synaptic_sum(self.synapse, x, self.weight)
        else:
            folded = synaptic_sum(self.synapse, x.flatten(0, 1), self.weight)
            a = folded.reshape(*x.shape[:2], *folded.shape[1:])
        return emit("CubaLIF", [a], self.neuron_attributes, [a])[0]
