"""NetX as a target."""

import tempfile
from pathlib import Path

from custom_ops.errors import RuntimeUnavailableError

from ...lava_machine import require_netx
from ...lava_runtime import RunConfig
from ...network import CubaNeuron, Network, Neuron
from ..base import Finding, Progress, Spikes, Target, require
from ..order import in_order
from .legalising import legalised
from .running import run_netx_layers
from .writing import save_netx

__all__ = ["NETX"]


class _NetX(Target):
    name = "netx"
    title = "NetX on Lava's simulation"

    def __init__(self, run_config: RunConfig | None = None) -> None:
        self._run_config = run_config

    def available(self) -> str | None:
        try:
            require_netx()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def check(self, network: Network[Neuron]) -> list[Finding]:
        return legalised(network)[1]

    def legalise(self, network: Network[CubaNeuron]) -> Network[CubaNeuron]:
        legal, findings = legalised(network)
        require(findings)
        return legal

    def configured(self, run_config: RunConfig) -> Target:
        return _NetX(run_config)

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        require_netx()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.net"
            save_netx(network, path)
            outputs = run_netx_layers(path, next(iter(x.values())), progress=progress, run_config=self._run_config)
        populations = in_order(network)
        found = {
            each.name: output.reshape(*output.shape[:2], *each.shape) for each, output in zip(populations, outputs, strict=True)
        }
        return {each.name: found[each.name] for each in network.populations}


NETX = _NetX()
