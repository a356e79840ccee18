"""The tokens of a prompt, counted without a CLIP, for the live line under a prompt in the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby

from ...clip_core.prompts.chunks import SPLITS, Chunk, Token
from ...clip_core.prompts.dialects import DIALECTS, PromptError
from ...clip_core.prompts.plan import AS_DIALECT, JOINING, Port, PromptPlan, PromptSettings, plan_prompt, tokenizer
from ...clip_core.tokenizer import END
from . import embeddings
from .token_report import of_prompt

# the encoders that embeddings are made for; the canvas does not know the CLIP that a prompt will be encoded with
PORTS = {
    "l": Port("clip_l", "l", 768, END, 77, 12),
    "g": Port("clip_g", "g", 1280, 0, 77, 32),
    "h": Port("clip_h", "h", 1024, 0, 77, 24),
}
MOST_PIECES = 2000  # tokens sent one by one; the others are counted
CHOICES = {  # for each choice its menu, or the table whose keys are the menu
    "dialect": DIALECTS,
    "splitting": (AS_DIALECT, *SPLITS),
    "joining": (AS_DIALECT, JOINING),
    "encoder": PORTS,
}


def answer(question: object) -> dict:
    """Answer a question of the canvas, {"text": ..., "dialect": ..., "splitting": ..., "joining": ..., "encoder": "l",
    "pieces": false}, in which all but the text may be left out. A prompt that cannot be parsed is answered with
    {"error": a sentence}.

    Raises:
        ValueError: the question is not of this form.
    """
    if not isinstance(question, dict) or not isinstance(question.get("text"), str):
        raise ValueError('a JSON object with the prompt as "text" was expected; send {"text": "a cat"}')
    chosen = {name: question[name] for name in CHOICES if name in question}
    for name, value in chosen.items():
        menu = list(CHOICES[name])
        if value not in menu:
            raise ValueError(f"{name} was expected to be one of {', '.join(menu)}, but {value!r:.60} came")
    pieces = question.get("pieces", False)
    if not isinstance(pieces, bool):
        raise ValueError(f"pieces was expected to be true or false, but {pieces!r:.60} came")
    encoder = chosen.pop("encoder", "l")
    try:
        return count(question["text"], PromptSettings(**chosen), encoder, pieces=pieces)
    except PromptError as error:
        return {"error": str(error)}


def count(text: str, settings: PromptSettings, encoder: str = "l", *, pieces: bool = False) -> dict:
    """Count the tokens and chunks of a prompt. `pieces`: the answer lists the tokens, too, at most MOST_PIECES.

    Raises:
        PromptError: a weight is no finite number.
    """
    port, planned = _plan(text, settings, encoder)
    chunks, more = _chunks(planned, port, MOST_PIECES if pieces else 0)
    return {
        "tokens": sum(planned.tokens[port.key]),
        "limit": port.context - 2,
        "encoder": "" if port.key == encoder else port.name,  # named if it is not the one in the question
        "chunks": chunks,
        "more": more if pieces else 0,
        "embeddings": planned.found,
        "notes": list(planned.notes),
    }


def _plan(text: str, settings: PromptSettings, encoder: str) -> tuple[Port, PromptPlan]:
    """Plan a prompt for this encoder. If embeddings do not fit it, take the encoder that loses fewest of them."""
    first = PORTS[encoder]
    best = first, plan_prompt(text, [first], settings, embeddings.library)
    if best[1].lost:
        others = [
            (port, plan_prompt(text, [port], settings, embeddings.library))
            for key, port in PORTS.items()
            if key != encoder
        ]
        best = min([best, *others], key=lambda pair: len(pair[1].lost))
    return best


def _chunks(planned: PromptPlan, port: Port, room: int) -> tuple[list[dict], int]:
    """The chunks with their tokens, up to `room` tokens; and the number of tokens beyond."""
    chunks, more = [], 0
    for part in planned.parts:
        for number, chunk in enumerate(part.packed[port.key].chunks):
            tokens = of_prompt(chunk)
            entry = {"used": len(tokens), "join": "" if number else part.join, "weight": part.weight}
            if room:
                entry["pieces"] = _pieces(tokens[:room])
            more += max(0, len(tokens) - room)
            room = max(0, room - len(tokens))
            chunks.append(entry)
    return chunks, more


@cache
def _text(number: int) -> str:
    """The text of a token id. The cache holds 49,408 at most."""
    return tokenizer().piece(number)


def _pieces(tokens: Sequence[Token] | Chunk) -> list[dict]:
    """The tokens as text; the vectors of one embedding are one piece without an id."""
    pieces: list[dict[str, object]] = []
    for (is_text, _), group in groupby(tokens, lambda token: (isinstance(token.id, int), token.word)):
        alike = list(group)
        if is_text:
            ids = [(token.id, token.emphasis) for token in alike if isinstance(token.id, int)]
            pieces += [{"text": _text(number), "id": number, "weight": round(emphasis, 4)} for number, emphasis in ids]
        else:
            pieces.append({"text": "", "id": None, "vectors": len(alike), "weight": round(alike[0].emphasis, 4)})
    return pieces
