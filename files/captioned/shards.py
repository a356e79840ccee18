"""Shards in WebDataset's layout: tar archives in which `a/17.jpg`, `a/17.txt` and `a/17.json` are one example.

An archive is not unpacked: its headers are read once, with the captions, and each picture later from its place. The key
of an example is WebDataset's: the path up to the first point of its file's name (webdataset, tariterators.py).
"""

import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import FileFormatError
from .folder import CAPTIONS
from .pairs import KINDS, Pair, Pairs, joined

ReadShards = Callable[[Sequence[Path]], list[Pairs]]
_KEYS = ("caption", "text", "title")  # of a .json
_LONGEST = 1 << 20  # bytes of a caption
_CLASSES = ("classnames.txt", "classes.txt")  # beside the shards: a class's name in each line, for numbers in .cls


def read_shards(paths: Sequence[Path]) -> list[Pairs]:
    """Read the headers and captions of shards, each by itself.

    Raises:
        FileFormatError: one is no tar archive, is compressed or cut short.
    """
    return [_one(path) for path in paths]


def shard_pairs(paths: Sequence[Path], read: ReadShards = read_shards) -> Pairs:
    """Read shards as one source; `read` may share the work out.

    Raises:
        FileFormatError: one is no tar archive, is compressed or cut short, or no picture is in any of them.
    """
    found = joined(read(paths))
    if not found.pairs:
        raise FileFormatError(paths[0], "a tar archive with pictures was expected, and none is in it: choose another")
    return found


def _one(path: Path) -> Pairs:
    names = _class_names(path.parent)
    examples: dict[str, dict[str, tarfile.TarInfo]] = {}
    unused: dict[str, str] = {}
    pairs: list[Pair] = []
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                key, ending = _split(member.name)
                if not member.isreg() or member.issparse():
                    unused[f"{path.name}/{member.name}"] = "no ordinary file"
                elif ending in examples.setdefault(key, {}):
                    unused[f"{path.name}/{member.name}"] = "a second one of this name"
                else:
                    examples[key][ending] = member
            for key, parts in examples.items():
                _add_(pairs, unused, path, key, parts, archive, names)
    except tarfile.TarError as error:
        raise FileFormatError(
            path, f"a tar archive, not compressed, was expected, and this is none ({error})"
        ) from error
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    return Pairs(tuple(pairs), unused)


def _add_(
    pairs: list[Pair],
    unused: dict[str, str],
    path: Path,
    key: str,
    parts: dict[str, tarfile.TarInfo],
    archive: tarfile.TarFile,
    names: Sequence[str],
) -> None:
    """Add the example of a key, or say of its parts why they are not used."""
    pictures = [ending for ending in parts if ending in KINDS]
    for ending, member in parts.items():
        if not pictures and ending in (*CAPTIONS, ".json", ".cls"):
            unused[f"{path.name}/{member.name}"] = "words without a picture"
        elif ending in pictures[1:]:
            unused[f"{path.name}/{member.name}"] = "a second picture of the same example"
        elif ending not in (*KINDS, *CAPTIONS, ".json", ".cls"):
            unused[f"{path.name}/{member.name}"] = "no picture"
    if not pictures:
        return
    picture = parts[pictures[0]]
    texts = {ending: _read(archive, parts[ending]) for ending in (*CAPTIONS, ".json", ".cls") if ending in parts}
    caption = next((" ".join(texts[e].split()) for e in CAPTIONS if texts.get(e, "").strip()), "")
    label = texts.get(".cls", "").strip()
    if label.isdecimal() and int(label) < len(names):
        label = names[int(label)]
    caption = caption or _said_in_json(texts.get(".json", ""))
    pairs.append(Pair(f"{path.name}/{picture.name}", path, caption, label, 1, picture.offset_data, picture.size))


def _split(name: str) -> tuple[str, str]:
    """The key of an example and the ending of this part of it.

    >>> _split("./a.b/17.seg.png")
    ('./a.b/17', '.seg.png')
    """
    folder, _, file = name.rpartition("/")
    key, point, ending = file.partition(".")
    return f"{folder}/{key}" if folder else key, (point + ending).lower()


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    return "" if file is None else file.read(_LONGEST).decode("utf-8-sig", "replace")


def _said_in_json(text: str) -> str:
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return ""
    values = (found.get(key) for key in _KEYS) if isinstance(found, dict) else ()
    return next((" ".join(value.split()) for value in values if isinstance(value, str) and value.strip()), "")


def _class_names(folder: Path) -> list[str]:
    for name in _CLASSES:
        if (folder / name).is_file():
            return [line.strip() for line in (folder / name).read_text("utf-8", "replace").splitlines()]
    return []
