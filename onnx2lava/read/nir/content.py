"""Nodes and edges of a NIR graph, whatever they come from; graphs within graphs are unfolded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from custom_ops.errors import ModelFileError

from ...errors import ConversionError
from ...network import Array
from ..budget import Budget
from ..hdf5 import Group, room_for

__all__ = ["Content", "Node", "content_of", "is_nir_file"]

_DEEPEST = 16  # graphs within graphs
_SHOWN = 8  # nodes in a message
_MOST_NODES = 2**16
_GRAPH = "NIRGraph"

Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A primitive of NIR.

    Args:
        name: the path to it, with a dot between a graph and what is in it.
        type: the name of its class.
        fields: its numbers and words.
    """

    name: str
    type: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """A graph without graphs in it.

    Args:
        name: of the file.
        nodes: by name.
        edges: pairs of names, from and to.
        metadata: of the whole.
        size: bytes that it was read from.
    """

    name: str
    nodes: Mapping[str, Node]
    edges: Sequence[tuple[str, str]]
    metadata: Mapping[str, Any]
    size: int


def is_nir_file(path: Any) -> bool:
    """Whether an hdf5 file holds a NIR graph, and no layers of NetX."""
    try:
        with h5py.File(path, "r") as file:
            return "node" in file and "layer" not in file
    except (OSError, RuntimeError, KeyError, ValueError):  # what h5py raises for broken files; who reads it says what is broken
        return False


def content_of(model: Any) -> Content:
    """The nodes and edges of a ``.nir`` file, or of a ``nir.NIRGraph``.

    Raises:
        ModelFileError: the file is missing, not hdf5, or broken.
        ConversionError: the graph contradicts itself.
    """
    if hasattr(model, "to_dict"):
        whole = _plain(model.to_dict(), 0)
        size = sum(value.nbytes for value in _arrays(whole))
        return _unfolded("nir", whole, size)
    try:
        size, room = room_for(model)
        with h5py.File(model, "r") as file:
            whole = _fields(Group(file, room).group("node"), Budget(size), 0)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{model} is not a NIR file ({reason}): write it again with nir.write.") from error
    return _unfolded(Path(model).stem, whole, size)


def _fields(group: Group, budget: Budget, depth: int) -> Fields:
    """A group with all that is in it."""
    if depth > 2 * _DEEPEST:
        raise ValueError(f"its graphs are nested deeper than {_DEEPEST}")
    found: Fields = {}
    for name in group.names():
        budget.work(0)
        if group.is_group(name):
            found[name] = _fields(group.group(name), budget, depth + 1)
        elif group.is_text(name):
            found[name] = group.words(name, budget)
        else:
            budget.take(group.size(name))
            found[name] = group.array(name)
    return found


def _plain(value: Any, depth: int) -> Any:
    """Dictionaries, arrays and words of what a graph in memory holds: torch's tensors may be among it."""
    if depth > 4 * _DEEPEST:
        raise ConversionError(f"The NIR graph is nested deeper than {_DEEPEST}: unfold its subgraphs.")
    if isinstance(value, Mapping):
        return {str(name): _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and any(isinstance(each, str | list | tuple) for each in value):
        return [_plain(each, depth + 1) for each in value]
    detached = value.detach() if hasattr(value, "detach") else value
    return np.asarray(detached)


def _arrays(value: Any) -> Iterator[Array]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _arrays(each)
    elif isinstance(value, np.ndarray):
        yield value


def _unfolded(name: str, whole: Fields, size: int) -> Content:
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    if whole.get("type") != _GRAPH:
        raise ConversionError(f"{name} holds a {whole.get('type')} and not a graph: put it into a nir.NIRGraph.")
    _unfold(whole, "", nodes, edges, 0)
    metadata = whole.get("metadata")
    return Content(name, nodes, tuple(dict.fromkeys(edges)), metadata if isinstance(metadata, dict) else {}, size)


def _unfold(graph: Fields, path: str, nodes: dict[str, Node], edges: list[tuple[str, str]], depth: int) -> None:
    """Add what is in a graph: edges to a graph within lead to its inputs, and edges from it come from its outputs."""
    if depth > _DEEPEST:
        raise ConversionError(f"The NIR graph is nested deeper than {_DEEPEST}: unfold its subgraphs.")
    inside = graph.get("nodes")
    if not isinstance(inside, dict):
        raise ConversionError(f"The NIR graph {path or 'itself'!r} has no nodes: write it again.")
    entries: dict[str, list[str]] = {}
    exits: dict[str, list[str]] = {}
    for name, fields in inside.items():
        own = f"{path}{name}"
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(kind, str):
            raise ConversionError(f"The NIR node {own!r} has no type: write it again.")
        if kind != _GRAPH:
            nodes[own] = Node(own, kind, fields)
            entries[name] = exits[name] = [own]
            if len(nodes) > _MOST_NODES:
                raise ConversionError(f"The NIR graph has more than {_MOST_NODES:,} nodes: use larger layers.")
            continue
        _unfold(fields, f"{own}.", nodes, edges, depth + 1)
        within = fields["nodes"]
        entries[name] = [f"{own}.{each}" for each, node in within.items() if node.get("type") == "Input"]
        exits[name] = [f"{own}.{each}" for each, node in within.items() if node.get("type") == "Output"]
    for edge in _edges(graph.get("edges"), path):
        if any(end not in entries for end in edge):
            there = ", ".join(list(entries)[:_SHOWN]) + " …" * (len(entries) > _SHOWN)
            raise ConversionError(
                f"The NIR edge {edge} of {path.rstrip('.') or 'the graph'!r} leads from or to a node that does not exist: write "
                f"the graph again, with edges between its nodes {there}."
            )
        came, goes = exits[edge[0]], entries[edge[1]]
        if len(came) != 1 or len(goes) != 1:
            raise ConversionError(
                f"The NIR edge {edge} joins {len(came)} outputs and {len(goes)} inputs: give subgraphs one Input and one Output."
            )
        edges.append((came[0], goes[0]))


def _edges(found: Any, path: str) -> list[tuple[str, str]]:
    pairs = list(found) if isinstance(found, list | np.ndarray) else []
    edges = []
    for pair in pairs:
        ends = [str(end) for end in pair] if isinstance(pair, list | tuple | np.ndarray) else []
        if len(ends) != 2:
            raise ConversionError(f"The NIR graph {path or 'itself'!r} has an edge that is no pair of names: write it again.")
        edges.append((ends[0], ends[1]))
    return edges
