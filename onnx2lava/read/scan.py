"""What the attributes of a Scan say, wherever one is looked at; a stranger's may say anything."""

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Scan", "scan_of"]


@dataclass(frozen=True)
class Scan:
    """A loop over time.

    Args:
        body: one step, which reads the states and then what goes through time.
        sequences: how many of its inputs go through time.
        plain: whether all of them, and all outputs, go through the first axis, from front to back.
    """

    body: ir.Graph
    sequences: int
    plain: bool


def scan_of(node: ir.Node) -> Scan | None:
    """None where the attributes are not those of a Scan."""
    attributes = node.attributes
    try:
        body = attributes["body"].as_graph()
        sequences = attributes.get_int("num_scan_inputs", 0)
        plain = not any(
            any(attributes.get_ints(name, []))
            for kind in ("input", "output")
            for name in (f"scan_{kind}_directions", f"scan_{kind}_axes")
        )
    except (KeyError, TypeError):
        return None
    return Scan(body, sequences, plain) if 0 < sequences <= len(node.inputs) else None
