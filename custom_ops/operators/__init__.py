"""The operators of the domain ``snn``, one file each; a new operator is one file and one line in ``OPERATORS``."""

from .cuba_lif import CUBA_LIF
from .definition import DOMAIN, OPSET, VERSION, Attribute, Form, Operator, Value
from .if_ import IF
from .lif import LIF
from .recurrent_cuba_lif import RECURRENT_CUBA_LIF

__all__ = [
    "CUBA_LIF",
    "DOMAIN",
    "IF",
    "LIF",
    "OPERATORS",
    "OPSET",
    "RECURRENT_CUBA_LIF",
    "VERSION",
    "Attribute",
    "Form",
    "Operator",
    "Value",
]

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in (CUBA_LIF, IF, LIF, RECURRENT_CUBA_LIF)}
"""Every operator by its name."""
