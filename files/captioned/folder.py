"""A folder of pictures with captions, as people have it for training: what is in it, and what is not used and why.

`cat.png` has its caption in `cat.txt` or `cat.caption`, its mask in `cat-masklabel.png` or in its alpha; a folder
called `10_cat` is seen ten times as often, and "cat" is the caption of its pictures that have none (kohya's sd-scripts;
OneTrainer's masks).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FileFormatError
from .pairs import KINDS

CAPTIONS = (".txt", ".caption")  # in this order
MASK = "-masklabel"
_REPEATS = re.compile(r"(\d+)_(.*)", re.DOTALL)
_MOST_REPEATS = 10_000
_LONGEST_CAPTION = 1_000_000  # bytes


@dataclass(frozen=True)
class Captioned:
    """A picture of the folder. source: where its caption is from, "file", "folder" or "" where it has none."""

    path: Path
    caption: str
    source: str
    repeats: int = 1
    mask: Path | None = None


@dataclass(frozen=True)
class CaptionedFolder:
    """The pictures in the order of their names, and what is not used: file -> why; captions that were read as Latin-1
    because they are no UTF-8.
    """

    pictures: tuple[Captioned, ...]
    unused: dict[str, str] = field(default_factory=dict)
    not_utf8: tuple[str, ...] = ()


def captioned_folder(folder: Path) -> CaptionedFolder:
    """Read what a folder and the folders in it hold; the pictures themselves are not opened.

    Raises:
        FileFormatError: there is no such folder, or no picture is in it.
    """
    files = natural_files(folder)
    there = set(files)
    pictures: list[Captioned] = []
    unused: dict[str, str] = {}
    not_utf8: list[str] = []
    read: set[Path] = set()
    for path in files:
        if path.suffix.lower() not in KINDS or path.stem.endswith(MASK):
            continue
        repeats, word = _repeats_of(path.parent)
        beside = [one for one in (path.with_suffix(ending) for ending in CAPTIONS) if one in there]
        mask = path.with_name(f"{path.stem}{MASK}.png")
        read |= {path, *beside, *([mask] if mask in there else [])}
        name = path.relative_to(folder).as_posix()
        if repeats == 0:
            unused[name] = "its folder says 0 times"
            continue
        caption, source = _caption(beside[:1], not_utf8, folder)
        if not caption and word:
            caption, source = word, "folder"
        pictures.append(Captioned(path, caption, source, repeats, mask if mask in there else None))
    for path in files:
        if path not in read:
            unused[path.relative_to(folder).as_posix()] = _why_unused(path)
    if not pictures:
        raise FileFormatError(
            folder, f"pictures were expected ({', '.join(sorted(KINDS)[:4])}, ...), and there are none in it"
        )
    return CaptionedFolder(tuple(pictures), unused, tuple(not_utf8))


def natural_files(folder: Path) -> list[Path]:
    """The files of a folder and those in it, 2 before 10; hidden ones are left out.

    Raises:
        FileFormatError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileFormatError(folder, "a folder of pictures was expected, and there is none: choose another")
    return sorted(
        (path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder))),
        key=lambda path: _natural(path.relative_to(folder).as_posix()),
    )


def _repeats_of(folder: Path) -> tuple[int, str]:
    """How often a folder's pictures are seen, and the words in its name; a name without a number says nothing."""
    found = _REPEATS.fullmatch(folder.name)
    if found is None:
        return 1, ""
    return min(int(found[1]), _MOST_REPEATS), found[2].replace("_", " ").strip()


def _caption(beside: list[Path], not_utf8: list[str], folder: Path) -> tuple[str, str]:
    for path in beside:
        content = path.read_bytes()[:_LONGEST_CAPTION]
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
            not_utf8.append(path.relative_to(folder).as_posix())
        text = " ".join(text.split())
        return text, "file" if text else ""
    return "", ""


def _why_unused(path: Path) -> str:
    if path.suffix.lower() in CAPTIONS:
        return "a caption without a picture"
    if path.stem.endswith(MASK):
        return "a mask without a picture"
    return "no picture"


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Numbers in names in the order of their values: 2 before 10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
