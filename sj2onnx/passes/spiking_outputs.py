"""Which values leave the network."""

import onnx_ir as ir

from custom_ops import DOMAIN

__all__ = ["expose_spikes"]


def expose_spikes(model: ir.Model, spiking: set[str], *, every_layer: bool) -> list[ir.Node]:
    """Find the spiking layers of ``model`` and, with ``every_layer``, make the spikes of each a graph output.

    An output is named by the module path of its layer. Where the network's own ``output`` is the spikes of a layer, it
    becomes a copy of that layer's output, since a value has one name only.

    Args:
        model: the network, its nodes named ``<module path>/<operator>``; changed in place.
        spiking: module paths of the spiking layers.
        every_layer: whether to add the outputs.

    Returns:
        The spiking layers' nodes, in the order in which they run.
    """
    graph = model.graph
    layers = [node for node in graph if node.domain == DOMAIN and _path(node) in spiking]
    if not every_layer:
        return layers
    last = graph.outputs[0]
    for node in layers:
        spikes = node.outputs[0]
        path = _path(node)
        if spikes is last:
            output = ir.Value(name="output", shape=spikes.shape, type=spikes.type)
            graph.append(ir.node("Identity", [spikes], outputs=[output], name="output/Identity"))
            graph.outputs[0] = output
        spikes.name = path
        graph.outputs.append(spikes)
    return layers


def _path(node: ir.Node) -> str:
    return (node.name or "").rpartition("/")[0]
