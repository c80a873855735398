"""From ONNX to Loihi: read a network, quantise it, write it for NetX, slayer and onnxruntime, and check every spike.

What is asked for is imported when it is asked for, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conversion import quantize
    from .errors import (
        BridgeError,
        ConversionError,
        LavaRunError,
        LimitError,
        ModelFileError,
        NetworkError,
        RuntimeUnavailableError,
    )
    from .network import Conv, ConvTranspose, CubaNeuron, Dense, Edge, FloatNeuron, Input, Network, Population
    from .quantization import QuantizationReport, quantization_report
    from .read.netx import load_netx
    from .read.onnx_file import load
    from .targets.lava import run_lava, to_lava
    from .targets.netx import run_netx, save_netx
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
    "FloatNeuron",
    "Input",
    "LavaRunError",
    "LimitError",
    "ModelFileError",
    "Network",
    "NetworkError",
    "Population",
    "QuantizationReport",
    "RuntimeUnavailableError",
    "Verification",
    "load",
    "load_netx",
    "quantization_report",
    "quantize",
    "run_lava",
    "run_netx",
    "save_netx",
    "to_lava",
    "to_onnx",
    "to_slayer",
    "to_slayer_neuron",
    "to_slayer_synapse",
    "verify",
]

_HOMES = {
    "conversion": ("quantize",),
    "errors": (
        "BridgeError",
        "ConversionError",
        "LavaRunError",
        "LimitError",
        "ModelFileError",
        "NetworkError",
        "RuntimeUnavailableError",
    ),
    "network": (
        "Conv",
        "ConvTranspose",
        "CubaNeuron",
        "Dense",
        "Edge",
        "FloatNeuron",
        "Input",
        "Network",
        "Population",
    ),
    "quantization": ("QuantizationReport", "quantization_report"),
    "read.netx": ("load_netx",),
    "read.onnx_file": ("load",),
    "targets.lava": ("run_lava", "to_lava"),
    "targets.netx": ("run_netx", "save_netx"),
    "targets.onnx": ("to_onnx",),
    "targets.slayer": ("to_slayer", "to_slayer_neuron", "to_slayer_synapse"),
    "verification": ("Verification", "verify"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
