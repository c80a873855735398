"""What turns sums into spikes."""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["CubaNeuron", "FloatNeuron", "Neuron"]


@dataclass(frozen=True)
class CubaNeuron:
    """Loihi's current-based leaky integrate-and-fire neuron; its arithmetic is ``custom_ops.reference.cuba_lif``.

    Args:
        i_decay: decay of the current, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: decay of the voltage, likewise.
        v_threshold: threshold mantissa, 0 ... 131071.
    """

    i_decay: int
    v_decay: int
    v_threshold: int


@dataclass(frozen=True)
class FloatNeuron:
    """A leaky integrate-and-fire neuron in real numbers, in the one form that reading leaves::

        v[t] = v[t-1] * (1 - v_decay) + a[t] + bias
        s[t] = v[t] >= v_threshold;    v[t] = 0 where s[t]

    starting from v = 0. SpikingJelly's IF and LIF neurons with hard reset all come down to it.

    Args:
        v_decay: the share of the membrane potential that a time step loses, 0 ... 1.
        v_threshold: threshold, above 0.
    """

    v_decay: float
    v_threshold: float


Neuron: TypeAlias = CubaNeuron | FloatNeuron
