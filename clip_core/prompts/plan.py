"""A prompt's plan: its parts, and for each encoder the chunks of tokens, worked out before any encoder runs.

The plan is what Text Encode encodes, what Inspect Tokens draws and what the live line in the canvas counts. Learned
embeddings come from a library that is handed in; nothing is read here.
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
_SUGGESTED = 16  # missing embeddings of a prompt for which the nearest names are looked up, which takes a while
_NAMED = 8  # notes on embeddings left out; all are in `PromptPlan.lost`


@dataclass(frozen=True)
class Port:
    """A CLIP text encoder as prompts see it. `key` is the host's for its tokens: "l", "g", "h"."""

    name: str  # clip_l, clip_g, clip_h
    key: str
    width: int
    pad: int
    context: int
    layers: int


@dataclass(frozen=True)
class PromptSettings:
    """How a prompt is to be read and encoded; the defaults are ComfyUI's ways.

    `dialect`: one of `dialects.DIALECTS`. `splitting`: one of `chunks.SPLITS`. `joining`: JOINING makes BREAK, CONCAT
    and AVERAGE work. `weighting`, `normalisation`: see `emphasis`. `pooled`: one of `encode.POOLED`. `clip_skip`: the
    layer, counted from the end, that a host is to read; 0 is the family's own. AS_DIALECT leaves a choice to the
    dialect; a plan's own settings have none left.
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
        """These, with the dialect's own weighting and splitting by their names."""
        weighting = DIALECTS[self.dialect].weighting if self.weighting == AS_DIALECT else self.weighting
        split = DIALECTS[self.dialect].split if self.splitting == AS_DIALECT else self.splitting
        return replace(self, weighting=weighting, splitting=split)


class Embeddings(Protocol):
    """What a plan asks of the learned embeddings that there are."""

    def find(self, name: str, key: str, width: int, *, suggest: bool = True) -> Answer:
        """The vectors [n, width] for the encoder `key`, or a sentence why there are none, which names the nearest
        names if `suggest`.
        """

    def notes(self, name: str) -> tuple[str, ...]:
        """What else should be told of an embedding that was found."""

    def bare_name(self, tokenizer: Tokenizer) -> BareName:
        """Which ids begin with a name that is written without `embedding:`, as A1111 reads it."""


@dataclass(frozen=True)
class PlannedPart:
    """One part of a prompt: how it is joined to what stands before it, and its chunks by encoder key."""

    join: str  # "" for the first, "CONCAT" or "AVERAGE"
    weight: float
    text: str  # for encoders that the host reads by itself
    packed: Mapping[str, Packed]


@dataclass(frozen=True)
class PromptPlan:
    """What a prompt is to its encoders, and what should be told about it."""

    ports: tuple[Port, ...]
    parts: tuple[PlannedPart, ...]  # at least one, all encoders' chunks of equal number
    settings: PromptSettings  # with the dialect's own choices by name
    tokens: Mapping[str, list[int]]  # by encoder key, tokens of the prompt in each chunk, all parts in a row
    found: list[str]  # the embeddings that at least one encoder found
    lost: Mapping[str, Mapping[str, str]]  # by embedding, by encoder: why it was left out
    notes: tuple[str, ...]  # sentences


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The one that all prompts share, with its cache of words; ComfyUI's text encoders cut words by these rules."""
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
        settings: how it is read; the plan holds them with the dialect's own choices by name.
        embeddings: gives the learned embeddings that there are, and is asked only if the prompt may name one. None:
            `embedding:name` is text.

    Returns:
        the parts, each with its chunks for every encoder; tokens and embeddings counted; notes.

    Raises:
        PromptError: a weight is no finite number, or two prompts are joined of different numbers of parts.

    >>> port = Port("clip_l", "l", width=768, pad=49407, context=77, layers=12)
    >>> planned = plan_prompt("a (red:1.3) fox", [port], PromptSettings())
    >>> [(token.id, token.emphasis) for token in planned.parts[0].packed["l"].chunks[0][:5]]
    [(49406, 1.0), (320, 1.0), (736, 1.3), (3240, 1.0), (49407, 1.0)]
    >>> planned.tokens, planned.settings.weighting, planned.settings.splitting, planned.notes
    ({'l': [3]}, 'comfy', 'hard', ())
    """
    by_key = {port.key: texts if isinstance(texts, str) else texts[port.key] for port in ports}

    # Each text is read once, whichever encoders it is for. A conditioning joins what all encoders give for a part, so
    # all texts need the same parts.
    readings = {text: dialects.read(text, settings.dialect, settings.joining == JOINING) for text in by_key.values()}
    joins = {tuple((part.join, part.weight) for part in reading.parts) for reading in readings.values()}
    if len(joins) > 1:
        raise dialects.PromptError(
            "the prompts of the two encoders are joined of different parts; write the same CONCAT and AVERAGE words, "
            "with the same weights, in both"
        )

    # The chunks of each part for each encoder; an embedding may have vectors for one encoder only.
    settings, library = settings.chosen(), _Library(embeddings)
    bare_name = library.bare_name() if DIALECTS[settings.dialect].bare_names else None
    find = None if embeddings is None else library.find
    parts = [
        _part({port: readings[by_key[port.key]].parts[number] for port in ports}, settings, find, bare_name)
        for number in range(len(joins.pop()))
    ]

    # Empty chunks make all encoders of a part, and both sides of an average, equally long. They hold no tokens.
    level = [_filled(part, ports) for part in _same_length(parts, ports)]
    tokens = {port.key: [count for part in level for count in part.packed[port.key].used] for port in ports}

    every = [packed for part in parts for packed in part.packed.values()]
    found, lost = list(dict.fromkeys(name for packed in every for name in packed.found)), _lost(parts, ports)
    notes = [note for read in [*readings.values(), *every] for note in read.notes]
    notes += _left_out(lost)
    notes += [f"embedding {name}: {note}" for name in found for note in library.notes(name)]
    notes += _uneven(parts, ports) + _added(parts, level)
    return PromptPlan(tuple(ports), tuple(level), settings, tokens, found, lost, tuple(dict.fromkeys(notes)))


class _Library:
    """The embeddings for one prompt: asked for when the first name comes, the nearest names looked up for the first
    missing ones only.
    """

    def __init__(self, embeddings: Callable[[], Embeddings] | None):
        self._open = lru_cache(maxsize=1)(embeddings) if embeddings is not None else None
        self._missing: set[str] = set()

    def find(self, name: str, key: str, width: int) -> Answer:
        found = self._open().find(name, key, width, suggest=name in self._missing or len(self._missing) < _SUGGESTED)
        if isinstance(found, str):
            self._missing.add(name)
        return found

    def notes(self, name: str) -> tuple[str, ...]:
        return self._open().notes(name)

    def bare_name(self) -> BareName | None:
        return None if self._open is None else self._open().bare_name(tokenizer())


def _part(
    read: Mapping[Port, dialects.Part],
    settings: PromptSettings,
    find: Callable[[str, str, int], Answer] | None,
    bare_name: BareName | None,
) -> PlannedPart:
    packed = {}
    for port, part in read.items():
        find_for = None if find is None else partial(find, key=port.key, width=port.width)
        packed[port.key] = pack(
            part.spans, tokenizer(), port.pad, find_for, port.context, split=settings.splitting, bare_name=bare_name
        )
    last = list(read.values())[-1]
    text = " ".join(cut_at_breaks(last.text)) if settings.breaks else last.text
    return PlannedPart(last.join, last.weight, text, packed)


def _lost(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> dict[str, dict[str, str]]:
    lost: dict[str, dict[str, str]] = {}
    for part in parts:
        for port in ports:
            for name, why in part.packed[port.key].lost.items():
                lost.setdefault(name, {})[port.name] = why
    return lost


def _left_out(lost: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A note for each of the first embeddings that were left out, and how many more there are."""
    notes = [f"embedding {name or 'without a name'} not used: {_reasons(why)}" for name, why in lost.items()]
    more = len(notes) - _NAMED
    return notes if more <= 0 else [*notes[:_NAMED], f"{more} more embeddings not used, all named in the JSON"]


def _reasons(by_encoder: Mapping[str, str]) -> str:
    """One sentence where the encoders agree, else each with its own."""
    if len(set(by_encoder.values())) == 1:
        return next(iter(by_encoder.values()))
    return "; ".join(f"{name}: {why}" for name, why in by_encoder.items())


def _length(part: PlannedPart) -> int:
    return max(len(packed.chunks) for packed in part.packed.values())


def _uneven(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> list[str]:
    """Encoders that see different numbers of chunks (an embedding for one of them only, or two prompts)."""
    notes = []
    for part in parts:
        counts = {port.name: len(part.packed[port.key].chunks) for port in ports}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{name} {count}" for name, count in counts.items())
            notes.append(f"chunks: {each}; the shorter is filled up with empty chunks, nothing is cut away")
    return notes


def _added(parts: Sequence[PlannedPart], level: Sequence[PlannedPart]) -> list[str]:
    """The empty chunks of the parts made level that the longer encoder of each part did not have."""
    added = sum(map(_length, level)) - sum(map(_length, parts))
    many = "1 empty chunk" if added == 1 else f"{added} empty chunks"
    return [f"AVERAGE takes both sides equally long: {many} put behind the shorter"] if added else []


def _filled(part: PlannedPart, ports: Sequence[Port], chunks: int = 0) -> PlannedPart:
    """The part with as many chunks in each encoder, at least `chunks`: empty ones at the end."""
    count = max(chunks, _length(part))
    packed = {
        port.key: replace(part.packed[port.key], chunks=padded(part.packed[port.key].chunks, count, port.pad))
        for port in ports
    }
    return replace(part, packed=packed)


def _same_length(parts: Sequence[PlannedPart], ports: Sequence[Port]) -> list[PlannedPart]:
    """The parts with empty chunks added where an average needs both its sides of one length."""
    filled: list[PlannedPart] = []
    before = 0  # chunks of what the next part is joined to
    for part in parts:
        length = _length(part)
        if part.join != "AVERAGE":
            before += length
        elif length < before:
            part = _filled(part, ports, before)
        elif length > before:
            more, place = length - before, len(filled) - 1
            while True:  # the last part, and if it is averaged itself, both its sides
                filled[place] = _filled(filled[place], ports, _length(filled[place]) + more)
                if filled[place].join != "AVERAGE":
                    break
                place -= 1
            before = length
        filled.append(part)
    return filled
