"""Export networks trained in SpikingJelly to ONNX, and train the quantised blocks that convert to Lava without loss."""

from typing import TYPE_CHECKING

from custom_ops.errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError
from custom_ops.lazy import lazy
from custom_ops.version import __version__

from . import import_quietly  # noqa: F401
from .errors import BlockError, ExportError, UnequalError

if TYPE_CHECKING:
    from .blocks import BlockContainer, SumPool2d
    from .blocks_of_layers import to_blocks
    from .cuba_neuron import CubaLIFNode
    from .export import export
    from .layout import NXT_to_TNX, TNX_to_NXT
    from .record import record

__all__ = [
    "BlockContainer",
    "BlockError",
    "BridgeError",
    "CubaLIFNode",
    "ExportError",
    "MissingPackageError",
    "ModelFileError",
    "NXT_to_TNX",
    "RuntimeUnavailableError",
    "SumPool2d",
    "TNX_to_NXT",
    "UnequalError",
    "__version__",
    "export",
    "record",
    "to_blocks",
]

lazy(
    __name__,
    {
        ".blocks": ("BlockContainer", "SumPool2d"),
        ".blocks_of_layers": ("to_blocks",),
        ".cuba_neuron": ("CubaLIFNode",),
        ".export": ("export",),
        ".layout": ("NXT_to_TNX", "TNX_to_NXT"),
        ".record": ("record",),
    },
)
