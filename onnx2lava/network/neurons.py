"""What turns sums into spikes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .maps import Array

__all__ = ["CubaNeuron", "FloatNeuron", "Neuron"]


@dataclass(frozen=True, eq=False)
class CubaNeuron:
    """Loihi's current-based leaky integrate-and-fire neuron; its arithmetic is ``custom_ops.reference.cuba_lif``.

    Where the neurons of a population differ, a parameter is an array, ``[C]`` (one per channel) or of the population's shape;
    one whose numbers are all the same becomes that number.

    Args:
        i_decay: decay of the current, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: decay of the voltage, likewise.
        v_threshold: threshold mantissa, 0 ... 131071; a neuron with a larger one never fires, which makes it a readout.
    """

    i_decay: int | Array
    v_decay: int | Array
    v_threshold: int | Array

    def __post_init__(self) -> None:
        for name, values in self.parameters():
            if isinstance(values, np.ndarray) and values.size and (values == values.flat[0]).all():
                object.__setattr__(self, name, int(values.flat[0]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CubaNeuron):
            return NotImplemented
        return all(
            np.array_equal(one, another) for (_, one), (_, another) in zip(self.parameters(), other.parameters(), strict=True)
        )

    def __hash__(self) -> int:
        return hash(tuple((np.shape(values), np.asarray(values).astype(np.int64).tobytes()) for _, values in self.parameters()))

    def parameters(self) -> Iterator[tuple[str, int | Array]]:
        """By name."""
        yield "i_decay", self.i_decay
        yield "v_decay", self.v_decay
        yield "v_threshold", self.v_threshold

    @property
    def alike(self) -> bool:
        """Whether all neurons of the population have the same parameters."""
        return not any(isinstance(values, np.ndarray) for _, values in self.parameters())


@dataclass(frozen=True)
class FloatNeuron:
    """A leaky integrate-and-fire neuron in real numbers, in the one form that reading leaves::

        u[t] = u[t-1] * (1 - i_decay) + a[t]
        v[t] = v[t-1] * (1 - v_decay) + u[t] + bias
        s[t] = v[t] >= v_threshold;    v[t] = 0 where s[t]

    starting from u = 0 and v = 0. SpikingJelly's IF, LIF and CUBALIF neurons with hard reset all come down to it.

    Args:
        v_decay: the share of the membrane potential that a time step loses, 0 ... 1.
        v_threshold: threshold, above 0.
        i_decay: the share of the synaptic current that a time step loses, 0 ... 1; 1 for IF and LIF, whose current is the sum.
        strict: whether it fires only above the threshold, ``v > v_threshold``, as NIR says and most of its producers do.
    """

    v_decay: float
    v_threshold: float
    i_decay: float = 1.0
    strict: bool = False


Neuron: TypeAlias = CubaNeuron | FloatNeuron
