"""Which values leave the network."""

from collections.abc import Mapping

import onnx_ir as ir

from custom_ops import DOMAIN

__all__ = ["expose_spikes"]


def expose_spikes(model: ir.Model, spiking: Mapping[str, str], *, every_layer: bool) -> list[ir.Node]:
    """Find the spiking layers of ``model`` and, with ``every_layer``, make the spikes of each a graph output.

    An output is named by the module path of its layer. Where an output of the network's own is the spikes of a layer, it
    becomes a copy of that layer's output, since a value has one name only. A layer that runs several times gives all its time
    steps in a row.

    Args:
        model: the network, its nodes named ``<module path>/<operator>``; changed in place.
        spiking: the operators of the spiking layers by module path.
        every_layer: whether to add the outputs.

    Returns:
        One node of each spiking layer, in the order in which they run.
    """
    graph = model.graph
    layers: dict[str, list[ir.Node]] = {}
    for node in graph:
        if node.domain == DOMAIN and spiking.get(_path(node)) == node.op_type:
            layers.setdefault(_path(node), []).append(node)
    if every_layer:
        for path, nodes in layers.items():
            spikes = nodes[0].outputs[0]
            if len(nodes) > 1:
                join = ir.node("Concat", [node.outputs[0] for node in nodes], {"axis": 0}, name=f"{path}/Concat")
                join.outputs[0].type = spikes.type
                if spikes.shape is not None:
                    total = [node.outputs[0].shape[0] for node in nodes if node.outputs[0].shape is not None]
                    whole = sum(total) if all(isinstance(steps, int) for steps in total) else None
                    join.outputs[0].shape = ir.Shape([whole, *list(spikes.shape)[1:]])
                graph.append(join)
                spikes = join.outputs[0]
            for index, last in enumerate(graph.outputs):
                if spikes is last:
                    output = ir.Value(name=last.name, shape=spikes.shape, type=spikes.type)
                    graph.append(ir.node("Identity", [spikes], outputs=[output], name=f"{last.name}/Identity"))
                    graph.outputs[index] = output
            spikes.name = path
            graph.outputs.append(spikes)
    return [nodes[0] for nodes in layers.values()]


def _path(node: ir.Node) -> str:
    return (node.name or "").rpartition("/")[0]
