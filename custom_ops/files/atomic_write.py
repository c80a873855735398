"""Write files so that their names always hold either the old content or the new one, whole; of several, all or none."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "replacing_all", "require_writable"]

_NAME_MAX = 255  # bytes of a file's name on the usual file systems
_held: set[Path] = set()
"""Temporary files of this process. The lock is on the file, not on its name: they are written, never replaced."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends without an error it is renamed to ``path``.

    The temporary file is in the same folder, so that the rename cannot cross file systems, and is flushed to disk before
    the rename. If the block raises (or is interrupted), the temporary file is removed and ``path`` is left as it was. What a
    process that was killed in the middle of a write has left behind is removed by the next write to the same ``path``.

    Args:
        path: the file to write; its folder must exist. A symbolic link stays, and its target is replaced; a file that is there
            keeps its permissions. Of several writers at once, the last one's content stays.

    Raises:
        OSError: the folder is missing, read-only or full, or ``path`` is a device, a pipe or a folder.
    """
    if Path(path) in _held:  # whoever writes one of several files calls this with its temporary path
        yield Path(path)
        return
    with replacing_all([path]) as (temporary,):
        yield temporary


@contextmanager
def replacing_all(paths: Sequence[str | os.PathLike[str]], stale: Sequence[str | os.PathLike[str]] = ()) -> Iterator[list[Path]]:
    """Like :func:`replacing` for several files, which appear together: if one cannot be put in its place, none is.

    Args:
        paths: the files to write.
        stale: files that belong to older versions of them and have no newer version; they are removed together with these.

    Raises:
        OSError: as :func:`replacing`; all files are as they were.
    """
    targets = [require_writable(path) for path in paths]
    with contextlib.ExitStack() as cleanup:
        temporaries = [cleanup.enter_context(_temporary(target)) for target in targets]
        yield temporaries
        for temporary, target in zip(temporaries, targets, strict=True):
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            # mkstemp gives 0600; a new output gets what open() would have given it, an old one keeps its own permissions.
            temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        if len(targets) == 1 and not stale:
            temporaries[0].replace(targets[0])
            return
        backups: list[tuple[Path, Path | None]] = []
        try:
            for target in [*targets, *(require_writable(path) for path in stale)]:
                if target.exists():
                    backup = cleanup.enter_context(_temporary(target))
                    shutil.copy2(target, backup)
                    backups.append((target, backup))
                else:
                    backups.append((target, None))
            for temporary, target in zip(temporaries, targets, strict=True):
                temporary.replace(target)
            for path in stale:
                require_writable(path).unlink(missing_ok=True)
        except BaseException:
            for target, saved in backups:
                if saved is None:
                    target.unlink(missing_ok=True)
                else:
                    saved.replace(target)
            raise


def require_writable(path: str | os.PathLike[str]) -> Path:
    """The file that writing to ``path`` would replace: what a symbolic link leads to, else ``path`` itself.

    Raises:
        OSError: something is there that is not a file to write, such as a device, or the path leads nowhere.
    """
    path = Path(path)
    try:
        target = path.resolve() if path.is_symlink() else path
    except RuntimeError as error:  # how Python before 3.13 calls a loop of links
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, "the file there is read-only")
    return target


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    stem = _stem(target)
    _remove_orphans(target, stem)
    descriptor, temporary = _locked_file(target, stem)
    _held.add(temporary)
    try:
        yield temporary
    finally:
        _held.discard(temporary)
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


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
