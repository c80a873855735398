"""Names of populations: of the modules that they were, as nodes tell them."""

from collections import Counter
from collections.abc import Container
from itertools import count

import onnx_ir as ir

from .evaluate import STANDARD_DOMAINS

__all__ = ["Names"]


class Names:
    """The names that are taken, and new ones.

    Args:
        graph: whose nodes become populations.
        inputs: names of the network's inputs, which are taken, too.
    """

    def __init__(self, graph: ir.Graph, inputs: Container[str]) -> None:
        self._graph, self._inputs = graph, inputs
        self._taken: set[str] = set()
        self._populations = 0
        self._repeated: Counter[str] = Counter()  # how often names had to be made different

    def __contains__(self, name: str) -> bool:
        """Whether a population is called so."""
        return name in self._taken

    def of_population(self, name: str) -> None:
        """There is a population of this name."""
        self._taken.add(name)
        self._populations += 1

    def reserved(self, node: ir.Node) -> str:
        """A name that no other population gets, for one that is made later."""
        name = self.made(node)
        self._taken.add(name)
        return name

    def made(self, node: ir.Node) -> str:
        """A name for a population that ``node`` becomes."""
        unnamed = (f"layer{number}" for number in count(self._populations))
        stem = (node.name or "").rpartition("/")[0] or next(name for name in unnamed if not self._is_taken(name))
        if not self._is_taken(stem):
            return stem
        if node.domain not in STANDARD_DOMAINS:
            # A module that is used twice; nodes of one name are two layers of one name, which the network refuses.
            alike = sum(each.name == node.name for each in self._graph) > 1
            return stem if node.name is None or alike or self._is_taken(node.name) else node.name
        stem = f"{stem}/{node.op_type}"
        while self._is_taken(name := f"{stem}{self._repeated[stem] or ''}"):
            self._repeated[stem] += 1
        return name

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or name in self._inputs
