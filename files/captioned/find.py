"""Where the pairs of a place lie, whatever it is: captions beside pictures, folders of classes, a table, or shards."""

from pathlib import Path

from ..errors import FileFormatError
from .classes import class_folders
from .folder import CAPTIONS, captioned_folder, natural_files
from .pairs import KINDS, Pair, Pairs
from .shards import ReadShards, read_shards, shard_pairs
from .table import ENDINGS, table_pairs

AUTO, BESIDE, CLASSES, TABLE, SHARDS = "auto", "captions", "classes", "table", "shards"
WAYS = (AUTO, BESIDE, CLASSES, TABLE, SHARDS)
_TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv", "captions.tsv")


def find_pairs(place: Path, way: str = AUTO, read: ReadShards = read_shards) -> Pairs:
    """Find the pairs of a folder or file; the pictures themselves are not opened.

    Args:
        way: of WAYS. auto: a table or an archive by its ending; a folder of shards, one with a table such as
            metadata.jsonl, one with a caption beside a picture; else a folder of classes.
        read: what reads shards, of which there may be many.

    Raises:
        FileFormatError: nothing is there, or it is of another kind.
        ValueError: no such way.
    """
    if way not in WAYS:
        raise ValueError(f"the way that pairs lie is {way!r}: expected one of {', '.join(WAYS)}")
    if not place.exists():
        raise FileFormatError(
            place, "pictures with captions were expected there, and it does not exist: choose another"
        )
    found = _way_of(place) if way == AUTO else way
    if found == SHARDS:
        shards = sorted(place.rglob("*.tar")) if place.is_dir() else [place]
        if not shards:
            raise FileFormatError(place, "tar archives were expected in it, and there are none: choose another")
        return shard_pairs(shards, read)
    if found == TABLE:
        tables = [place / name for name in _TABLES if (place / name).is_file()] if place.is_dir() else [place]
        if not tables:
            raise FileFormatError(
                place, f"a table was expected in it ({', '.join(_TABLES)}), and there is none: name it"
            )
        return table_pairs(tables[0])
    return class_folders(place) if found == CLASSES else _beside(place)


def _way_of(place: Path) -> str:
    if place.is_file():
        return TABLE if place.suffix.lower() in ENDINGS else SHARDS
    files = natural_files(place)
    if any(path.suffix.lower() == ".tar" for path in files):
        return SHARDS
    if any((place / name).is_file() for name in _TABLES):
        return TABLE
    pictures = [path for path in files if path.suffix.lower() in KINDS]
    there = set(files)
    if any(path.with_suffix(ending) in there for path in pictures for ending in CAPTIONS):
        return BESIDE
    return CLASSES if any(path.parent != place for path in pictures) else BESIDE


def _beside(folder: Path) -> Pairs:
    found = captioned_folder(folder)
    unused = dict(found.unused)
    pairs = []
    for one in found.pictures:
        name = one.path.relative_to(folder).as_posix()
        pairs.append(Pair(name, one.path, one.caption, repeats=one.repeats))
        if one.mask is not None:
            unused[one.mask.relative_to(folder).as_posix()] = "a mask, which the training of a CLIP does not use"
    notes = [f"{name} is no UTF-8: it was read as Latin-1" for name in found.not_utf8]
    return Pairs(tuple(pairs), unused, tuple(notes))
