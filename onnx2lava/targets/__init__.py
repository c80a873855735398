"""Back ends, one folder each."""

from .base import Finding, Progress, Spikes, Target, require

__all__ = ["Finding", "Progress", "Spikes", "Target", "require"]
