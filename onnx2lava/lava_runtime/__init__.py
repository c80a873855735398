"""Run any process graph of Lava on this machine's CPU, bit-accurate with Loihi: what NetX and our own graphs have in common."""

from .simulation import simulate

__all__ = ["simulate"]
