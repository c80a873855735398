"""What each ONNX operator means, once: for constants and for values that are made of spikes."""

from collections.abc import Mapping

from ..call import Operator
from .arithmetic import ARITHMETIC
from .arrangement import ARRANGEMENT
from .constants import CONSTANTS
from .functions import FUNCTIONS
from .pooling import POOLING
from .products import PRODUCTS
from .synapses import SYNAPSES

__all__ = ["OPERATORS"]

OPERATORS: Mapping[str, Operator] = {**ARITHMETIC, **ARRANGEMENT, **CONSTANTS, **FUNCTIONS, **POOLING, **PRODUCTS, **SYNAPSES}
