"""What a value in the graph can be, and how a node's inputs and attributes are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from ..errors import ConversionError, NetworkError
from ..layers import Step
from ..network import Array, Shape

__all__ = [
    "SAMPLES",
    "STEPS",
    "Inputs",
    "Signal",
    "SignalOperator",
    "Value",
    "applied",
    "attribute",
    "constant",
    "described",
    "get_float",
    "get_int",
    "listed",
    "pair",
    "refusal",
    "signal_at",
]

STEPS, SAMPLES = 65537, 65539
"""Stand in for T and N where the file leaves them open: primes beyond any layer's size."""


@dataclass(frozen=True)
class Signal:
    """Spikes, or what was made of them since.

    Args:
        source: the layer whose spikes these are, or the network's input.
        dims: the shape as it is at this place, with the stand-ins for T and N. A Reshape may say anything that keeps the
            order of the elements; whether time, batch and features are where they belong is checked by whoever reads them.
        features: the shape of one sample at one time step, ``(C, H, W)`` or ``(F,)``.
        source_shape: the features of the spikes themselves.
        steps: what was applied to them, in order; empty while they are spikes.
        late: how many time steps of zeros stand before them.
        samples: N, or what stands in for it.
    """

    source: str
    dims: tuple[int, ...]
    features: Shape
    source_shape: Shape
    samples: int
    steps: tuple[Step, ...] = ()
    late: int = 0


@dataclass(frozen=True)
class Filled:
    """A constant of one number, as large as time and batch make it: zeros before delayed spikes, a state to start from.

    Args:
        dims: its shape, with the stand-ins for T and N.
        value: the number.
    """

    dims: tuple[int, ...]
    value: float


Value: TypeAlias = Array | Signal | Filled | str
"""A string says why a value is neither constant nor signal."""
Inputs: TypeAlias = Sequence[Value | None]
SignalOperator: TypeAlias = Callable[[ir.Node, Inputs], Signal]
"""Reads one node that a signal passes."""


def applied(node: ir.Node, signal: Signal, step: Step, read: tuple[int, ...]) -> Signal:
    """``step`` applied to ``signal``, of which it sees the last dimensions ``read`` at a time.

    Raises:
        ConversionError: those are not one sample at one time step, or the step does not fit them.
    """
    one_axis = len(read) == 1
    if not (prod(read) == prod(signal.features) if one_axis else read == signal.features):
        raise refusal(
            node,
            f"it reads [{listed(read)}] where one time step of one sample is [{listed(signal.features)}]",
            "fold only time and batch",
        )
    try:
        features = step.output_shape(read)
    except NetworkError as error:
        raise refusal(node, str(error), "export it again") from error
    dims = signal.dims[: len(signal.dims) - len(read)] + features
    return replace(signal, dims=dims, features=features, steps=(*signal.steps, step))


def signal_at(node: ir.Node, inputs: Inputs, index: int) -> Signal:
    """The signal at input ``index``."""
    value = inputs[index] if index < len(inputs) else None
    if not isinstance(value, Signal):
        raise refusal(node, "it reads spikes elsewhere than at its first input", "export it again")
    return value


def constant(node: ir.Node, inputs: Inputs, index: int) -> Array:
    """The numbers at input ``index``."""
    value = inputs[index] if index < len(inputs) else None
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iuf":
            raise refusal(node, f"its input {index} is of the type {value.dtype}, not numbers", "store it as float32")
        return value
    if isinstance(value, str):
        reason = value
    else:
        kinds = {Signal: "it is made of spikes", Filled: "its size depends on T or N"}
        reason = kinds.get(type(value), "it is missing")
    raise refusal(node, f"its input {index} is not a constant: {reason}", "store weights and shapes in the file")


def get_int(node: ir.Node, name: str, default: int) -> int:
    """A whole number among the node's attributes."""
    return int(attribute(node, node.attributes.get_int, name, default))


def get_float(node: ir.Node, name: str, default: float) -> float:
    """A number among the node's attributes."""
    return float(attribute(node, node.attributes.get_float, name, default))


def pair(node: ir.Node, name: str, default: Sequence[int] = (1, 1)) -> tuple[int, int]:
    """Two whole numbers, for height and width, among the node's attributes."""
    values = list(attribute(node, node.attributes.get_ints, name, list(default)))
    if len(values) != 2:
        raise refusal(node, f"its attribute {name} is {values}, not two numbers", "use a two-dimensional layer")
    return int(values[0]), int(values[1])


def attribute(node: ir.Node, read: Callable[..., Any], name: str, default: Any) -> Any:
    """An attribute by one of onnx-ir's readers, or ``default`` where it is absent."""
    try:
        value = read(name, default)
    except TypeError as error:
        raise refusal(node, f"its attribute {name} is of another type", "export it again") from error
    return default if value is None else value


def listed(dims: Sequence[int]) -> str:
    """A shape as messages show it."""
    return ", ".join({STEPS: "T", SAMPLES: "N", STEPS * SAMPLES: "T*N"}.get(dim, str(dim)) for dim in dims)


def described(node: ir.Node) -> str:
    """A node as messages name it."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"the node {node.name!r} ({operator})"


def refusal(node: ir.Node, reason: str, remedy: str) -> ConversionError:
    """The error that says why a node cannot be converted."""
    return ConversionError(f"Cannot convert {described(node)}: {reason}; {remedy}.")
