"""Write a file so that its name always holds either the old content or the new one, whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends without an error it is renamed to ``path``.

    The temporary file is in the same folder, so that the rename cannot cross file systems, and is flushed to disk before
    the rename. If the block raises (or is interrupted), the temporary file is removed and ``path`` is left as it was.

    Args:
        path: the file to write; its folder must exist.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    target = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp gives 0600; a new output gets what open() would have given it, an old one keeps its own permissions.
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
