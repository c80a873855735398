"""Which part of a layer the page shows: some samples, some time steps, some neurons."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...network import Array
from ..counts import Disagreement

__all__ = ["NEURONS", "STEPS", "Window", "choose_window"]

NEURONS = 32
"""The most neurons of a layer on the page."""
STEPS = 256
"""The most time steps on the page."""
_LEAD = 16  # time steps shown before the first disagreement


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a layer.

    Args:
        start: first time step.
        stop: one past the last time step.
        neurons: indices in the flattened layer, ascending.
    """

    start: int
    stop: int
    neurons: Array

    def cut(self, values: Array) -> Array:
        """``[neurons, steps]`` of one sample's ``values`` ``[T, *shape]``."""
        part = values[self.start : self.stop].reshape(self.stop - self.start, -1)
        return np.ascontiguousarray(part[:, self.neurons].T)


def choose_window(samples: Sequence[Array], disagreement: Disagreement | None) -> Window:
    """The first time steps, with neurons spread evenly over those that fire; or what surrounds a disagreement.

    Args:
        samples: spikes ``[T, *shape]`` of one or several samples.
        disagreement: what has to be seen.
    """
    start = max(0, disagreement.step - _LEAD) if disagreement and disagreement.step >= STEPS else 0
    stop = min(len(samples[0]), start + STEPS)
    fires = np.any([(each[start:stop] != 0).reshape(stop - start, -1).any(axis=0) for each in samples], axis=0)
    choice = np.flatnonzero(fires) if fires.any() and fires.size > NEURONS else np.arange(fires.size)
    neurons = choice[np.linspace(0, len(choice) - 1, min(NEURONS, len(choice))).round().astype(int)]
    if disagreement and disagreement.neuron not in neurons:
        neurons[np.abs(neurons - disagreement.neuron).argmin()] = disagreement.neuron
    return Window(start, stop, np.sort(neurons))
