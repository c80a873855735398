"""Write a file so that its name always holds either the old content or the new one, whole."""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]

_NAME_MAX = 255  # bytes of a file's name on the usual file systems


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends without an error it is renamed to ``path``.

    The temporary file is in the same folder, so that the rename cannot cross file systems, and is flushed to disk before
    the rename. If the block raises (or is interrupted), the temporary file is removed and ``path`` is left as it was. What a
    process that was killed in the middle of a write has left behind is removed by the next write to the same ``path``.

    Args:
        path: the file to write; its folder must exist. Of several writers at once, the last one's content stays.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    target = Path(path)
    stem = _stem(target)
    _remove_orphans(target, stem)
    descriptor, name = tempfile.mkstemp(prefix=f"{stem}{os.getpid()}.", suffix=".tmp", dir=target.parent)
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


def _stem(target: Path) -> str:
    """How temporary files for ``target`` begin; the machine's name is in it because process numbers mean nothing elsewhere."""
    name = os.fsencode(target.name)[: _NAME_MAX - 100]
    return f".{os.fsdecode(name)}.{socket.gethostname()[:40]}."


def _remove_orphans(target: Path, stem: str) -> None:
    """Remove temporary files for ``target`` of processes of this machine that are no more."""
    ours = re.compile(re.escape(stem) + r"(\d+)\.[^.]+\.tmp")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            match = ours.fullmatch(path.name)
            if match and not _alive(int(match[1])):
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
