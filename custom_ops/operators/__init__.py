"""The operators of the domain ``snn``, one file each; a new operator is one file and one line in ``OPERATORS``.

``FUNCTIONS`` is for what files carry as a function alone, without a native kernel.
"""

from .cuba_lif import CUBA_LIF
from .cuba_lif_node import CUBA_LIF_NODE, NO_LIMIT
from .definition import DOMAIN, OPSET, VERSION, Attribute, Form, Operator, Value
from .heterogeneous_cuba_lif import HETEROGENEOUS_CUBA_LIF, RECURRENT_HETEROGENEOUS_CUBA_LIF, THRESHOLD_LIMIT
from .if_ import IF
from .lif import LIF
from .recurrent_cuba_lif import RECURRENT_CUBA_LIF

__all__ = [
    "CUBA_LIF",
    "CUBA_LIF_NODE",
    "DOMAIN",
    "FUNCTIONS",
    "HETEROGENEOUS_CUBA_LIF",
    "IF",
    "LIF",
    "NO_LIMIT",
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
    "Value",
]

OPERATORS: dict[str, Operator] = {
    operator.name: operator for operator in (CUBA_LIF, HETEROGENEOUS_CUBA_LIF, IF, LIF, RECURRENT_CUBA_LIF)
}
"""Every operator by its name."""
FUNCTIONS: dict[str, Operator] = {operator.name: operator for operator in (CUBA_LIF_NODE, RECURRENT_HETEROGENEOUS_CUBA_LIF)}
"""What has a definition and a function body, but no native kernel, by its name."""
PRIVATE = frozenset({"CubaBlock"})
"""What the native library has besides, for :func:`custom_ops.optimize.optimize` alone: no file may use these names."""
