"""A node with the values that it reads, as operators see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
import onnx_ir as ir

from custom_ops.loihi import CORES_PER_CHIP, NEURONS_PER_CORE

from ..errors import ConversionError
from ..network import Array, Shape
from .axes import SAMPLES
from .budget import Budget
from .form import Form, filled_form

__all__ = ["Call", "Cases", "Filled", "HostValue", "Operator", "Value", "described", "refusal"]


@dataclass(frozen=True)
class Filled:
    """A constant of one number, as large as time and batch make it: zeros before delayed spikes, a state to start from.

    Args:
        dims: its shape, with the stand-ins for T and N.
        value: the number.
    """

    dims: Shape
    value: float


@dataclass(frozen=True, eq=False)
class Cases:
    """Inside a loop, a value that spikes decide about: one thing where ``drive`` is at least 0, another elsewhere.

    Args:
        drive: what is compared.
        on: the value where its neuron fires, element by element.
        off: the value elsewhere.
        strict: whether it fires where ``drive`` is above 0 only.
    """

    drive: Form
    on: Form
    off: Form
    strict: bool = False


@dataclass(frozen=True)
class HostValue:
    """Something made of images, before they are spikes: it stays on the host, whatever it is.

    Args:
        dims: its shape, with the stand-ins for T and N; None if the file does not say it.
    """

    dims: Shape | None


Value: TypeAlias = Array | Form | Filled | Cases | HostValue | str
"""A string says why a value is nothing that can be followed."""


@dataclass(frozen=True)
class Operator:
    """What an ONNX operator means.

    Args:
        constants: its first output, of arrays alone; None if it is never computed.
        forms: its outputs, where a form or a filled constant is among its inputs; None if that has no counterpart on Loihi.
    """

    constants: "Callable[[Call, list[Array]], Array] | None" = None
    forms: "Callable[[Call], Value | tuple[Value, ...]] | None" = None


class Call:
    """A node and its inputs.

    Args:
        node: in the graph, or in the body of a loop.
        inputs: None for those left out.
        budget: what may still be computed.
        gates: makes neurons of a MaxPool or of a function of spikes, see ``graph.py``; None inside a loop.
    """

    def __init__(self, node: ir.Node, inputs: Sequence[Value | None], budget: Budget, gates: Any = None) -> None:
        self.node = node
        self.inputs = inputs
        self.budget = budget
        self.gates = gates

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Say why the node cannot be converted.

        Raises:
            ConversionError: always.
        """
        raise refusal(self.node, reason, remedy)

    def has(self, index: int) -> bool:
        """Whether input ``index`` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def form(self, index: int = 0) -> Form:
        """The form at input ``index``."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, Form):
            return value
        if isinstance(value, Filled) and SAMPLES in value.dims:
            return filled_form(value.dims, value.value, self.budget)
        if isinstance(value, str):
            self.refuse(f"its input {index} cannot be followed: {value}", "compute it outside of the network")
        self.refuse("it reads spikes elsewhere than at its first input", "use the layer's usual order, spikes first")

    def constant(self, index: int) -> Array:
        """The numbers at input ``index``."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "iuf":
                self.refuse(f"its input {index} is of the type {value.dtype}, not numbers", "store it as float32")
            return value
        if isinstance(value, str):
            reason = value
        else:
            kinds = {Form: "it is made of spikes", Cases: "it is made of spikes", Filled: "its size depends on T or N"}
            reason = kinds.get(type(value), "it is missing")
        self.refuse(f"its input {index} is not a constant: {reason}", "store weights and shapes in the file")

    def require_neurons(self, count: int) -> None:
        """Refuse a product of more pairs of spikes than a chip has neurons, as each takes one."""
        if count > NEURONS_PER_CORE * CORES_PER_CHIP:
            self.refuse(
                f"it multiplies {count:,} pairs of spikes, for each of which Loihi needs a neuron",
                "multiply fewer of them, or let a spiking neuron stand before it",
            )

    def whole_numbers(self, index: int, most: int = 32) -> list[int]:
        """Up to ``most`` whole numbers at input ``index``: sizes or axes."""
        values = self.constant(index)
        if values.dtype.kind not in "iu" or values.size > most:
            self.refuse(f"its input {index} is not up to {most} whole numbers", "write sizes and axes as int64")
        return [int(value) for value in values.reshape(-1)]

    def axes(self, index: int, rank: int) -> list[int] | None:
        """Axes at input ``index`` (opset 13 and later), or in the attribute ``axes``; None if neither is given."""
        if self.has(index):
            given = self.whole_numbers(index)
        else:
            found = self.attribute(self.node.attributes.get_ints, "axes", None)
            if found is None:
                return None
            given = [int(axis) for axis in found]
        if any(not -rank <= axis < rank for axis in given):
            self.refuse(f"its axes {given} are not among {rank}", "name axes that its input has")
        return [axis % rank for axis in given]

    def axis(self, rank: int, default: int | None = None) -> int:
        """The attribute ``axis``, counted from the front."""
        axis = self.get_int("axis", default)
        if not -rank <= axis < rank:
            self.refuse(f"its axis {axis} is not among {rank}", "name an axis that its input has")
        return axis % rank

    def get_int(self, name: str, default: int | None) -> int:
        """A whole number among the node's attributes."""
        value = self.attribute(self.node.attributes.get_int, name, default)
        if value is None:
            self.refuse(f"it lacks the attribute {name}", "write it with that attribute")
        return int(value)

    def get_float(self, name: str, default: float) -> float:
        """A number among the node's attributes."""
        return float(self.attribute(self.node.attributes.get_float, name, default))

    def get_string(self, name: str, default: str) -> str:
        """A word among the node's attributes."""
        return str(self.attribute(self.node.attributes.get_string, name, default))

    def get_ints(self, name: str, count: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """So many whole numbers among the node's attributes; by default each of them is 1."""
        fallback = [1] * count if default is None else list(default)
        values = [int(value) for value in self.attribute(self.node.attributes.get_ints, name, fallback)]
        if len(values) != count:
            self.refuse(f"its attribute {name} is {values}, not {count} numbers", "use a layer of one or two dimensions")
        return tuple(values)

    def attribute(self, read: Callable[..., Any], name: str, default: Any) -> Any:
        """An attribute by one of onnx-ir's readers, or ``default`` where it is absent."""
        try:
            value = read(name, default)
        except TypeError:
            self.refuse(f"its attribute {name} is of another type", "write it as the operator's schema says")
        return default if value is None else value


def described(node: ir.Node) -> str:
    """A node as messages name it."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if node.name:
        return f"the node {node.name!r} ({operator})"
    outputs = ", ".join(repr(output.name) for output in node.outputs if output.name)
    return f"the node that gives {outputs} ({operator})" if outputs else f"a node without a name ({operator})"


def refusal(node: ir.Node, reason: str, remedy: str) -> ConversionError:
    """The error that says why a node cannot be converted."""
    return ConversionError(f"Cannot convert {described(node)}: {reason}; {remedy}.")
