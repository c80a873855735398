"""What is measured: the reference network and one layer of neurons, with their inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NETWORK", "NEURON", "TRAINING", "NeuronWorkload", "network_input", "neuron_input"]

Array = npt.NDArray[Any]

NETWORK = {"channels": 16, "image_size": 28, "steps": 32, "samples": 16}
"""The reference network at the size of its tutorial."""

TRAINING = {"channels": 16, "image_size": 28, "steps": 16, "samples": 32}
"""The same in training."""


@dataclass(frozen=True)
class NeuronWorkload:
    """One layer of neurons without a synapse.

    Args:
        steps: time steps.
        neurons: neurons of one sample.
        i_decay: current decay in 1/4096.
        v_decay: voltage decay in 1/4096.
        v_threshold: threshold mantissa.
    """

    steps: int = 64
    neurons: int = 65_536
    i_decay: int = 1024
    v_decay: int = 128
    v_threshold: int = 64

    @property
    def attributes(self) -> Mapping[str, int]:
        """As ``snn.CubaLIF`` has them."""
        return {"i_decay": self.i_decay, "v_decay": self.v_decay, "v_threshold": self.v_threshold}


NEURON = NeuronWorkload()


def network_input(samples: int) -> Array:
    """Poisson-coded noise ``[T, samples, 1, H, W]``, float32, the same on every machine."""
    size = NETWORK["image_size"]
    rng = np.random.default_rng(0)
    intensity = rng.random((1, NETWORK["samples"], 1, size, size)) ** 2
    spikes = rng.random((NETWORK["steps"], NETWORK["samples"], 1, size, size)) < intensity
    return np.asarray(spikes[:, :samples], np.float32)


def neuron_input(steps: int, samples: int, neurons: int) -> Array:
    """Synaptic sums in weight units ``[steps, samples, neurons]``, whole numbers as float32."""
    return np.random.default_rng(1).integers(-40, 60, (steps, samples, neurons)).astype(np.float32)
