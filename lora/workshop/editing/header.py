"""The header of an edited or merged file: what stays true is kept, what several files say is joined."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...formats.header import clean, named_words, title
from ...formats.list_text import split_words
from ...kinds.adapters import LoRAError
from ..sources import Source

WORDS, TITLE, THUMBNAIL, FROM = (
    "modelspec.trigger_phrase",
    "modelspec.title",
    "modelspec.thumbnail",
    "modelspec.merged_from",
)
RECIPE = "cvl_merge"  # the files with their strengths, and the method, as JSON
_OF_TENSORS = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")  # true of the old numbers alone
_WRITTEN_ANEW = ("format", "adapter_config", "lora_adapter_metadata", "ss_network_dim", "ss_network_alpha")
_OF_DIALECT = ("ss_network_module", "ss_network_args", "unet", "text_encoder")
_TAGS = "ss_tag_frequency"
_LONGEST_KEPT = 100_000
_LONGEST_SAID = 500  # of an entry that differs between files, where it is kept beside its file
_MOST_SAID = 60


@dataclass(frozen=True)
class HeaderEdit:
    """What changes in a header. set: entry -> text; remove: entries; words: the trigger words, None to keep them;
    thumbnail: a data: address of a picture, "" to remove it, None to keep it.
    """

    set: Mapping[str, str] | None = None
    remove: Sequence[str] = ()
    words: Sequence[str] | None = None
    title: str | None = None
    thumbnail: str | None = None

    @property
    def asked(self) -> bool:
        return bool(self.set or self.remove) or any(one is not None for one in (self.words, self.title, self.thumbnail))


def kept_entries(metadata: Mapping[str, str], *, tensors_changed: bool = True) -> dict[str, str]:
    """The entries that hold for a file with other tensors too; all of them where the tensors stay as they are."""
    if not tensors_changed:
        return dict(metadata)
    lost = (*_OF_TENSORS, *_WRITTEN_ANEW, *_OF_DIALECT)
    return {
        name: text
        for name, text in metadata.items()
        if name not in lost and not name.endswith(":rank") and text != "<embed>"
    }


def edit_header(metadata: Mapping[str, str], edit: HeaderEdit) -> dict[str, str]:
    """The header after an edit; it is not changed itself.

    Raises:
        LoRAError: an entry without a name, an entry to remove that is not there, or a thumbnail that is no picture.
    """
    found = dict(metadata)
    for name in edit.remove:
        if name not in found:
            raise LoRAError(f"the header has no entry {clean(name, 80)!r} to remove: it has {_some(found)}")
        del found[name]
    for name, text in (edit.set or {}).items():
        if not name.strip() or name == "__metadata__" or not isinstance(text, str):
            raise LoRAError(f"an entry of the header is called {clean(name, 80)!r}: expected a name, and a text")
        found[name] = text
    if edit.title is not None:
        _put(found, TITLE, edit.title.strip())
    if edit.words is not None:
        _put(found, WORDS, ", ".join(split_words(", ".join(edit.words))))
    if edit.thumbnail is not None:
        if edit.thumbnail and not edit.thumbnail.startswith("data:image/"):
            raise LoRAError("the thumbnail is no picture: expected a data: address of an image")
        _put(found, THUMBNAIL, edit.thumbnail)
    return found


def merged_header(sources: Sequence[Source], recipe: Mapping[str, object]) -> dict[str, str]:
    """The header of a file that was made of several: what they agree on, their words joined, and where it comes from.

    An entry that only some have is kept. One that differs is kept beside its file in the recipe, shortened where it is
    long; the tags of the training are joined, and `modelspec.merged_from` names the files.
    """
    headers = [kept_entries(source.metadata) for source in sources]
    several = len(sources) > 1
    joined: dict[str, str] = {}
    differing: dict[str, None] = {}
    for header in headers:
        for name, text in header.items():
            if name in (WORDS, TITLE, THUMBNAIL, FROM, RECIPE, _TAGS) and several:
                continue
            if len(text) > _LONGEST_KEPT or joined.setdefault(name, text) != text:
                differing[name] = None
    for name in differing:
        joined.pop(name, None)
    words = split_words(", ".join(word for header in headers for word in named_words(header)))
    if words:
        joined[WORDS] = ", ".join(words)
    if tags := _joined_tags([header.get(_TAGS, "") for header in headers]):
        joined[_TAGS] = tags
    named = [_origin(source) for source in sources]
    joined[FROM] = ", ".join(dict.fromkeys(one for one in named if one))
    told = [_told(source, header, [*differing, TITLE]) for source, header in zip(sources, headers)]
    return joined | {RECIPE: json.dumps({**recipe, "files": told}, ensure_ascii=False)}


def _origin(source: Source) -> str:
    """What `merged_from` calls a file: its name, and the files that it was merged from itself."""
    before = source.metadata.get(FROM, "")
    return clean(f"{source.name} ({before})" if before else source.name)


def _told(source: Source, header: Mapping[str, str], differing: Sequence[str]) -> dict[str, object]:
    """A file in the recipe: its strengths, and the entries of its header that others say otherwise."""
    own = {name: clean(header[name], _LONGEST_SAID) for name in differing[:_MOST_SAID] if name in header}
    told: dict[str, object] = {
        "name": source.name,
        "strength_model": source.strength_model,
        "strength_clip": source.strength_clip,
    }
    if source.blocks:
        told["blocks"] = source.blocks
    if called := title(source.metadata):
        told["title"] = called
    return told | ({"header": own} if own else {})


def _joined_tags(texts: Sequence[str]) -> str:
    """The tag counts of all files; "" where none is readable, or together they are too long."""
    sets: dict[str, object] = {}
    for text in texts:
        try:
            found = json.loads(text) if text and len(text) <= _LONGEST_KEPT else {}
        except (ValueError, RecursionError):
            found = {}
        for name, counts in found.items() if isinstance(found, dict) else ():
            key = name if name not in sets or sets[name] == counts else f"{name} ({len(sets)})"
            sets[key] = counts
    return json.dumps(sets, ensure_ascii=False) if sets else ""


def _put(header: dict[str, str], name: str, text: str) -> None:
    if text:
        header[name] = text
    else:
        header.pop(name, None)


def _some(names: Mapping[str, str]) -> str:
    shown = ", ".join(clean(name, 60) for name in list(names)[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"
