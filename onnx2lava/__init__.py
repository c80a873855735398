"""From ONNX to Loihi: read a network, quantise it, write it for NetX, slayer and onnxruntime, and check every spike.

Its parts are imported when they are asked for, so that the command line answers at once.
"""

from typing import TYPE_CHECKING

from custom_ops.errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError
from custom_ops.lazy import lazy
from custom_ops.version import __version__

from .errors import ConversionError, LavaRunError, LimitError, NetworkError

if TYPE_CHECKING:
    from .conversion import quantize
    from .estimation import Estimate, estimate
    from .network import Conv, ConvTranspose, CubaNeuron, Dense, Edge, FloatNeuron, Input, Network, Population, Sparse
    from .quantization import QuantizationReport, quantization_report
    from .read.formats import load, load_netx
    from .targets.lava import run_lava, to_lava
    from .targets.netx import run_netx, save_netx
    from .targets.nir import to_nir
    from .targets.onnx import to_onnx
    from .targets.slayer import to_slayer, to_slayer_neuron, to_slayer_synapse
    from .verification import Verification, verify

__all__ = [
    "BridgeError",
    "Conv",
    "ConvTranspose",
    "ConversionError",
    "CubaNeuron",
    "Dense",
    "Edge",
    "Estimate",
    "FloatNeuron",
    "Input",
    "LavaRunError",
    "LimitError",
    "MissingPackageError",
    "ModelFileError",
    "Network",
    "NetworkError",
    "Population",
    "QuantizationReport",
    "RuntimeUnavailableError",
    "Sparse",
    "Verification",
    "__version__",
    "estimate",
    "load",
    "load_netx",
    "quantization_report",
    "quantize",
    "run_lava",
    "run_netx",
    "save_netx",
    "to_lava",
    "to_nir",
    "to_onnx",
    "to_slayer",
    "to_slayer_neuron",
    "to_slayer_synapse",
    "verify",
]

lazy(
    __name__,
    {
        ".conversion": ("quantize",),
        ".estimation": ("Estimate", "estimate"),
        ".network": (
            *("Conv", "ConvTranspose", "CubaNeuron", "Dense", "Edge", "FloatNeuron", "Input", "Network"),
            *("Population", "Sparse"),
        ),
        ".quantization": ("QuantizationReport", "quantization_report"),
        ".read.formats": ("load", "load_netx"),
        ".targets.lava": ("run_lava", "to_lava"),
        ".targets.netx": ("run_netx", "save_netx"),
        ".targets.nir": ("to_nir",),
        ".targets.onnx": ("to_onnx",),
        ".targets.slayer": ("to_slayer", "to_slayer_neuron", "to_slayer_synapse"),
        ".verification": ("Verification", "verify"),
    },
)
