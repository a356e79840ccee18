"""Files written whole or not at all: into a hidden file in the same folder, flushed to disk, then renamed; or given
the first name that is free, so that programs side by side never write over each other.

A lock is held on each hidden file, so that what a killed process left behind is told from what another one is filling,
and can be removed. `held_alone` holds one for as long as a piece of work takes.
"""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from .errors import FileFormatError

try:
    import fcntl
except ImportError:  # Windows, which does not remove a file that is open
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\..*\.cvl-[0-9a-f]{8}\.part", re.DOTALL)
_NAME_BYTES = 80  # of the file's own name; disks take 255
_ABANDONED_S = 3600  # without a change, where no lock tells
_MOST_LOOKED_AT = 50_000  # files and folders


def write_whole(path: str | PathLike, write: Callable[[BinaryIO], object], *, lasting: bool = True) -> None:
    """Call `write` with an open binary file; `path` holds all of it afterwards, or what it held before.

    What is not `lasting`, such as a preview, need not outlive a power cut, and the disk is not waited for.

    Raises:
        FileFormatError: the folder is missing, the path is a folder, or the disk refused (full, read-only).
    """
    path = Path(path)
    _check_name(path)
    try:
        with part_beside(path) as part:
            _fill(part, write, lasting)
            os.replace(part, path)
    except OSError as error:
        raise FileFormatError(path, f"cannot be written: {error.strerror or error}") from error


def write_together(files: Sequence[tuple[Path, Callable[[BinaryIO], object]]]) -> None:
    """Call each `write` with an open binary file; all paths hold their new contents afterwards, or all the old ones.

    They get their names when all of them are filled, in their order. The files are of one folder.

    Raises:
        FileFormatError: the folder is missing, a path is a folder, or the disk refused (full, read-only).
    """
    for path, _ in files:
        _check_name(path)
    path = files[0][0]
    try:
        with ExitStack() as parts:
            filled = []
            for path, write in files:
                part = parts.enter_context(part_beside(path))
                _fill(part, write, True)
                filled.append((part, path))
            for part, path in filled:
                os.replace(part, path)
    except OSError as error:
        raise FileFormatError(path, f"cannot be written: {error.strerror or error}") from error


def _check_name(path: Path) -> None:
    if os.path.isdir(path):  # False, not an error, for a name that is too long; the disk refuses that below
        raise FileFormatError(path, "this is a folder: give the name of a file to write")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"cannot be written, because the folder {path.parent} does not exist")


def write_new(names: Iterable[Path], write: Callable[[BinaryIO], object], *, lasting: bool = True) -> Path:
    """Write a file as `write_whole` does, under the first of these names in one folder that is free; gives the name.

    Raises:
        FileFormatError: the disk refused (full, read-only).
    """
    names = iter(names)
    first = next(names)
    try:
        with part_beside(first) as part:
            _fill(part, write, lasting)
            return take_name(part, (name for found in ((first,), names) for name in found))
    except OSError as error:
        raise FileFormatError(first, f"cannot be written: {error.strerror or error}") from error


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


def check_writable(folder: str | PathLike) -> None:
    """Try whether files can be put into a folder, or into one that is to be made; leaves nothing behind.

    Raises:
        FileFormatError: it is a file, or the disk refuses.
    """
    folder = Path(os.path.abspath(folder))
    place = next(found for found in (folder, *folder.parents) if os.path.lexists(found))
    if not place.is_dir():
        raise FileFormatError(place, f"{place} is no folder: choose another one for the files that are to be saved")
    trial = place / f".{uuid.uuid4().hex[:8]}.part"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        why = error.strerror or str(error)
        raise FileFormatError(folder, f"nothing can be saved in {folder} ({why}): choose another folder") from error


@contextmanager
def part_beside(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Make an empty hidden file in the folder of `path`, or in another one, to be filled; what is still there at the
    end is removed.

    Raises:
        OSError: the disk refused.
    """
    while True:
        part = (folder or path.parent) / f".{_shortened(path.name)}.cvl-{uuid.uuid4().hex[:8]}.part"
        held = part.open("xb")
        if fcntl is None:
            held.close()
            break
        with suppress(OSError):  # a disk without locks, on which nothing is taken for abandoned
            fcntl.flock(held, fcntl.LOCK_EX)
        if part.exists():  # nobody has removed it before it was locked
            break
        held.close()
    try:
        yield part
    finally:
        with suppress(OSError):  # why the disk refuses has been said; that it refuses this, too, must not hide it
            part.unlink(missing_ok=True)
        held.close()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside `path`, to be filled; it gets that name at the end, or is removed with all in
    it where something went wrong.

    Raises:
        FileFormatError: there is something of that name, or the disk refused.
    """
    part = path.with_name(f".{_shortened(path.name)}.cvl-{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir()
        try:
            yield part
            if path.exists():
                raise FileFormatError(path, "there is something of that name: choose another one")
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except FileFormatError:
        raise
    except OSError as error:
        raise FileFormatError(path, f"cannot be written: {error.strerror or error}") from error


def remove_abandoned(folder: Path) -> int:
    """Remove what killed processes left half-written in a folder and in those inside it; how many files that were.

    Of a very large folder a part is looked at.
    """
    removed = looked_at = 0
    for place, folders, names in os.walk(folder):
        looked_at += len(folders) + len(names)
        removed += sum(_removed(Path(place, name)) for name in names if _NAME.fullmatch(name))
        if looked_at > _MOST_LOOKED_AT:
            break
    return removed


def take_name(part: Path, names: Iterable[Path]) -> Path:
    """Give a finished file the first of these names that nobody has, and the caller that name.

    The name is taken and tested in one step (a link, or an empty file where the disk knows no links), so that of
    several programs that want it one gets it.

    Raises:
        OSError: the disk refused.
    """
    for path in names:
        try:
            os.link(part, path)
        except FileExistsError:
            continue
        except OSError:  # FAT and some network folders have no links
            if not _reserved(path):
                continue
            os.replace(part, path)
        return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(part))


def _removed(part: Path) -> bool:
    """Whether the file was nobody's, and is gone."""
    try:
        if fcntl is None:
            if part.stat().st_mtime > time.time() - _ABANDONED_S:
                return False
            part.unlink()
            return True
        with part.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
        return True
    except OSError:
        return False


def _shortened(name: str) -> str:
    return os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore")


def _fill(part: Path, write: Callable[[BinaryIO], object], lasting: bool) -> None:
    with open(part, "wb") as file:
        write(file)
        file.flush()
        if lasting:
            os.fsync(file.fileno())


def _reserved(path: Path) -> bool:
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True
