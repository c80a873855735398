"""Find nodes that draw random numbers."""

import onnx_ir as ir

from .module_names import module_path

__all__ = ["drawn_in"]

_DRAWS = {"RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike", "Bernoulli", "Multinomial"}


def drawn_in(model: ir.Model) -> str | None:
    """The path of a module that draws random numbers on which the results of ``model`` depend; None where none does."""
    for node in model.graph:
        if node.domain == "" and (node.op_type in _DRAWS or (node.op_type == "Dropout" and _in_training(node))):
            return module_path(node)
    return None


def _in_training(node: ir.Node) -> bool:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if mode is None else ir.convenience.get_const_tensor(mode)
    return mode is not None and (tensor is None or bool(tensor.numpy().any()))
