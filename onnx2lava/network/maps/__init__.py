"""The linear maps through which spikes reach neurons, a kind in each file. A new kind is a line here."""

from .base import Array, Map, Shape
from .conv import Conv
from .conv_transpose import ConvTranspose
from .dense import Dense
from .kernel import Kernel, Pads, windows
from .sparse import Sparse

__all__ = ["Array", "Conv", "ConvTranspose", "Dense", "Kernel", "Map", "Pads", "Shape", "Sparse", "windows"]
