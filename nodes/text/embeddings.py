"""Learned embeddings by name: from `embedding:name`, or A1111's bare names, to files and their vectors.

Names are resolved as in ComfyUI (comfy/sd1_clip.py `load_embed`, 0.33.0): with the extension or without, by the path in
the embeddings folder or by any end of it. They are looked up in the host's list of files, so no name leads out of the
folder.
"""

from __future__ import annotations

import difflib
import hashlib
import posixpath
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ...clip_core.prompts.dialects import DIALECTS
from ...clip_core.prompts.textual_inversion import Answer, EmbeddingError, EmbeddingFile, find_embeddings
from ...files.errors import FileFormatError
from ...files.sniff import file_mark, status_mark
from ...files.tensors import open_tensors
from ..host import host

if TYPE_CHECKING:
    from ...clip_core.prompts.chunks import BareName
    from ...clip_core.tokenizer import Tokenizer

_EXTENSIONS = (".safetensors", ".pt", ".bin")  # may be left out, tried in this order
_PICTURES = (".png", ".webp", ".jxl", ".avif")  # A1111 reads embeddings out of these
_KEPT_FILES, _KEPT_BYTES = 64, 4 * 2**20  # at most so many files, none with more vectors than that: 256 MiB in all
_KEPT_MISSING = 256
_NEAREST, _LONGEST_NAME = 3, 255
_PREFIX = "embedding:"
_MISSING = "there is no embedding called"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


class Library:
    """The names in the embeddings folder at one moment. A file is read when its name is looked up."""

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self._places = _ends(self.names)
        self._missing: dict[str, str] = {}
        self._by_first_id: dict[str, dict[int, list[tuple[tuple[int, ...], str]]]] = {}
        self._lock = threading.Lock()

    def find(self, name: str, key: str, width: int, *, suggest: bool = True) -> Answer:
        """The vectors [n, width] float32 for the encoder `key` ("l", "g", "h"), shared between callers; or a sentence
        that says why there are none, with the nearest names if `suggest`. `name:word` is a word of a file with several.
        """
        found, word = self._file_of(name, suggest)
        if isinstance(found, str):
            return found
        if word is not None and word not in found.words and _NUMBER.fullmatch(word):
            return f"{_MISSING} {_cut(name)}; a weight needs brackets: (embedding:{_cut(name)})"
        return found.vectors(key, width, word)

    def notes(self, name: str) -> tuple[str, ...]:
        """Notes on the parts of a name's file that are not used."""
        found, _ = self._file_of(name)
        return () if isinstance(found, str) else found.notes

    def bare_name(self, tokenizer: Tokenizer) -> BareName:
        """A1111's rule for names without `embedding:`, by token ids: among the file names (without folder and
        extension) that the ids begin with, the one with most ids (modules/textual_inversion/textual_inversion.py,
        `find_embedding_at_position`). As in A1111, a name stored inside a file does not count.
        """
        with self._lock:
            if tokenizer.rules not in self._by_first_id:
                self._by_first_id[tokenizer.rules] = _names_by_first_id(self.names, tokenizer)
            by_first_id = self._by_first_id[tokenizer.rules]

        def match(ids: Sequence[int]) -> tuple[str, int] | None:
            for name_ids, name in by_first_id.get(ids[0], ()) if ids else ():
                if tuple(ids[: len(name_ids)]) == name_ids:
                    return name, len(name_ids)
            return None

        return match

    def _file_of(self, name: str, suggest: bool = True) -> tuple[EmbeddingFile | str, str | None]:
        """The content of a name's file, or the reason for having none; and the word in it, for `name:word`."""
        listed, word = self._listed(name), None
        if listed is None and ":" in name:
            stem, _, word = name.rpartition(":")
            listed = self._listed(stem)
        if listed is None:
            return self._not_found(name) if suggest else f"{_MISSING} {_cut(name)}", None
        try:
            return _file(host.folder_path("embeddings", listed)), word
        except FileNotFoundError:
            return f"{listed} is gone from the embeddings folder, or lies outside of it", None

    def _listed(self, name: str) -> str | None:
        """The host's name of the file; the one nearest to the root if several fit."""
        if not name or len(name) > _LONGEST_NAME:
            return None
        end = posixpath.normpath(PurePath(name).as_posix())
        found = [
            (*self._places[end + extension], order)
            for order, extension in enumerate(("", *_EXTENSIONS))
            if end + extension in self._places
        ]
        return min(found, key=lambda place: (place[0], place[1], place[3]))[2] if found else None

    def _not_found(self, name: str) -> str:
        """The reason why a name has no file; cached, as comparing it with thousands of names takes a while."""
        with self._lock:
            if name not in self._missing:
                if len(self._missing) >= _KEPT_MISSING:
                    self._missing.clear()
                self._missing[name] = _why_missing(name, self.names)
            return self._missing[name]


_lock = threading.Lock()
_current: Library | None = None
_files: OrderedDict[tuple[str, int, int, int, int], EmbeddingFile | str] = OrderedDict()


def library() -> Library:
    """The library of the embeddings folder as it is now; the same object until a name changes."""
    global _current
    names = tuple(host.folder_names("embeddings"))
    with _lock:
        if _current is None or names != _current.names:
            _current = Library(names)
        return _current


def find(name: str, key: str, width: int) -> Answer:
    """`library().find`, for prompts of other nodes than ours."""
    return library().find(name, key, width)


def fingerprint(texts: Sequence[str | None], dialect: str | None) -> str:
    """Return a mark that changes when an embedding does that these texts name, or could name once it is there. None is
    a text, or a dialect, that is linked and known in a run only: then all embeddings count.
    """
    prompt = " ".join(text.lower() for text in texts if isinstance(text, str))
    is_linked = any(not isinstance(text, str) for text in texts)
    bare = dialect not in DIALECTS or DIALECTS[dialect].bare_names
    if not (is_linked or bare or _PREFIX in prompt):
        return ""
    names = sorted(host.folder_names("embeddings"))
    said = [name for name in names if is_linked or PurePath(name).stem.lower() in prompt]
    marks = [f"{name} {_mark_of(name, by_content=not is_linked)}" for name in said]
    all_names = names if is_linked or _PREFIX in prompt else ()  # one that is missing is told with the nearest names
    return hashlib.sha256("\n".join([*marks, "", *all_names]).encode("utf-8", "surrogatepass")).hexdigest()


def _mark_of(name: str, *, by_content: bool) -> str:
    try:
        path = host.folder_path("embeddings", name)
        return file_mark(path) if by_content else str(status_mark(path.stat()))
    except OSError:
        return "missing"


def _file(path: Path) -> EmbeddingFile | str:
    """The content of a file, or the reason why it cannot be read; cached until the file changes."""
    try:
        state = path.stat()
    except OSError as error:
        return f"{path.name}: cannot be read: {error.strerror or error}"
    known_as = (str(path), *status_mark(state))
    with _lock:
        if known_as in _files:
            _files.move_to_end(known_as)
            return _files[known_as]
    found = _read(path)
    if isinstance(found, str) or found.bytes <= _KEPT_BYTES:
        with _lock:
            _files[known_as] = found
            while len(_files) > _KEPT_FILES:
                _files.popitem(last=False)
    return found


def _read(path: Path) -> EmbeddingFile | str:
    try:
        with open_tensors(path) as file:
            source = find_embeddings(file.shapes, file.metadata)
            return source.translate(file.read(source.names))
    except FileFormatError as error:
        return str(error)
    except EmbeddingError as error:
        return f"{path.name}: {error}"


def _ends(names: Sequence[str]) -> dict[str, tuple[int, str, str]]:
    """Each end of each path ("c.pt", "b/c.pt", "a/b/c.pt") -> its depth, its folder, the whole name."""
    places: dict[str, tuple[int, str, str]] = {}
    for name in names:
        parts = PurePath(name).parts
        for depth in range(len(parts)):
            place = (depth, "/".join(parts[:depth]), name)
            end = "/".join(parts[depth:])
            places[end] = min(place, places.get(end, place))
    return places


def _names_by_first_id(names: Sequence[str], tokenizer: Tokenizer) -> dict[int, list[tuple[tuple[int, ...], str]]]:
    """The token ids and the name of each file, by first id; names with most ids come first."""
    table: dict[int, list[tuple[tuple[int, ...], str]]] = {}
    stems = (PurePath(name).stem for name in names if PurePath(name).suffix.lower() in _EXTENSIONS)
    for stem in dict.fromkeys(stems):
        ids = tuple(tokenizer.encode(stem))
        if ids:
            table.setdefault(ids[0], []).append((ids, stem))
    for same_first in table.values():
        same_first.sort(key=lambda entry: -len(entry[0]))
    return table


def _why_missing(name: str, names: Sequence[str]) -> str:
    if name.lower().endswith(_PICTURES):
        return f"{_cut(name)}: embeddings in pictures, as A1111 makes them, are not read here; get it as .safetensors"
    if with_blank := _with_blank(name, names):
        return (
            f"{_MISSING} {_cut(name)}: a name ends at a blank, and {_cut(with_blank)} has one in it; rename the file "
            "or folder, with _ for the blank"
        )
    nearest = _nearest(name, names) if len(name) <= _LONGEST_NAME else []
    said = f"{_MISSING} {_cut(name)}"
    if not names:
        return f"{said}; the embeddings folder is empty"
    return f"{said}; the nearest are {', '.join(nearest)}" if nearest else f"{said}, nor one with a name like it"


def _with_blank(name: str, names: Sequence[str]) -> str | None:
    """A file whose path, or an end of it, begins with this name and has a blank next."""
    begun = f"{name.lower()} "
    return next((one for one in names if name and f"/{begun}" in f"/{PurePath(one).as_posix().lower()}"), None)


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """The nearest names, as prompts write them: first one that differs in capitals alone, then by similarity."""
    written: dict[str, list[str]] = {}
    for each in dict.fromkeys(without_extension(PurePath(one).as_posix()) for one in names):
        shown = each if "/" in name else PurePath(each).name
        written.setdefault(shown.lower(), []).append(shown)
    wanted = without_extension(name).lower()
    alike = [wanted] if wanted in written else []
    alike += [one for one in difflib.get_close_matches(wanted, written, n=_NEAREST) if one != wanted]
    return list(dict.fromkeys(shown for one in alike for shown in written[one]))[:_NEAREST]


def without_extension(name: str) -> str:
    """The name of an embedding as prompts write it."""
    return name.rpartition(".")[0] if name.lower().endswith(_EXTENSIONS) else name


def _cut(name: str) -> str:
    name = name[:61].encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be sent to the browser
    return name if len(name) <= 60 else name[:57] + "..."
