"""What a network is: populations of neurons (``neurons.py``), edges between them (``network.py``), and maps (``maps/``)."""

from .maps import Array, Conv, ConvTranspose, Dense, Kernel, Map, Pads, Shape, Sparse, windows
from .network import INPUT, OUTPUT, Edge, Input, Network, Population, is_loihi, require_loihi
from .neurons import CubaNeuron, FloatNeuron, Neuron

__all__ = [
    "INPUT",
    "OUTPUT",
    "Array",
    "Conv",
    "ConvTranspose",
    "CubaNeuron",
    "Dense",
    "Edge",
    "FloatNeuron",
    "Input",
    "Kernel",
    "Map",
    "Network",
    "Neuron",
    "Pads",
    "Population",
    "Shape",
    "Sparse",
    "is_loihi",
    "require_loihi",
    "windows",
]
