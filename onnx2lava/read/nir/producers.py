"""What the numbers of a NIR graph mean in steps of time: NIR says differential equations, and each producer has its own steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import expm1

from ...errors import ConversionError

__all__ = ["DT", "PRODUCERS", "Producer", "producer"]

DT = 1e-4
"""Seconds of a time step, as NIR's own importers have them by default."""


def _euler(tau: float, dt: float) -> float:
    return dt / tau


def _norse(tau: float, dt: float) -> float:
    # Its exporter writes dt / tau_mem_inv, and its steps are dt * tau_mem_inv.
    return dt * dt / tau


def _exponential(tau: float, dt: float) -> float:
    # Its exporter writes tau in steps, whatever dt.
    return -expm1(-1 / tau)


@dataclass(frozen=True)
class Producer:
    """How a tool takes a step.

    Args:
        title: its name.
        share: of a time constant and a time step, the share of a state that a step loses. Its input enters with that share as
            well: ``v += share * ((v_leak - v) + r * i)``.
        strict: whether a neuron fires only above its threshold.
        integrates: whether the voltage of IF takes ``r * dt`` of its input in a step, and not ``r``.
        jumps: whether the current of CubaLIF takes its whole input, and not ``share`` of it.
    """

    title: str
    share: Callable[[float, float], float]
    strict: bool
    integrates: bool = True
    jumps: bool = False


PRODUCERS: Mapping[str, Producer] = {
    "spikingjelly": Producer("SpikingJelly", _euler, strict=False),
    "snntorch": Producer("snnTorch", _euler, strict=True),
    "norse": Producer("Norse", _norse, strict=True, integrates=False, jumps=True),
    "sinabs": Producer("Sinabs", _exponential, strict=False, integrates=False),
}
"""A new producer is a line here; docs/nir.md has the same table in words."""


def producer(name: str) -> Producer:
    """The producer ``name``.

    Raises:
        ConversionError: there is none.
    """
    if name not in PRODUCERS:
        raise ConversionError(f"There is no producer {name!r} of NIR: choose from {', '.join(PRODUCERS)}.")
    return PRODUCERS[name]
