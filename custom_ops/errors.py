"""The typed errors that all three packages raise.

Every message is one sentence that says what is wrong, where (file, node, module path), why, and what to do about it.
"""

__all__ = ["BridgeError", "ModelFileError", "RuntimeUnavailableError", "StreamError"]


class BridgeError(Exception):
    """Base class of every error that this project raises on purpose; the command lines turn it into exit code 2."""


class ModelFileError(BridgeError):
    """A model file cannot be read: it is missing, broken, not what its name says, or refers to data outside its folder."""


class RuntimeUnavailableError(BridgeError):
    """Something that the call needs is not on this machine: the native library, a GPU, Lava, SpikingJelly."""


class StreamError(BridgeError, ValueError):
    """A chunk or a set of states does not fit the stream that it is given to."""
