"""The typed errors of the deployment side."""

from custom_ops.errors import BridgeError, MissingPackageError, ModelFileError, RuntimeUnavailableError

__all__ = [
    "BridgeError",
    "ConversionError",
    "LavaRunError",
    "LimitError",
    "MissingPackageError",
    "ModelFileError",
    "NetworkError",
    "RuntimeUnavailableError",
]


class NetworkError(BridgeError):
    """A network contradicts itself: shapes that do not fit, a source that does not exist, a weight that is not a number."""


class ConversionError(BridgeError):
    """Something in a model has no counterpart on the way to Loihi; the message names the node, its type and the reason."""


class LimitError(BridgeError):
    """A network asks for something that Loihi cannot hold or that NetX would run wrongly."""


class LavaRunError(BridgeError):
    """Lava stopped while it ran a network."""
