"""Back ends, one folder each, and the one table of them."""

from collections.abc import Mapping

from ..network import Network, Neuron
from .base import Finding, Progress, Spikes, Target, require
from .lava import LAVA, run_lava, to_lava
from .limits import chip, loihi
from .netx import NETX, run_netx, save_netx
from .numpy import NUMPY
from .onnx import ORT, ORT_NATIVE, to_onnx
from .slayer import SLAYER, to_slayer

__all__ = [
    "TARGETS",
    "Finding",
    "Progress",
    "Spikes",
    "Target",
    "findings",
    "require",
    "run_lava",
    "run_netx",
    "save_netx",
    "to_lava",
    "to_onnx",
    "to_slayer",
]

TARGETS: Mapping[str, Target] = {target.name: target for target in (ORT, ORT_NATIVE, NUMPY, SLAYER, NETX, LAVA)}
"""Where a network of Loihi's integers can run, by name."""


def findings(network: Network[Neuron]) -> list[Finding]:
    """Everything that is remarkable about ``network``: of the numbers that Loihi holds, of the chip, and of each target."""
    return [*loihi(network), *chip(network), *(finding for target in TARGETS.values() for finding in target.check(network))]
