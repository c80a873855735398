"""What a network costs on Loihi, from the spikes that it gives for some input."""

from .activity import Activity, Traffic, activity
from .cost import ENERGY, Cost, EnergyFigures, Estimate, estimate

__all__ = ["ENERGY", "Activity", "Cost", "EnergyFigures", "Estimate", "Traffic", "activity", "estimate"]
