"""Neuron operators of the domain ``snn``, and what their attributes say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from custom_ops.loihi import DECAY_UNIT
from custom_ops.operators import CUBA_LIF, CUBA_LIF_NODE, HETEROGENEOUS_CUBA_LIF, IF, LIF, THRESHOLD_LIMIT, Attribute

from ..network import CubaNeuron
from .call import Call

__all__ = ["NEURONS", "PARTS", "RealCubaNeuron", "SpikingNeuron"]


@dataclass(frozen=True)
class SpikingNeuron:
    """SpikingJelly's integrate-and-fire neurons, with leak or without; equations in ``custom_ops/operators/lif.py``.

    Args:
        v_threshold: the membrane potential from which on the neuron fires.
        v_reset: the potential after a spike, and that to which it leaks; None for a soft reset, which subtracts the threshold.
        decay: 1 / tau, the share that leaks in a time step; 0 for IF.
        decay_input: whether the input leaks as well.
    """

    v_threshold: float
    v_reset: float | None
    decay: float = 0.0
    decay_input: bool = False


@dataclass(frozen=True)
class RealCubaNeuron:
    """A CUBA neuron that reads real numbers; equations in ``custom_ops/operators/cuba_lif_node.py``.

    Args:
        i_decay: decay of the current, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: decay of the voltage, likewise.
        scale: weight units in 1.0; a state unit is 1/64 of one.
        lowest: the lowest voltage that fires, in state units.
    """

    i_decay: int
    v_decay: int
    scale: int
    lowest: int


def _cuba(call: Call) -> CubaNeuron:
    return CubaNeuron(**{name: int(value) for name, value in _attributes(call, CUBA_LIF.attributes).items()})


def _heterogeneous(call: Call) -> CubaNeuron:
    """Its parameters are inputs, the last three; ``graph.py`` arranges them as the neurons are."""
    values = [call.constant(len(call.inputs) - 3 + k) for k in range(3)]
    for (name, most), each in zip(_MOST.items(), values, strict=True):
        if each.dtype.kind not in "iu" or not each.size or each.min() < 0 or each.max() > most:
            call.refuse(f"its {name} are not all whole numbers in 0 ... {most:,}", "write them in that range")
    return CubaNeuron(*values)


_MOST = {"i_decay": DECAY_UNIT, "v_decay": DECAY_UNIT, "v_threshold": THRESHOLD_LIMIT}


def _real_cuba(call: Call) -> RealCubaNeuron:
    values = _attributes(call, CUBA_LIF_NODE.attributes)
    return RealCubaNeuron(int(values["i_decay"]), int(values["v_decay"]), int(values["scale"]), int(values["lowest"]))


def _integrate_and_fire(call: Call) -> SpikingNeuron:
    values = _attributes(call, IF.attributes)
    return SpikingNeuron(values["v_threshold"], values["v_reset"])


def _leaky(call: Call) -> SpikingNeuron:
    values = _attributes(call, LIF.attributes)
    tau, decay = values["tau"], values["decay"]
    if (tau is None) == (decay is None):
        call.refuse("it must carry exactly one of tau and decay", "write one of them")
    return SpikingNeuron(
        values["v_threshold"], values["v_reset"], 1 / tau if decay is None else decay, bool(values["decay_input"])
    )


def _attributes(call: Call, definitions: Sequence[Attribute]) -> dict[str, Any]:
    """The attributes of an operator, in range; None where one is left out that may be."""
    values: dict[str, Any] = {}
    attributes = call.node.attributes
    for definition in definitions:
        read = attributes.get_int if definition.kind == "int" else attributes.get_float
        value = call.attribute(read, definition.name, definition.default)
        low, high = definition.range
        if value is None and not definition.required:
            values[definition.name] = None
        elif value is None or not low <= value <= high:
            call.refuse(f"its attribute {definition.name} is {value}, not in {low:g} ... {high:g}", "write one in that range")
        else:
            values[definition.name] = value
    return values


NEURONS: Mapping[str, Callable[[Call], CubaNeuron | SpikingNeuron]] = {
    "CubaLIF": _cuba,
    HETEROGENEOUS_CUBA_LIF.name: _heterogeneous,
    "IF": _integrate_and_fire,
    "LIF": _leaky,
}
"""A new neuron is a line here; its equations belong to ``custom_ops/operators``. With ``Recurrent`` before its name, a neuron's
second input is the weight through which its spikes come back."""

PARTS: Mapping[str, Callable[[Call], CubaNeuron | SpikingNeuron | RealCubaNeuron]] = {**NEURONS, "CubaLIFNode": _real_cuba}
"""Neurons that a graph may be alone; what reads real numbers is no layer of a network on Loihi."""
