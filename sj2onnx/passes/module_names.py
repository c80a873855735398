"""Name nodes and values by the modules they came from."""

import ast
from collections import Counter

import onnx_ir as ir

from ..node_call import MODULE_KEY

__all__ = ["ModuleNamesPass", "module_path"]


class ModuleNamesPass(ir.passes.InPlacePass):
    """Name each node ``<module path>/<operator>`` and its result alike, with a number where that is taken already.

    Graph inputs, graph outputs and initialisers that belong to a module keep their names; the other constants are named
    after the node that reads them.
    """

    def __init__(self, owned: set[str]) -> None:
        """``owned``: the names of the network's own parameters and buffers."""
        super().__init__()
        self._owned = owned

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        taken: Counter[str] = Counter()
        for node in graph:
            path = module_path(node)
            stem = f"{path}/{node.op_type}" if path else node.op_type
            taken[stem] += 1
            node.name = stem if taken[stem] == 1 else f"{stem}_{taken[stem]}"
            for index, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    value.name = node.name if index == 0 else f"{node.name}:{index}"
        constants = [(name, value) for name, value in graph.initializers.items() if name not in self._owned]
        for name, value in constants:
            user = next(iter(value.uses())).node
            del graph.initializers[name]
            taken[f"{user.name}/constant"] += 1
            count = taken[f"{user.name}/constant"]
            value.name = f"{user.name}/constant" if count == 1 else f"{user.name}/constant_{count}"
            graph.register_initializer(value)
        return ir.passes.PassResult(model, True)


def module_path(node: ir.Node) -> str:
    """The path of the module in which torch met this node; empty for the network itself and for nodes of our own that say
    nothing else."""
    if (own := node.metadata_props.get(MODULE_KEY)) is not None:
        return own
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    names = ast.literal_eval(scopes) if scopes else []
    # torch gives a scope of this name to what it made up itself, such as the size of an input.
    return str(names[-2]) if len(names) >= 2 and names[-2] != "_empty_nn_module_stack_from_metadata_hook" else ""
