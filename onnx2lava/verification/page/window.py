"""Which part of a layer's spikes a picture shows: one sample, some time steps, some neurons."""

from dataclasses import dataclass

import numpy as np

from ...network import Array
from ..counts import Disagreement

__all__ = ["NEURONS", "STEPS", "Window", "choose_window"]

NEURONS = 32
"""The most neurons in a picture."""
STEPS = 128
"""The most time steps in a picture."""
_LEAD = 16  # time steps shown before the first disagreement


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a layer in one sample.

    Args:
        sample: the number of the sample shown.
        start: first time step.
        stop: one past the last time step.
        neurons: indices in the flattened layer, ascending.
    """

    sample: int
    start: int
    stop: int
    neurons: Array

    def cut(self, spikes: Array) -> Array:
        """``[neurons, steps]`` of the sample's ``spikes`` ``[T, *shape]``, as bool."""
        part = spikes[self.start : self.stop].reshape(self.stop - self.start, -1)
        return np.asarray(part[:, self.neurons].T != 0)


def choose_window(spikes: Array, sample: int, disagreement: Disagreement | None) -> Window:
    """The first time steps, with neurons spread evenly over those that fire; or what surrounds a disagreement.

    Args:
        spikes: the sample's spikes ``[T, *shape]`` in the reference runtime.
        sample: its number.
        disagreement: what has to be in the picture.
    """
    start = max(0, disagreement.step - _LEAD) if disagreement else 0
    stop = min(len(spikes), start + STEPS)
    fires = (spikes[start:stop] != 0).reshape(stop - start, -1).any(axis=0)
    choice = np.flatnonzero(fires) if fires.any() and fires.size > NEURONS else np.arange(fires.size)
    neurons = choice[np.linspace(0, len(choice) - 1, min(NEURONS, len(choice))).round().astype(int)]
    if disagreement and disagreement.neuron not in neurons:
        neurons[np.abs(neurons - disagreement.neuron).argmin()] = disagreement.neuron
    return Window(sample, start, stop, neurons)
