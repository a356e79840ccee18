"""Files written whole or not at all: into a temporary file in the same folder, flushed to disk, then renamed."""

import os
import uuid
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from .errors import FileFormatError


def write_whole(path: str | PathLike, write: Callable[[BinaryIO], object], *, lasting: bool = True) -> None:
    """Call `write` with an open binary file; `path` holds all of it afterwards, or what it held before.

    What is not `lasting`, such as a preview, need not outlive a power cut, and the disk is not waited for.

    Raises:
        FileFormatError: the folder is missing, the path is a folder, or the disk refused (full, read-only).
    """
    path = Path(path)
    if os.path.isdir(path):  # False, not an error, for a name that is too long; the disk refuses that below
        raise FileFormatError(path, "this is a folder: give the name of a file to write")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"cannot be written, because the folder {path.parent} does not exist")
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            write(file)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise FileFormatError(path, f"cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
