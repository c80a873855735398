"""Run any process graph of Lava on this machine's CPU, bit-accurate with Loihi: what NetX and our own graphs have in common."""

from .named import NamedRunConfig
from .simulation import RunConfig, simulate

__all__ = ["NamedRunConfig", "RunConfig", "simulate"]
