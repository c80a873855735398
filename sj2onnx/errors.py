"""What goes wrong on the training machine."""

from custom_ops.errors import BridgeError

__all__ = ["BlockError", "ExportError", "UnequalError", "one_line"]


class BlockError(BridgeError, ValueError):
    """A synapse, a neuron or an input does not fit into a block that Loihi can run."""


class ExportError(BridgeError):
    """A network, or the way it is asked for, cannot be exported; names the module path, the class and the reason."""


class UnequalError(ExportError):
    """The exported file gives something else than the network, more than rounding; names the first module that differs."""


def one_line(error: BaseException | str) -> str:
    """What ``error`` says, on one line and without its full stop."""
    return " ".join(str(error).split()).removesuffix(".")
