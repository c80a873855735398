"""Write files so that their names always hold either the old content or the new one, whole; of several, all or none."""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "replacing_all", "require_writable"]

_NAME_MAX = 255  # bytes of a file's name on the usual file systems


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
        temporaries = [cleanup.enter_context(_temporary(target, "tmp")) for target in targets]
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
                    backup = cleanup.enter_context(_temporary(target, "old.tmp"))
                    _keep(target, backup)
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
        OSError: something is there that is not a file, such as a device, or the path leads nowhere.
    """
    target = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.name in ("", ".", ".."):
            raise
        return target
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is a folder" if stat.S_ISDIR(mode) else "it is a device or a pipe, not a file", str(path))
    return target


def _keep(target: Path, backup: Path) -> None:
    """Give the file ``target`` a second name."""
    backup.unlink()
    try:
        os.link(target, backup)
    except OSError:  # a file system without hard links
        shutil.copy2(target, backup)


@contextmanager
def _temporary(target: Path, ending: str) -> Iterator[Path]:
    stem = _stem(target)
    _remove_orphans(target, stem)
    descriptor, name = tempfile.mkstemp(prefix=f"{stem}{os.getpid()}.", suffix=f".{ending}", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _stem(target: Path) -> str:
    """How temporary files for ``target`` begin; it says whose process numbers the next part of the name counts in."""
    name = os.fsencode(target.name)[: _NAME_MAX - 120]
    return f".{os.fsdecode(name)}.{_process_space()}."


def _process_space() -> str:
    """Where process numbers have one meaning: this start of this machine, and in it this container."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")[:16])
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "-".join(parts) or "unknown"


def _remove_orphans(target: Path, stem: str) -> None:
    """Remove temporary files for ``target`` of processes that are no more."""
    ours = re.compile(re.escape(stem) + r"(\d+)\.[^.]+(\.old)?\.tmp")
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
