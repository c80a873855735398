"""The operators of the domain ``snn``, one file each; a new operator is one file and one line in ``OPERATORS``."""

from .cuba_lif import CUBA_LIF, RECURRENT_CUBA_LIF
from .cuba_lif_node import CUBA_LIF_NODE, NO_LIMIT
from .definition import DOMAIN, OLDEST_OPSET, OPSET, VERSION, Attribute, Form, Operator, SpikingNeuron, TrainedClass, Value
from .heterogeneous_cuba_lif import HETEROGENEOUS_CUBA_LIF, RECURRENT_HETEROGENEOUS_CUBA_LIF, THRESHOLD_LIMIT
from .if_ import IF
from .lif import LIF

__all__ = [
    "CUBA_LIF",
    "CUBA_LIF_NODE",
    "DOMAIN",
    "HETEROGENEOUS_CUBA_LIF",
    "IF",
    "LIF",
    "NO_LIMIT",
    "OLDEST_OPSET",
    "OPERATORS",
    "OPSET",
    "PRIVATE",
    "RECURRENT_CUBA_LIF",
    "RECURRENT_HETEROGENEOUS_CUBA_LIF",
    "THRESHOLD_LIMIT",
    "VERSION",
    "Attribute",
    "Form",
    "Operator",
    "SpikingNeuron",
    "TrainedClass",
    "Value",
]

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        CUBA_LIF,
        CUBA_LIF_NODE,
        HETEROGENEOUS_CUBA_LIF,
        IF,
        LIF,
        RECURRENT_CUBA_LIF,
        RECURRENT_HETEROGENEOUS_CUBA_LIF,
    )
}
"""Every operator by its name."""
PRIVATE = frozenset({"CubaBlock"})
"""What the native library has besides, for :func:`custom_ops.graphs.optimize.optimize` alone: no file may use these names."""
