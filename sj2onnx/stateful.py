"""Let every stateful module of a network stand for a node while torch traces it."""

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from .emit import emit
from .errors import ExportError
from .neurons import Translation, translation

__all__ = ["replace_neurons"]


def replace_neurons(net: nn.Module) -> None:
    """Give each neuron of ``net`` a forward pass that is one node of the domain ``snn``; changed in place.

    Raises:
        ExportError: a stateful module has no such node.
    """
    for path, module in net.named_modules():
        if not isinstance(module, MemoryModule) or not module._memories:
            continue
        if type(module).__module__.endswith("layer.dropout") and not module.training:
            continue
        found = translation(module)
        if found is None:
            raise ExportError(f"The module {path!r} ({type(module).__name__}) is a neuron that this version does not export.")
        if module.step_mode != "m":
            raise ExportError(
                f"The module {path!r} ({type(module).__name__}) works in step mode 's', which has no time axis to export: "
                "set the network to step mode 'm' first (functional.set_step_mode(net, 'm'))."
            )
        # The instance keeps its class and attributes, so that whatever the network asks of them still holds.
        module.forward = _NeuronCall(path, module, found)


class _NeuronCall:
    """What a neuron's ``forward`` is while torch traces."""

    def __init__(self, path: str, module: nn.Module, found: Translation) -> None:
        self._name = f"The module {path!r} ({type(module).__name__})"
        self._operator = found.operator
        # Plain numbers: what reads a tensor while torch traces would become part of the graph.
        self._attributes = dict(found.attributes(module))
        self._called = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._called:
            raise ExportError(
                f"{self._name} is used twice in one run, so that its state passes from one place to another: "
                "use two neuron modules."
            )
        self._called = True
        if x.dtype != torch.float32:
            raise ExportError(f"{self._name} gets {x.dtype}, but neurons are exported in float32: use net.float().")
        return emit(self._operator, [x], self._attributes, [x])[0]
