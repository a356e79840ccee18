"""One program at a time: a lock that goes with the program that holds it, however that ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import FileFormatError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held_alone(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock that lies at `path`, and remove it at the end; on a disk without locks nothing is held.

    Raises:
        FileFormatError: somebody else holds it, which `busy` says; or the disk refuses.
    """
    held = _locked(path, busy)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove a file that is open; it is free there all the same
            path.unlink()
        os.close(held)


def _locked(path: Path, busy: str) -> int:
    while True:
        try:
            found = os.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise FileFormatError(path, f"cannot be written: {error.strerror or error}") from error
        if not _take(found):
            os.close(found)
            raise FileFormatError(path, busy)
        if _is_same(path, found):
            return found
        os.close(found)  # its holder has removed it between the two lines above


def _take(found: int) -> bool:
    """Whether the lock was free, and is ours."""
    try:
        if fcntl is None:
            import msvcrt

            msvcrt.locking(found, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _is_same(path: Path, found: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(found))
    except OSError:
        return False
