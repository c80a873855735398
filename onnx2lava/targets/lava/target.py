"""Lava as a target."""

from custom_ops.errors import RuntimeUnavailableError

from ...lava_machine import require_lava
from ...network import CubaNeuron, Network, Neuron
from ..base import Finding, Progress, Spikes, Target
from .checks import checked
from .forms import legalised
from .graph import run_populations
from .schedule import Relay, loop_without_time, schedule

__all__ = ["LAVA", "relays"]


class _Lava(Target):
    name = "lava"
    title = "Lava, as a process graph"

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

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        return run_populations(network, x, [each.name for each in network.populations], progress)


LAVA = _Lava()


def relays(network: Network[Neuron]) -> list[Relay]:
    """What has to stand between the populations on Lava so that spikes of paths of different length meet.

    Args:
        network: of any neurons.

    Returns:
        The relays in the order in which they run; none for a chain, and none where Lava cannot run the network's loops at all
        (then the target's ``check`` says so).
    """
    return [] if loop_without_time(network) else schedule(legalised(network)).relays
