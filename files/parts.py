"""Hidden files that are being filled. A lock is held on each as long, so that what a killed process left behind is told
from what another one is filling, and can be removed.
"""

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which does not remove a file that is open
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\..*\.cvl-[0-9a-f]{8}\.part", re.DOTALL)
_NAME_BYTES = 80  # of the file's own name; disks take 255
_ABANDONED_S = 3600  # without a change, where no lock tells
_MOST_LOOKED_AT = 50_000  # files and folders


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
        part.unlink(missing_ok=True)
        held.close()


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
