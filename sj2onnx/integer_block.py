"""The form in which a BlockContainer is exported: Loihi's whole numbers instead of quantised real ones."""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import base, layer
from torch import nn

from .blocks import BlockContainer, synaptic_sum
from .errors import BlockError, ExportError

__all__ = ["IntegerBlock", "use_integers"]


class IntegerBlock(nn.Module):
    """A BlockContainer in Loihi's integers.

    A norm is folded into weight, bias and threshold. The weight holds the even 8-bit weights as float32, so that the synapse
    gives whole synaptic sums; the neuron is one ``snn.CubaLIF`` node, which ``stateful.replace_neurons`` puts in place.

    Args:
        block: what it takes over.
        feedback: whether the block reads its own spikes of the step before as well, added to its input: the neuron is then one
            ``snn.RecurrentCubaLIF`` node.
        step_mode: that of the block by default.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    neuron: Callable[[torch.Tensor], torch.Tensor] | None

    def __init__(self, block: BlockContainer, feedback: bool = False, step_mode: str | None = None) -> None:
        super().__init__()
        self.synapse = block.synapse
        self.feedback = feedback
        self.step_mode = step_mode or block.step_mode
        self.neuron = None
        # Plain numbers: what reads a tensor while torch traces would become part of the graph.
        self.neuron_attributes: dict[str, int] | None = None
        self.register_buffer("bias", None)
        if block.neuron is not None:
            integers = block.integers()
            self.neuron_attributes = integers.neuron
            self.register_buffer("weight", integers.weight.to(torch.float32))
            self.bias = integers.bias

    @property
    def spikes(self) -> bool:
        """Whether the block has neurons; Flatten has none."""
        return self.neuron_attributes is not None

    def reset(self) -> None:
        """Let the neurons start anew, as ``functional.reset_net`` asks of every module that has a state."""
        if self.neuron is not None:
            self.neuron.reset()  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``[T, N, *]`` → spikes ``[T, N, *]`` (Flatten: the same values, flattened); in step mode ``"s"`` without T."""
        time_axes = int(self.step_mode == "m")
        if self.neuron is None:
            return x.flatten(1 + time_axes)
        if isinstance(self.synapse, nn.Linear) or not time_axes:  # MatMul takes time and batch as they are
            return self.neuron(synaptic_sum(self.synapse, x, self.weight))
        folded = synaptic_sum(self.synapse, x.flatten(0, 1), self.weight)
        return self.neuron(folded.reshape(*x.shape[:2], *folded.shape[1:]))


def use_integers(net: nn.Module) -> None:
    """Put an :class:`IntegerBlock` in the place of every BlockContainer of ``net``; changed in place.

    A fully connected block inside of an ElementWiseRecurrentContainer that adds becomes one with feedback: its weight then reads
    both the input and the block's own spikes.

    Raises:
        ExportError: a block inside of another recurrent container, or of any other stateful module; or one that Loihi has no
            numbers for.
    """
    for path, module in list(net.named_modules()):
        for name, child in list(module.named_children()):
            where = f"{path}.{name}" if path else name
            if isinstance(child, layer.ElementWiseRecurrentContainer) and isinstance(child.sub_module, BlockContainer):
                _require_recurrent(where, child)
                setattr(module, name, _in_integers(where, child.sub_module, feedback=True, step_mode=child.step_mode))
            elif isinstance(child, base.MemoryModule):
                inner = next((inside for inside, part in child.named_modules() if isinstance(part, BlockContainer)), None)
                if inner is not None:
                    raise ExportError(
                        f"The module {where!r} ({type(child).__name__}) runs the block {inner!r} step by step, on sums that are "
                        "not whole: use ElementWiseRecurrentContainer(block, lambda y, x: x + y) with a fully connected block."
                    )
            elif isinstance(child, BlockContainer):
                setattr(module, name, _in_integers(where, child))


def _in_integers(path: str, block: BlockContainer, feedback: bool = False, step_mode: str | None = None) -> IntegerBlock:
    try:
        return IntegerBlock(block, feedback, step_mode)
    except BlockError as error:
        raise ExportError(f"The module {path!r} (BlockContainer) cannot be exported: {error}") from error


def _require_recurrent(path: str, container: layer.ElementWiseRecurrentContainer) -> None:
    y, x = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    if not isinstance(container.sub_module.synapse, nn.Linear) or not torch.equal(container.element_wise_function(y, x), x + y):
        raise ExportError(
            f"The module {path!r} (ElementWiseRecurrentContainer) must add its spikes to the input of a fully connected block, "
            "which is what Loihi can do with them: use ElementWiseRecurrentContainer(block, lambda y, x: x + y) with a Linear."
        )
