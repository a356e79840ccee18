"""The plan of a prompt: its parts, and for each encoder the chunks of tokens, before any encoder runs.

Text Encode encodes a plan, Inspect Tokens draws it, and the live line in the canvas counts its tokens. Learned
embeddings come from a library that is passed in; this file reads no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

from ..tokenizer import Tokenizer
from . import dialects
from .chunks import BareName, Packed, pack, padded
from .comfy import cut_at_breaks
from .dialects import DIALECTS

if TYPE_CHECKING:
    from .textual_inversion import Answer

AS_DIALECT = "as the dialect"
JOINING = "BREAK CONCAT AVERAGE"
_SUGGESTED = 16  # missing embeddings of a prompt that get the nearest names beside them, which takes a while
_NAMED = 8  # embeddings left out that get a note; all of them are in `PromptPlan.lost`


@dataclass(frozen=True)
class Port:
    """The facts about a CLIP text encoder that a plan needs. `key` names its tokens in the host: "l", "g", "h"."""

    name: str  # clip_l, clip_g, clip_h
    key: str
    width: int
    pad: int
    context: int
    layers: int


@dataclass(frozen=True)
class PromptSettings:
    """The choices with which a prompt is parsed and encoded; the defaults are ComfyUI's.

    `dialect`: one of `dialects.DIALECTS`. `splitting`: one of `chunks.SPLITS`. `joining`: JOINING turns BREAK, CONCAT
    and AVERAGE on. `weighting`, `normalisation`: see `emphasis`. `pooled`: one of `encode.POOLED`. `clip_skip`: the
    layer that a host reads, counted from the end; 0 is the family's own. AS_DIALECT leaves a choice to the dialect; a
    plan's settings have the dialect's choice in its place.
    """

    dialect: str = "comfy"
    weighting: str = AS_DIALECT
    normalisation: str = "none"
    splitting: str = AS_DIALECT
    clip_skip: int = 0
    pooled: str = "first chunk"
    joining: str = AS_DIALECT

    @property
    def breaks(self) -> bool:
        """Whether BREAK is a word of the grammar."""
        return DIALECTS[self.dialect].break_word or self.joining == JOINING

    def chosen(self) -> PromptSettings:
        """The same settings with the dialect's own weighting and splitting in the place of AS_DIALECT."""
        weighting = DIALECTS[self.dialect].weighting if self.weighting == AS_DIALECT else self.weighting
        split = DIALECTS[self.dialect].split if self.splitting == AS_DIALECT else self.splitting
        return replace(self, weighting=weighting, splitting=split)


class Embeddings(Protocol):
    """The library of learned embeddings, as a plan uses it."""

    def find(self, name: str, key: str, width: int, *, suggest: bool = True) -> Answer:
        """The vectors [n, width] for the encoder `key`, or a sentence that says why there are none. `suggest`: it lists
        the nearest names.
        """
        ...

    def notes(self, name: str) -> tuple[str, ...]:
        """Sentences about an embedding that was found."""
        ...

    def bare_name(self, tokenizer: Tokenizer) -> BareName:
        """A function that finds a name without `embedding:` at the beginning of ids, as A1111 does."""
        ...


@dataclass(frozen=True)
class PlannedPart:
    """One part of a prompt: the way it is joined to the parts before it, and its chunks by encoder key."""

    join: str  # "" for the first, "CONCAT" or "AVERAGE"
    weight: float
    text: str  # for encoders whose prompts the host parses
    packed: Mapping[str, Packed]


@dataclass(frozen=True)
class PromptPlan:
    """A prompt as its encoders take it, and the facts that a report shows."""

    ports: tuple[Port, ...]
    parts: tuple[PlannedPart, ...]  # at least one, all encoders' chunks of equal number
    settings: PromptSettings  # with the dialect's own choices by name
    tokens: Mapping[str, list[int]]  # by encoder key: the prompt's tokens in each chunk, over all parts
    found: list[str]  # the embeddings that at least one encoder found
    lost: Mapping[str, Mapping[str, str]]  # by embedding, by encoder: the reason why it was left out
    notes: tuple[str, ...]  # sentences


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The tokenizer of all prompts, so that they share its cache. ComfyUI's text encoders cut words by these rules."""
    return Tokenizer("transformers")


def plan_prompt(
    texts: str | Mapping[str, str],
    ports: Sequence[Port],
    settings: PromptSettings,
    embeddings: Callable[[], Embeddings] | None = None,
) -> PromptPlan:
    """Plan a prompt, or one prompt for each encoder key; `encode.encode_packed` then encodes a part for an encoder.

    Args:
        texts: the prompt, or {port.key: its prompt}.
        ports: the encoders, at least one.
        settings: the choices with which it is parsed; the plan's own have the dialect's choices by name.
        embeddings: opens the library of learned embeddings, and is called only if the prompt may name one. None:
            `embedding:name` is text.

    Returns:
        the plan: parts, each with its chunks for every encoder; counts of tokens; embeddings found and left out; notes.

    Raises:
        PromptError: a weight is no finite number, or two prompts are joined from different parts.

    >>> port = Port("clip_l", "l", width=768, pad=49407, context=77, layers=12)
    >>> planned = plan_prompt("a (red:1.3) fox", [port], PromptSettings())
    >>> [(token.id, token.emphasis) for token in planned.parts[0].packed["l"].chunks[0][:5]]
    [(49406, 1.0), (320, 1.0), (736, 1.3), (3240, 1.0), (49407, 1.0)]
    >>> planned.tokens, planned.settings.weighting, planned.settings.splitting, planned.notes
    ({'l': [3]}, 'comfy', 'hard', ())
    """
    by_key = {port.key: texts if isinstance(texts, str) else texts[port.key] for port in ports}

    # Each text is parsed once, whichever encoders it is for. A part's conditioning joins the outputs of all encoders,
    # so all texts need the same parts.
    readings = {text: dialects.read(text, settings.dialect, settings.joining == JOINING) for text in by_key.values()}
    joins = {tuple((part.join, part.weight) for part in reading.parts) for reading in readings.values()}
    if len(joins) > 1:
        raise dialects.PromptError(
            "the prompts of the two encoders are joined of different parts; write the same CONCAT and AVERAGE words, "
            "with the same weights, in both"
        )

    # Pack each part for each encoder. An embedding may have vectors for one encoder only, so the counts can differ.
    settings, library = settings.chosen(), _Library(embeddings)
    bare_name = library.bare_name() if DIALECTS[settings.dialect].bare_names else None
    parts = [
        _plan_part({port: readings[by_key[port.key]].parts[number] for port in ports}, settings, library, bare_name)
        for number in range(len(joins.pop()))
    ]

    # Level the parts with empty chunks: all encoders of a part, and both sides of an average, get equally many chunks.
    level = [_fill(part, ports) for part in _same_length(parts, ports)]
    tokens = {port.key: [count for part in level for count in part.packed[port.key].used] for port in ports}

    # Gather the facts for reports: embeddings, and notes, each of them once, those on what is lost first.
    every = [packed for part in parts for packed in part.packed.values()]
    found, lost = list(dict.fromkeys(name for packed in every for name in packed.found)), _lost(parts, ports)
    notes = _left_out(lost) + [note for reading in readings.values() for note in reading.notes]
    notes += [note for packed in every for note in packed.notes]
    notes += [f"embedding {name}: {note}" for name in found for note in library.notes(name)]
    notes += _uneven(parts, ports) + _added(parts, level)
    return PromptPlan(tuple(ports), tuple(level), settings, tokens, found, lost, tuple(dict.fromkeys(notes)))


class _Library:
    """The embeddings of one prompt: opened at the first name; only the first missing ones get suggestions."""

    def __init__(self, embeddings: Callable[[], Embeddings] | None):
        self.exists = embeddings is not None
        self._open = lru_cache(maxsize=1)(embeddings or _no_library)
        self._missing: set[str] = set()

    def find(self, name: str, key: str, width: int) -> Answer:
        found = self._open().find(name, key, width, suggest=name in self._missing or len(self._missing) < _SUGGESTED)
        if isinstance(found, str):
            self._missing.add(name)
        return found

    def notes(self, name: str) -> tuple[str, ...]:
        return self._open().notes(name)

    def bare_name(self) -> BareName | None:
        return self._open().bare_name(tokenizer()) if self.exists else None


def _no_library() -> Embeddings:
    raise ValueError("this prompt is planned without learned embeddings; pass plan_prompt a library that has them")


def _plan_part(
    parsed: Mapping[Port, dialects.Part],
    settings: PromptSettings,
    library: _Library,
    bare_name: BareName | None,
) -> PlannedPart:
    """Pack one part of a prompt for each encoder."""
    packed = {}
    for port, part in parsed.items():
        find_for = partial(library.find, key=port.key, width=port.width) if library.exists else None
        packed[port.key] = pack(
            part.spans, tokenizer(), port.pad, find_for, port.context, split=settings.splitting, bare_name=bare_name
        )
    last = list(parsed.values())[-1]
    text = " ".join(cut_at_breaks(last.text)) if settings.breaks else last.text
    return PlannedPart(last.join, last.weight, text, packed)


def _lost(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> dict[str, dict[str, str]]:
    """By embedding, by encoder: the reason why it was left out."""
    lost: dict[str, dict[str, str]] = {}
    for part in parts:
        for port in ports:
            for name, why in part.packed[port.key].lost.items():
                lost.setdefault(name, {})[port.name] = why
    return lost


def _left_out(lost: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A note for each of the first embeddings that were left out, and one with the number of the others."""
    notes = [f"embedding {name or 'without a name'} not used: {_reasons(why)}" for name, why in lost.items()]
    more = len(notes) - _NAMED
    return notes if more <= 0 else [*notes[:_NAMED], f"{more} more embeddings not used, all named in the JSON"]


def _reasons(by_encoder: Mapping[str, str]) -> str:
    """The reason, once if all encoders have the same one."""
    if len(set(by_encoder.values())) == 1:
        return next(iter(by_encoder.values()))
    return "; ".join(f"{name}: {why}" for name, why in by_encoder.items())


def _length(part: PlannedPart) -> int:
    """Chunks of the encoder that has most."""
    return max(len(packed.chunks) for packed in part.packed.values())


def _uneven(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> list[str]:
    """Notes on parts whose encoders have different numbers of chunks: an embedding for one encoder, or two prompts."""
    notes = []
    for part in parts:
        counts = {port.name: len(part.packed[port.key].chunks) for port in ports}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{name} {count}" for name, count in counts.items())
            notes.append(f"chunks: {each}; the shorter is filled up with empty chunks, nothing is cut away")
    return notes


def _added(parts: Sequence[PlannedPart], level: Sequence[PlannedPart]) -> list[str]:
    """A note on the empty chunks that an average added, beyond those that level the encoders of one part."""
    added = sum(map(_length, level)) - sum(map(_length, parts))
    many = "1 empty chunk" if added == 1 else f"{added} empty chunks"
    return [f"AVERAGE takes both sides equally long: {many} put behind the shorter"] if added else []


def _fill(part: PlannedPart, ports: Sequence[Port], chunks: int = 0) -> PlannedPart:
    """Add empty chunks at the end until all encoders have equally many, and at least `chunks`."""
    count = max(chunks, _length(part))
    packed = {
        port.key: replace(part.packed[port.key], chunks=padded(part.packed[port.key].chunks, count, port.pad))
        for port in ports
    }
    return replace(part, packed=packed)


def _same_length(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> list[PlannedPart]:
    """Add empty chunks where the two sides of an average have different lengths."""
    filled: list[PlannedPart] = []
    before = 0  # chunks of all parts before, joined
    for part in parts:
        length = _length(part)
        if part.join != "AVERAGE":
            before += length
        elif length < before:
            part = _fill(part, ports, before)
        elif length > before:
            more, place = length - before, len(filled) - 1
            while True:  # lengthen the last part; if that is averaged itself, its other side too
                filled[place] = _fill(filled[place], ports, _length(filled[place]) + more)
                if filled[place].join != "AVERAGE":
                    break
                place -= 1
            before = length
        filled.append(part)
    return filled
