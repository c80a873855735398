"""NIR, the Neuromorphic Intermediate Representation: graphs of other tools, from ``.nir`` files and from memory.

``content.py`` takes nodes and edges out of a file or a ``nir.NIRGraph``; ``order.py`` says which edges close a loop;
``maps.py`` and ``neurons.py`` say, once for each kind of node, what it does to a form; ``producers.py`` says what the numbers
of each producer mean in steps of time; ``graph.py`` walks through the graph.
"""

from .graph import read_nir
from .producers import PRODUCERS

__all__ = ["PRODUCERS", "read_nir"]
