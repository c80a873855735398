"""What goes wrong on the training machine."""

from custom_ops.errors import BridgeError

__all__ = ["BlockError", "ExportError"]


class BlockError(BridgeError, ValueError):
    """A synapse, a neuron or an input does not fit into a block that Loihi can run."""


class ExportError(BridgeError):
    """A network, or the way it is asked for, cannot be exported; names the module path, the class and the reason."""
