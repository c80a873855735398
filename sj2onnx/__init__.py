"""Export networks trained in SpikingJelly to ONNX, and train the quantised blocks that convert to Lava without loss."""

from .blocks import BlockContainer, SumPool2d
from .cuba_neuron import CubaLIFNode
from .errors import BlockError, ExportError
from .export import export
from .layout import NXT_to_TNX, TNX_to_NXT
from .record import record

__all__ = [
    "BlockContainer",
    "BlockError",
    "CubaLIFNode",
    "ExportError",
    "NXT_to_TNX",
    "SumPool2d",
    "TNX_to_NXT",
    "export",
    "record",
]
