"""Neuron operators of the domain ``snn``, and what they are before lowering."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from custom_ops.operators import CUBA_LIF, CUBA_LIF_NODE, IF, LIF, Attribute

from ..layers import RealCubaNeuron, SpikingNeuron
from ..network import CubaNeuron
from .signal import attribute, refusal

__all__ = ["NEURONS", "PARTS"]


def _cuba(node: ir.Node) -> CubaNeuron:
    return CubaNeuron(**{name: int(value) for name, value in _attributes(node, CUBA_LIF.attributes).items()})


def _real_cuba(node: ir.Node) -> RealCubaNeuron:
    values = _attributes(node, CUBA_LIF_NODE.attributes)
    return RealCubaNeuron(int(values["i_decay"]), int(values["v_decay"]), int(values["scale"]), int(values["lowest"]))


def _integrate_and_fire(node: ir.Node) -> SpikingNeuron:
    values = _attributes(node, IF.attributes)
    return SpikingNeuron(values["v_threshold"], values["v_reset"])


def _leaky(node: ir.Node) -> SpikingNeuron:
    values = _attributes(node, LIF.attributes)
    tau, decay = values["tau"], values["decay"]
    if (tau is None) == (decay is None):
        raise refusal(node, "it must carry exactly one of tau and decay", "export it again")
    return SpikingNeuron(
        values["v_threshold"], values["v_reset"], 1 / tau if decay is None else decay, bool(values["decay_input"])
    )


def _attributes(node: ir.Node, definitions: Sequence[Attribute]) -> dict[str, Any]:
    """The attributes of an operator, in range; None where one is left out that may be."""
    values: dict[str, Any] = {}
    for definition in definitions:
        read = node.attributes.get_int if definition.kind == "int" else node.attributes.get_float
        value = attribute(node, read, definition.name, definition.default)
        low, high = definition.range
        if value is None and not definition.required:
            values[definition.name] = None
        elif value is None or not low <= value <= high:
            raise refusal(node, f"its attribute {definition.name} is {value}, not in {low:g} ... {high:g}", "export it again")
        else:
            values[definition.name] = value
    return values


NEURONS: Mapping[str, Callable[[ir.Node], CubaNeuron | SpikingNeuron]] = {
    "CubaLIF": _cuba,
    "IF": _integrate_and_fire,
    "LIF": _leaky,
    "RecurrentCubaLIF": _cuba,
}
"""A new neuron is a line here; its equations belong to ``custom_ops/operators``."""

PARTS: Mapping[str, Callable[[ir.Node], CubaNeuron | SpikingNeuron | RealCubaNeuron]] = {**NEURONS, "CubaLIFNode": _real_cuba}
"""Neurons that a graph may be alone; what reads real numbers is no layer of a network on Loihi."""
