"""Which part of a layer's spikes a picture shows: one sample, some time steps, some neurons."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..network import Array

__all__ = ["NEURONS", "STEPS", "Disagreement", "Window", "choose_window", "first_disagreement"]

NEURONS = 32
"""The most neurons in a picture."""
STEPS = 128
"""The most time steps in a picture."""
_LEAD = 16  # time steps shown before the first disagreement


@dataclass(frozen=True)
class Disagreement:
    """Where two runtimes part for the first time.

    Args:
        runtime: which runtime differs from the reference.
        step: time step.
        sample: sample.
        neuron: index in the flattened layer.
    """

    runtime: str
    step: int
    sample: int
    neuron: int


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a layer.

    Args:
        sample: the sample shown.
        start: first time step.
        stop: one past the last time step.
        neurons: indices in the flattened layer, ascending.
    """

    sample: int
    start: int
    stop: int
    neurons: Array

    def cut(self, spikes: Array) -> Array:
        """``[neurons, steps]`` of ``spikes`` ``[T, N, *]``, as bool."""
        part = spikes[self.start : self.stop, self.sample].reshape(self.stop - self.start, -1)
        return np.asarray(part[:, self.neurons].T != 0)


def first_disagreement(spikes: Mapping[str, Array], reference: str) -> Disagreement | None:
    """The earliest time step in which a runtime differs from ``reference``; of several the first sample, then neuron.

    Args:
        spikes: the layer's spikes ``[T, N, *]`` by runtime.
        reference: which of them is right.
    """
    found = None
    for runtime, values in spikes.items():
        different = (values != spikes[reference]).reshape(*values.shape[:2], -1)
        steps = different.any(axis=(1, 2))
        if steps.any() and (found is None or int(steps.argmax()) < found.step):
            step = int(steps.argmax())
            sample, neuron = (int(index) for index in np.argwhere(different[step])[0])
            found = Disagreement(runtime, step, sample, neuron)
    return found


def choose_window(spikes: Array, disagreement: Disagreement | None) -> Window:
    """The first sample from its first step, with neurons spread evenly over those that fire; or what surrounds a disagreement.

    Args:
        spikes: the layer's spikes ``[T, N, *]`` in the reference runtime.
        disagreement: what has to be in the picture.
    """
    sample = disagreement.sample if disagreement else 0
    start = max(0, disagreement.step - _LEAD) if disagreement else 0
    stop = min(len(spikes), start + STEPS)
    fires = (spikes[start:stop, sample] != 0).reshape(stop - start, -1).any(axis=0)
    choice = np.flatnonzero(fires) if fires.any() else np.arange(fires.size)
    neurons = choice[np.linspace(0, len(choice) - 1, min(NEURONS, len(choice))).round().astype(int)]
    if disagreement and disagreement.neuron not in neurons:
        neurons[np.abs(neurons - disagreement.neuron).argmin()] = disagreement.neuron
    return Window(sample, start, stop, neurons)
