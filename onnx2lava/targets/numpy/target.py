"""The reference as a target."""

from ...network import CubaNeuron, Network
from ..base import Progress, Spikes, Target, require
from ..limits import loihi
from .simulation import simulate

__all__ = ["NUMPY"]


class _NumPy(Target):
    name = "numpy"
    title = "NumPy reference"

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        require(loihi(network))
        return simulate(network, x)


NUMPY = _NumPy()
