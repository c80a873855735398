"""Neuron operators of the domain ``snn``, and what their attributes say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from custom_ops.loihi import DECAY_UNIT
from custom_ops.operators import (
    CUBA_LIF,
    CUBA_LIF_NODE,
    HETEROGENEOUS_CUBA_LIF,
    OPERATORS,
    THRESHOLD_LIMIT,
    Operator,
    SpikingNeuron,
)

from ..network import CubaNeuron
from .call import Call

__all__ = ["RealCubaNeuron", "neuron_of", "part_of"]


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
    return CubaNeuron(**{name: int(value) for name, value in _attributes(call, CUBA_LIF).items()})


def _heterogeneous(call: Call) -> CubaNeuron:
    """Its parameters are inputs, the last three; ``graph.py`` arranges them as the neurons are."""
    values = [call.constant(len(call.inputs) - 3 + k) for k in range(3)]
    for (name, most), each in zip(_MOST.items(), values, strict=True):
        if each.dtype.kind not in "iu" or not each.size or each.min() < 0 or each.max() > most:
            call.refuse(f"its {name} are not all whole numbers in 0 ... {most:,}", "write them in that range")
    return CubaNeuron(*values)


_MOST = {"i_decay": DECAY_UNIT, "v_decay": DECAY_UNIT, "v_threshold": THRESHOLD_LIMIT}


def _real_cuba(call: Call) -> RealCubaNeuron:
    values = _attributes(call, CUBA_LIF_NODE)
    return RealCubaNeuron(int(values["i_decay"]), int(values["v_decay"]), int(values["scale"]), int(values["lowest"]))


def _real(operator: Operator, on_loihi: Callable[[Mapping[str, Any]], SpikingNeuron], call: Call) -> SpikingNeuron:
    return on_loihi(_attributes(call, operator))


def _attributes(call: Call, operator: Operator) -> dict[str, Any]:
    """The attributes of an operator, in range; None where one is left out that may be."""
    values: dict[str, Any] = {}
    attributes = call.node.attributes
    for definition in operator.attributes:
        read = attributes.get_int if definition.kind == "int" else attributes.get_float
        value = call.attribute(read, definition.name, definition.default)
        low, high = definition.range
        if value is None and not definition.required:
            values[definition.name] = None
        elif value is None or not low <= value <= high:
            call.refuse(f"its attribute {definition.name} is {value}, not in {low:g} ... {high:g}", "write one in that range")
        else:
            values[definition.name] = value
    if operator.one_of and sum(values[name] is not None for name in operator.one_of) != 1:
        call.refuse(f"it must carry exactly one of {' and '.join(operator.one_of)}", "write one of them")
    return values


_INTEGER: Mapping[str, Callable[[Call], CubaNeuron]] = {CUBA_LIF.name: _cuba, HETEROGENEOUS_CUBA_LIF.name: _heterogeneous}


def neuron_of(kind: str) -> Callable[[Call], CubaNeuron | SpikingNeuron] | None:
    """What reads a neuron's node: Loihi's own by their names, all others as their definitions in ``custom_ops/operators`` say.

    With ``Recurrent`` before its name, a neuron's second input is the weight through which its spikes come back.

    Args:
        kind: name of an operator of the domain ``snn``, without ``Recurrent``; None is the answer where Loihi has no such neuron.
    """
    operator = OPERATORS.get(kind)
    if kind in _INTEGER or operator is None or operator.on_loihi is None:
        return _INTEGER.get(kind)
    return partial(_real, operator, operator.on_loihi)


def part_of(kind: str) -> Callable[[Call], CubaNeuron | SpikingNeuron | RealCubaNeuron] | None:
    """Likewise for a graph that is one neuron; what reads real numbers is no layer of a network on Loihi."""
    return _real_cuba if kind == CUBA_LIF_NODE.name else neuron_of(kind)
