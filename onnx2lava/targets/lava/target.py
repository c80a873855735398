"""Lava as a target."""

from custom_ops.errors import RuntimeUnavailableError

from ...lava_machine import require_lava
from ...lava_runtime import RunConfig
from ...network import CubaNeuron, Network, Neuron
from ..base import Finding, Progress, Spikes, Target
from .checks import checked
from .forms import legalised
from .graph import run_populations
from .schedule import Schedule, schedule, too_early_or_late

__all__ = ["LAVA", "plan"]


class _Lava(Target):
    name = "lava"
    title = "Lava, as a process graph"

    def __init__(self, run_config: RunConfig | None = None) -> None:
        self._run_config = run_config

    def available(self) -> str | None:
        try:
            require_lava()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def check(self, network: Network[Neuron]) -> list[Finding]:
        return checked(network)

    def legalise(self, network: Network[CubaNeuron]) -> Network[CubaNeuron]:
        return legalised(network)

    def configured(self, run_config: RunConfig) -> Target:
        return _Lava(run_config)

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        return run_populations(network, x, [each.name for each in network.populations], progress, self._run_config)


LAVA = _Lava()


def plan(network: Network[Neuron]) -> Schedule | None:
    """When populations run on Lava, and what has to stand between them so that spikes of paths of different length meet.

    Args:
        network: of any neurons.

    Returns:
        None where Lava cannot bring spikes in time at all; then the target's ``check`` says so.
    """
    return None if too_early_or_late(network) else schedule(legalised(network))
