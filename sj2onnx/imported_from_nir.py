"""Networks of SpikingJelly's ``import_from_nir``: the same network with its states in the neurons, where ours and theirs are."""

import copy

from torch import fx, nn

from .errors import ExportError

__all__ = ["with_states_inside"]


def with_states_inside(net: nn.Module) -> nn.Module:
    """What ``import_from_nir`` gives takes and returns the states beside the spikes; any other network is given back as it is.

    The graph module of nirtorch is written down anew: a neuron's wrapper (SpikingJelly's ``nir_exchange/from_nir.py``,
    ``_NIRStatefulModule``), which sets the states of the neuron inside and reads them again, becomes that neuron.

    Raises:
        ExportError: a layer reads what another gave in the step before, which is a state of the network itself.
    """
    if not isinstance(net, fx.GraphModule) or not any(map(_is_wrapper, net.children())):
        return net
    graph = copy.deepcopy(net.graph)
    modules: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        if node.op == "call_module":
            module = net.get_submodule(str(node.target))
            if _is_wrapper(module):
                node.kwargs = {}
                for user in list(node.users):
                    if user.args[1] == 0:  # of the pair of spikes and states
                        user.replace_all_uses_with(node)
                module = module.get_submodule("module")
            modules[str(node.target)] = module
        if node.op == "output":
            ((spikes, _),) = node.args
            node.args = (spikes,)
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op != "output" and node is not next(iter(graph.nodes)):
            graph.erase_node(node)
    if sum(node.op == "placeholder" for node in graph.nodes) > 1:
        raise ExportError(
            "The network, which import_from_nir made, feeds spikes back from one step to the next by itself: give the NIR graph "
            "to onnx2lava.load, which reads feedback, or write the network with a recurrent container of SpikingJelly."
        )
    return fx.GraphModule(modules, graph, type(net).__name__)


def _is_wrapper(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__name__ == "_NIRStatefulModule" and kind.__module__.startswith("spikingjelly.")
