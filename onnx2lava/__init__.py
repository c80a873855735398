"""From ONNX to Loihi: read a network, quantise it, write it for NetX, slayer and onnxruntime, and check every spike."""

from custom_ops.version import __version__

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
    "Conv",
    "CubaNeuron",
    "Dense",
    "FloatNeuron",
    "Network",
    "QuantizationReport",
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
