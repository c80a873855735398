"""The operators in NumPy: the arithmetic of each stands in its own file under ``custom_ops/operators``."""

from .operators.cuba_arithmetic import CubaLIFResult, RecurrentCubaLIFResult, heterogeneous_cuba_lif
from .operators.cuba_lif import cuba_lif
from .operators.cuba_lif_node import CubaLIFNodeResult, cuba_lif_node
from .operators.float_arithmetic import FloatResult
from .operators.heterogeneous_cuba_lif import recurrent_heterogeneous_cuba_lif
from .operators.if_ import if_
from .operators.lif import lif
from .operators.recurrent_cuba_lif import recurrent_cuba_lif

__all__ = [
    "CubaLIFNodeResult",
    "CubaLIFResult",
    "FloatResult",
    "RecurrentCubaLIFResult",
    "cuba_lif",
    "cuba_lif_node",
    "heterogeneous_cuba_lif",
    "if_",
    "lif",
    "recurrent_cuba_lif",
    "recurrent_heterogeneous_cuba_lif",
]
