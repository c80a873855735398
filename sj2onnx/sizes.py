"""Numbers of samples and steps that a network treats apart: what an ``if`` on sizes leaves behind in a trace.

A trace takes one side of such an ``if`` and notes what it took for granted. For sizes where that does not hold, the file may be
another network.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch.export import ExportedProgram

__all__ = ["Sizes", "sizes_apart"]

Sizes = Mapping[str, int]
"""A size for each free axis, by its name: N and T."""

_ASSERT: Any = torch.ops.aten._assert_scalar.default
_LARGEST = 12
"""Up to which size to look: an ``if`` mostly tells odd from even, or one size from all others."""


def sizes_apart(program: ExportedProgram, free: Mapping[int, str]) -> list[Sizes]:
    """Sizes for which ``program`` does not say what the network does, the smallest for each condition that it took for granted.

    Args:
        program: what torch traced.
        free: the free axes of its first input and their names.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    first: torch.Tensor = nodes[program.graph_signature.user_inputs[0]].meta["val"]  # type: ignore[index]
    names = {str(first.shape[axis]): name for axis, name in free.items() if isinstance(first.shape[axis], torch.SymInt)}
    found: list[Sizes] = []
    for condition in _conditions(program):
        symbols = {symbol: names.get(str(symbol)) for symbol in condition.free_symbols}
        if not symbols or None in symbols.values():
            continue
        tried = sorted(product(range(1, _LARGEST + 1), repeat=len(symbols)), key=sum)
        broken = next((t for t in tried if condition.subs(dict(zip(symbols, t, strict=True))) == False), None)  # noqa: E712
        if broken is not None:
            found.append({str(name): size for name, size in zip(symbols.values(), broken, strict=True)})
    return found


def _conditions(program: ExportedProgram) -> Iterator[Any]:
    """What the trace took for granted, as expressions of sympy."""
    seen = set()
    for node in program.graph.nodes:
        if node.target is _ASSERT and isinstance(node.args[0], torch.fx.Node):
            value = node.args[0].meta.get("val")
            if isinstance(value, torch.SymBool) and value.node.expr not in seen:
                seen.add(value.node.expr)
                yield value.node.expr
