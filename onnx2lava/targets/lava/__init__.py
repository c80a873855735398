"""Lava: any graph as a process of Lava's own synapses and neurons."""

from .graph import run_lava, to_lava
from .schedule import Relay, Schedule, schedule
from .target import LAVA, plan

__all__ = ["LAVA", "Relay", "Schedule", "plan", "run_lava", "schedule", "to_lava"]
