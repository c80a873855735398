"""Nodes of a model, those of the graphs inside of others as well."""

from collections.abc import Iterable, Iterator

import onnx

__all__ = ["all_nodes"]


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Each node, and behind it those of the graphs in its attributes; protobuf itself bounds the depth of a file's."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from all_nodes(graph.node)
