"""slayer as a target."""

from typing import Any

import numpy as np

from custom_ops.errors import RuntimeUnavailableError

from ...lava_machine import require_slayer
from ...network import CubaNeuron, Network, Neuron
from ..base import Finding, Progress, Spikes, Target, require
from ..order import in_order
from .building import to_slayer
from .legalising import checked, legalised

__all__ = ["SLAYER"]


class _Slayer(Target):
    name = "slayer"
    title = "Lava-DL's slayer"

    def available(self) -> str | None:
        try:
            require_slayer()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def check(self, network: Network[Neuron]) -> list[Finding]:
        return checked(network)

    def legalise(self, network: Network[CubaNeuron]) -> Network[CubaNeuron]:
        require(checked(network))
        return legalised(network)

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        module: Any = to_slayer(network)
        import torch

        given = [torch.from_numpy(np.moveaxis(x[name], 0, -1).copy()) for name in network.inputs]
        found = {}
        with torch.no_grad():
            if isinstance(module, torch.nn.Sequential):
                (spikes,) = given
                blocks = iter(in_order(network))
                for part in module:
                    spikes = part(spikes)
                    if hasattr(part, "neuron"):
                        found[next(blocks).name] = spikes
            else:
                found = module.spikes(*given)
        steps, samples = next(iter(x.values())).shape[:2]
        return {
            each.name: np.moveaxis(found[each.name].numpy(), -1, 0).reshape(steps, samples, *each.shape)
            for each in network.populations
        }


SLAYER = _Slayer()
