"""From ONNX to Loihi: read a network, quantise it, write it for NetX, slayer and onnxruntime, and check every spike."""

from typing import TYPE_CHECKING

from custom_ops.errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError
from custom_ops.lazy import lazy
from custom_ops.version import __version__

from .errors import ConversionError, LavaRunError, LimitError, NetworkError

if TYPE_CHECKING:
    from .load import load
    from .network import Block, Conv, CubaNeuron, Dense, FloatNeuron, Network
    from .quantization_report import QuantizationReport, quantization_report
    from .quantize import quantize
    from .read_netx import load_netx
    from .run import run_netx
    from .verify import verify
    from .write.netx import save_netx
    from .write.onnx import to_onnx
    from .write.slayer import to_slayer
    from .write.slayer_parts import to_slayer_neuron, to_slayer_synapse

__all__ = [
    "Block",
    "BridgeError",
    "Conv",
    "ConversionError",
    "CubaNeuron",
    "Dense",
    "FloatNeuron",
    "LavaRunError",
    "LimitError",
    "MissingPackageError",
    "ModelFileError",
    "Network",
    "NetworkError",
    "QuantizationReport",
    "RuntimeUnavailableError",
    "__version__",
    "load",
    "load_netx",
    "quantization_report",
    "quantize",
    "run_netx",
    "save_netx",
    "to_onnx",
    "to_slayer",
    "to_slayer_neuron",
    "to_slayer_synapse",
    "verify",
]

lazy(
    __name__,
    {
        ".load": ("load",),
        ".network": ("Block", "Conv", "CubaNeuron", "Dense", "FloatNeuron", "Network"),
        ".quantization_report": ("QuantizationReport", "quantization_report"),
        ".quantize": ("quantize",),
        ".read_netx": ("load_netx",),
        ".run": ("run_netx",),
        ".verify": ("verify",),
        ".write.netx": ("save_netx",),
        ".write.onnx": ("to_onnx",),
        ".write.slayer": ("to_slayer",),
        ".write.slayer_parts": ("to_slayer_neuron", "to_slayer_synapse"),
    },
)
