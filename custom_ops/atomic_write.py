"""Write a file so that its name always holds either the old content or the new one, whole."""

import contextlib
import errno
import fcntl
import os
import stat
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

    As with ``open``, a symbolic link stays one, and the file behind it is written; a file without permission to write is left
    alone. Unlike ``open``, this refuses devices and pipes: a rename would put a file in their place.

    Args:
        path: the file to write; its folder must exist. Of several writers at once, the last one's content stays.

    Raises:
        OSError: the folder is missing, read-only or full; or there is something at ``path`` that is no file to write.
    """
    target = _target(Path(path))
    stem = _stem(target)
    _remove_orphans(target, stem)
    descriptor, temporary = _locked_file(target, stem)
    try:
        yield temporary
        os.fsync(descriptor)
        # mkstemp gives 0600; a new output gets what open() would have given it, an old one keeps its own permissions.
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _target(path: Path) -> Path:
    """The file behind ``path``, which may be a link to it."""
    try:
        target = path.resolve() if path.is_symlink() else path
    except RuntimeError as error:  # how Python before 3.13 calls a loop of links
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a device or a pipe, not a file")
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, "The file there is read-only")
    return target


def _stem(target: Path) -> str:
    """How temporary files for ``target`` begin."""
    name = os.fsencode(target.name)[: _NAME_MAX - 40]
    return f".{os.fsdecode(name)}."


def _locked_file(target: Path, stem: str) -> tuple[int, Path]:
    """A new temporary file with a lock on it, which says that its writer lives: numbers of processes mean nothing elsewhere."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=stem, suffix=".tmp", dir=target.parent)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if Path(name).stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor, Path(name)
        os.close(descriptor)  # another writer saw it before it had its lock, and removed it


def _remove_orphans(target: Path, stem: str) -> None:
    """Remove temporary files for ``target`` that nobody holds a lock on."""
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(stem) and path.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
