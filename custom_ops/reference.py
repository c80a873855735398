"""The operators in NumPy: the arithmetic of each stands in its own file under ``custom_ops/operators``."""

from functools import partial

from .operators.cuba_arithmetic import CubaLIFResult, RecurrentCubaLIFResult, fed_back, heterogeneous_cuba_lif
from .operators.cuba_lif import cuba_lif
from .operators.cuba_lif_node import CubaLIFNodeResult, cuba_lif_node
from .operators.float_arithmetic import FloatResult
from .operators.if_ import if_
from .operators.lif import lif

__all__ = [
    "CubaLIFNodeResult",
    "CubaLIFResult",
    "FloatResult",
    "RecurrentCubaLIFResult",
    "cuba_lif",
    "cuba_lif_node",
    "fed_back",
    "heterogeneous_cuba_lif",
    "if_",
    "lif",
    "recurrent_cuba_lif",
]

recurrent_cuba_lif = partial(fed_back, cuba_lif)
"""The operator ``snn.RecurrentCubaLIF`` in words: :func:`fed_back` around :func:`cuba_lif`."""
