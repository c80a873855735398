"""The typed errors that all three packages raise.

Every message is one sentence that says what is wrong, where (file, node, module path), why, and what to do about it.
"""

__all__ = ["BridgeError", "MissingPackageError", "ModelFileError", "RuntimeUnavailableError", "StreamError"]

_LONGEST = 1200  # characters of a message


class BridgeError(Exception):
    """Base class of every error that this project raises on purpose; the command lines turn it into exit code 2.

    Args:
        message: may quote names from files of strangers: what a terminal would obey is escaped, and what is very long is cut.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_shortened("".join(each if each.isprintable() else repr(each)[1:-1] for each in message)))


class ModelFileError(BridgeError):
    """A model file cannot be read: it is missing, broken, not what its name says, or refers to data outside its folder."""


class RuntimeUnavailableError(BridgeError):
    """Something that the call needs is not on this machine: the native library, a GPU, Lava, SpikingJelly."""


class MissingPackageError(RuntimeUnavailableError, ImportError):
    """A package that the call needs is not installed here: torch, SpikingJelly, Lava, jinja2.

    Args:
        message: names the extra that brings it.
        name: the package as it is imported.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name or None


class StreamError(BridgeError, ValueError):
    """A chunk or a set of states does not fit the stream that it is given to."""


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 3 :]}"
