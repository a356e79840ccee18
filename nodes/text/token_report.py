"""A prompt's plan as a report: lines for the node, JSON for programs, strips for the picture."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...clip_core.prompts.chunks import Token
from ...clip_core.prompts.plan import PlannedPart, Port, PromptPlan, tokenizer
from ...drawing.token_sheet import Mark, Strip

EMBEDDING = "[embedding]"
_CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")
_WILDCARD = re.compile(r"(?<!\w)__(?!_)[\w/\\. *-]{1,80}?(?<!_)__(?!\w)")
_COMMENT = re.compile(r"/\*[^*]*(?:\*(?!/)[^*]*)*\*/|(?<!:)//[^\n]*")  # not the // of an address
_SHOWN = 40  # characters


def count_lines(plan: PromptPlan) -> list[str]:
    """A line for each encoder with its tokens and chunks; then one with the embeddings found."""
    lines = [_count(port, plan.tokens[port.key]) for port in plan.ports]
    return lines + ([f"embeddings: {', '.join(plan.found)}"] if plan.found else [])


def as_typed(texts: str | Mapping[str, str]) -> list[str]:
    """Notes on choices and comments that came through: the canvas alone draws and removes them, before it sends."""
    whole_text = texts if isinstance(texts, str) else "\n".join(dict.fromkeys(texts.values()))
    notes = []
    for pattern, what, does in (
        (_CHOICE, "words to choose from", "draws one of them"),
        (_COMMENT, "a comment", "leaves it out"),
    ):
        if found := pattern.search(whole_text):
            notes.append(
                f"{_cut(found.group())} is encoded as it stands: {what} came through, and only the canvas {does}, "
                "before it sends a prompt"
            )
    if found := _WILDCARD.search(whole_text):
        notes.append(
            f"{_cut(found.group())} is encoded as it stands: no file of wildcards is read here; write one of its lines "
            "in its place"
        )
    return notes


def _cut(text: str) -> str:
    line = " ".join(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def summary(plan: PromptPlan) -> dict:
    """The data of an encoding, without the tokens themselves."""
    settings = plan.settings
    return _facts(plan) | {
        "dialect": settings.dialect,
        "weighting": settings.weighting,
        "normalisation": settings.normalisation,
        "splitting": settings.splitting,
        "clip_skip": settings.clip_skip,
        "pooled": settings.pooled,
    }


def whole(plan: PromptPlan) -> dict:
    """The data of a plan, with every token of every chunk."""
    encoders = {port.name: [_chunk(chunk) for chunk in _chunks(plan, port)] for port in plan.ports}
    return _facts(plan) | {"encoders": encoders}


def _facts(plan: PromptPlan) -> dict:
    return {
        "tokens": plan.tokens,
        "parts": [_part_facts(part) for part in plan.parts],
        "embeddings_found": plan.found,
        "embeddings_lost": plan.lost,
    }


def strips(plan: PromptPlan) -> list[tuple[str, list[Strip]]]:
    """The strips that `drawing.token_sheet` draws, by encoder."""
    return [
        (
            f"{port.name}: {sum(plan.tokens[port.key])} tokens",
            [_strip(number, chunk) for number, chunk in enumerate(_chunks(plan, port), 1)],
        )
        for port in plan.ports
    ]


def piece(token: Token) -> str:
    """The text of a token; a learned vector has a placeholder."""
    return tokenizer().piece(token.id) if isinstance(token.id, int) else EMBEDDING


def of_prompt(chunk: list[Token]) -> list[Token]:
    """The tokens of the prompt, without start, end and padding."""
    return [token for token in chunk if token.word]


def _chunks(plan: PromptPlan, port: Port) -> list[list[Token]]:
    return [chunk for part in plan.parts for chunk in part.packed[port.key].chunks]


def _chunk(chunk: list[Token]) -> dict:
    return {
        "used": len(of_prompt(chunk)),
        "ids": [token.id if isinstance(token.id, int) else None for token in chunk],
        "pieces": [piece(token) for token in of_prompt(chunk)],
        "weights": [round(token.emphasis, 6) for token in chunk],
        "words": [token.word for token in chunk],
    }


def _strip(number: int, chunk: list[Token]) -> Strip:
    used = of_prompt(chunk)
    marks = [Mark(piece(token).strip(), token.emphasis, not isinstance(token.id, int)) for token in used]
    return Strip(f"#{number}: {len(used)} / {len(chunk) - 2} tokens", marks, len(chunk))


def _part_facts(part: PlannedPart) -> dict:
    return {"join": part.join, "weight": part.weight, "chunks": max(len(p.chunks) for p in part.packed.values())}


def _count(port: Port, chunks: list[int]) -> str:
    room, name = port.context - 2, spoken(port.name)
    if len(chunks) == 1:
        return f"{name}: {chunks[0]} of {room} tokens"
    return f"{name}: {sum(chunks)} tokens, read in {len(chunks)} chunks of {room} ({' + '.join(map(str, chunks))})"


def spoken(encoder: str) -> str:
    """An encoder's name as people say it: CLIP-L for clip_l."""
    return encoder.upper().replace("_", "-") if encoder.startswith("clip_") else encoder
