"""A prompt's plan: its parts, and for each encoder the chunks of tokens, worked out before any encoder runs.

The plan is what Text Encode encodes, what Inspect Tokens draws and what the live line in the canvas counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from ..clip_core import dialects
from ..clip_core.chunks import BareName, Packed, pack, padded
from ..clip_core.dialects import DIALECTS
from ..clip_core.prompt import cut_at_breaks
from ..clip_core.tokenizer import END, Tokenizer
from . import embeddings
from .host.prompt_encoding import How, Port

AS_DIALECT = "as the dialect"
JOINING = "BREAK CONCAT AVERAGE"
_SUGGESTED = 16  # missing embeddings of a prompt for which the nearest names are looked up, which takes a while
_NAMED = 8  # notes on embeddings left out; all are in the report's JSON
NOMINAL = Port("clip_l", "l", 768, END, 77, 12)  # what a count without a CLIP is for


@dataclass(frozen=True)
class Settings:
    """How a prompt is to be read; the defaults are ComfyUI's ways."""

    dialect: str = "comfy"
    weighting: str = AS_DIALECT
    normalisation: str = "none"
    splitting: str = AS_DIALECT
    clip_skip: int = 0
    pooled: str = "first chunk"
    joining: str = AS_DIALECT

    @property
    def split(self) -> str:
        return DIALECTS[self.dialect].split if self.splitting == AS_DIALECT else self.splitting

    @property
    def breaks(self) -> bool:
        """Whether BREAK is a word of the grammar."""
        return DIALECTS[self.dialect].break_word or self.joining == JOINING

    @property
    def how(self) -> How:
        style = DIALECTS[self.dialect].weighting if self.weighting == AS_DIALECT else self.weighting
        return How(style, self.normalisation, self.pooled, self.clip_skip)


@dataclass(frozen=True)
class PlannedPart:
    """One part of a prompt: how it is joined to what stands before it, and its chunks by encoder key."""

    join: str  # "" for the first, "CONCAT" or "AVERAGE"
    weight: float
    text: str  # for encoders that the host reads by itself
    packed: Mapping[str, Packed]


@dataclass(frozen=True)
class Plan:
    ports: tuple[Port, ...]
    parts: tuple[PlannedPart, ...]
    notes: tuple[str, ...]

    def tokens(self) -> dict[str, list[int]]:
        """By encoder key, how many tokens of the prompt are in each chunk, all parts in a row."""
        return {port.key: [n for part in self.parts for n in part.packed[port.key].used] for port in self.ports}

    def found(self) -> list[str]:
        """The embeddings that at least one encoder found."""
        every = (name for part in self.parts for packed in part.packed.values() for name in packed.found)
        return list(dict.fromkeys(every))

    def lost(self) -> dict[str, dict[str, str]]:
        """By embedding, by encoder: why it was left out."""
        lost: dict[str, dict[str, str]] = {}
        for part in self.parts:
            for port in self.ports:
                for name, why in part.packed[port.key].lost.items():
                    lost.setdefault(name, {})[port.name] = why
        return lost


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The one that all prompts share, with its cache of words; ComfyUI's text encoders cut words by these rules."""
    return Tokenizer("transformers")


def plan(texts: str | Mapping[str, str], ports: Sequence[Port], settings: Settings) -> Plan:
    """The plan of a prompt, or of one prompt for each encoder key.

    Raises:
        PromptError: a weight is no finite number, or two prompts are joined of different numbers of parts.
    """
    by_key = {port.key: texts if isinstance(texts, str) else texts[port.key] for port in ports}
    readings = {
        text: dialects.read(text, settings.dialect, settings.joining == JOINING) for text in by_key.values()
    }
    joins = {tuple((part.join, part.weight) for part in reading.parts) for reading in readings.values()}
    if len(joins) > 1:
        raise dialects.PromptError(
            "the prompts of the two encoders are joined of different parts; write the same CONCAT and AVERAGE words, "
            "with the same weights, in both"
        )
    library = embeddings.library()
    bare_names = DIALECTS[settings.dialect].bare_names
    find, bare_name = _finder(library), library.bare_name(tokenizer()) if bare_names else None
    parts = [
        _part({port: readings[by_key[port.key]].parts[number] for port in ports}, settings, find, bare_name)
        for number in range(len(joins.pop()))
    ]
    notes = [note for reading in readings.values() for note in reading.notes]
    notes += [note for part in parts for packed in part.packed.values() for note in packed.notes]
    planned = Plan(tuple(ports), tuple(parts), ())
    notes += _left_out(planned.lost())
    notes += [f"embedding {name}: {note}" for name in planned.found() for note in library.notes(name)]
    notes += _uneven(parts, ports)
    level = [_filled(part, ports) for part in _same_length(parts, ports)]
    if added := sum(map(_length, level)) - sum(map(_length, parts)):
        many = "1 empty chunk" if added == 1 else f"{added} empty chunks"
        notes.append(f"AVERAGE takes both sides equally long: {many} put behind the shorter")
    return replace(planned, parts=tuple(level), notes=tuple(dict.fromkeys(notes)))


def _finder(library: embeddings.Library) -> Callable[[str, str, int], embeddings.Answer]:
    """`library.find` for one prompt, which looks for the nearest names of its first missing embeddings only."""
    missing: set[str] = set()

    def find(name: str, key: str, width: int) -> embeddings.Answer:
        found = library.find(name, key, width, suggest=name in missing or len(missing) < _SUGGESTED)
        if isinstance(found, str):
            missing.add(name)
        return found

    return find


def _part(
    read: Mapping[Port, dialects.Part],
    settings: Settings,
    find: Callable[[str, str, int], embeddings.Answer],
    bare_name: BareName | None,
) -> PlannedPart:
    packed = {
        port.key: pack(
            part.spans, tokenizer(), port.pad, partial(find, key=port.key, width=port.width), port.context,
            split=settings.split, bare_name=bare_name,
        )
        for port, part in read.items()
    }  # fmt: skip
    last = list(read.values())[-1]
    text = " ".join(cut_at_breaks(last.text)) if settings.breaks else last.text
    return PlannedPart(last.join, last.weight, text, packed)


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
