"""From ONNX to Loihi: read a network, quantise it, write it for NetX, slayer and onnxruntime, and check every spike."""

from .network import Conv, ConvTranspose, CubaNeuron, Dense, Edge, FloatNeuron, Input, Network, Population

__all__ = ["Conv", "ConvTranspose", "CubaNeuron", "Dense", "Edge", "FloatNeuron", "Input", "Network", "Population"]
