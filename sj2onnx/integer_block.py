"""The form in which a BlockContainer is exported: Loihi's whole numbers instead of quantised real ones."""

from collections.abc import Callable

import torch
from torch import nn

from .blocks import BlockContainer, synaptic_sum

__all__ = ["IntegerBlock"]


class IntegerBlock(nn.Module):
    """A BlockContainer in Loihi's integers.

    The weight holds the even 8-bit weights as float32, so that the synapse gives whole synaptic sums; the neuron is one
    ``snn.CubaLIF`` node, which ``stateful.replace_neurons`` puts in place.
    """

    weight: torch.Tensor
    neuron: Callable[[torch.Tensor], torch.Tensor] | None

    def __init__(self, block: BlockContainer) -> None:
        """Take over ``block``."""
        super().__init__()
        self.synapse = block.synapse
        self.step_mode = block.step_mode
        self.neuron = None
        # Plain numbers: what reads a tensor while torch traces would become part of the graph.
        self.neuron_attributes = dict(block.neuron.device_params) if block.neuron is not None else None
        if block.neuron is not None:
            self.register_buffer("weight", block.integer_weight().to(torch.float32))

    @property
    def spikes(self) -> bool:
        """Whether the block has neurons; Flatten has none."""
        return self.neuron_attributes is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``[T, N, *]`` → spikes ``[T, N, *]`` (Flatten: the same values, flattened); in step mode ``"s"`` without T."""
        time_axes = int(self.step_mode == "m")
        if self.neuron is None:
            return x.flatten(1 + time_axes)
        if isinstance(self.synapse, nn.Linear) or not time_axes:  # MatMul takes time and batch as they are
            return self.neuron(synaptic_sum(self.synapse, x, self.weight))
        folded = synaptic_sum(self.synapse, x.flatten(0, 1), self.weight)
        return self.neuron(folded.reshape(*x.shape[:2], *folded.shape[1:]))
