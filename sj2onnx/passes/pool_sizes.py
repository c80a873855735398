"""Pools whose last window torch leaves out, because it would begin behind the input."""

import onnx_ir as ir

__all__ = ["PoolSizesPass"]


class PoolSizesPass(ir.passes.InPlacePass):
    """Write pools with ``ceil_mode`` without it where torch and ONNX count windows differently.

    torch drops a window that begins in the padding behind the input (``pooling_output_shape`` in ``ATen/native/Pool.h``), ONNX
    keeps it. Without ``ceil_mode`` there are as many windows as in torch where it drops one along each axis on which rounding up
    would add one; a MaxPool may also get more padding, in which it finds nothing.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            rounds_up = node.attributes.get("ceil_mode")
            if node.op_type in ("MaxPool", "AveragePool") and rounds_up is not None and rounds_up.as_int():
                modified |= _rewritten(node)
        return ir.passes.PassResult(model, modified)


def _rewritten(node: ir.Node) -> bool:
    """Whether the node could be and had to be written without ``ceil_mode``; changed in place."""
    attributes = node.attributes
    kernel = attributes.get_ints("kernel_shape", ())
    sides = len(kernel)
    given, made = (_plane(value, sides) for value in (node.inputs[0], node.outputs[0]))
    if given is None or made is None:
        return False
    strides, dilations = (attributes.get_ints(name, [1] * sides) for name in ("strides", "dilations"))
    pads = list(attributes.get_ints("pads", [0] * 2 * sides))
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    room = [given[axis] + pads[axis] + pads[sides + axis] for axis in range(sides)]
    if made == [-(-(room[axis] - reach[axis]) // strides[axis]) + 1 for axis in range(sides)]:
        return False
    missing = [max((made[axis] - 1) * strides[axis] + reach[axis] - room[axis], 0) for axis in range(sides)]
    if not any(missing):
        attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
        return True
    if node.op_type == "AveragePool" or len(node.outputs) > 1:  # whose divisors or indices would change
        return False
    attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
    attributes["pads"] = ir.AttrInt64s("pads", [*pads[:sides], *(pads[sides + axis] + missing[axis] for axis in range(sides))])
    return True


def _plane(value: ir.Value | None, sides: int) -> list[int] | None:
    """The last dimensions of a value, where they are numbers."""
    dims = None if value is None or value.shape is None else list(value.shape)[-sides:]
    return [dim for dim in dims if isinstance(dim, int)] if dims and all(isinstance(dim, int) for dim in dims) else None
