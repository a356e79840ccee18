"""The way in: a prompt of any length through one text encoder, with its emphases.

An encoder is a `Run`: rows of tokens -> their encodings. `runner` makes one of a CLIPText.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import dialects
from .chunks import Chunk, Encodes, FindEmbedding, Packed, empty_chunk, pack
from .config import OnStep
from .emphasis import STYLES, emphases, normalised
from .layers import activation_dtype
from .masked import Term, plain
from .rows import Row, Rows, Run
from .text import CLIPText, first_end
from .tokenizer import END

POOLED = ("first chunk", "mean of chunks", "last chunk")
ROWS_AT_ONCE = 16  # of 77 tokens; bounds the memory of a pass, and how long it is until the next can be called off


@dataclass(frozen=True)
class Encoding:
    hidden: Tensor  # [1, T * chunks, C] float32
    pooled: Tensor  # [1, P] float32
    notes: tuple[str, ...] = ()  # sentences about what a style could not do as it is meant


@dataclass(frozen=True)
class PromptEncoding:
    hidden: Tensor  # [1, T * chunks, C] float32
    pooled: Tensor  # [1, C] float32, or [1, E] if projected
    packed: Packed  # the tokens, and the embeddings found and lost
    notes: tuple[str, ...] = ()  # of the dialect, of packing and of the style


def encode_prompt(
    text: str,
    model: CLIPText,
    tokenizer: Encodes,
    *,
    layer: int | None = None,
    final_norm: bool = True,
    projected: bool = False,
    pad: int = END,
    dialect: str = "comfy",
    style: str = "comfy",
    normalisation: str = "none",
    split: str = "hard",
    pooled: str = "first chunk",
    find_embedding: FindEmbedding | None = None,
) -> PromptEncoding:
    """Encode a prompt as one encoder of a diffusion family reads it; see `families` for what each of them wants.

    Raises:
        ValueError: a choice that is not there, or what `encode_chunks` and the dialect refuse.
    """
    reading = dialects.read(text, dialect)
    spans = reading.parts[0].spans  # one part: words that join parts are not asked for
    packed = pack(spans, tokenizer, pad, find_embedding, context=model.config.context, split=split)
    run = runner(model, layer, final_norm, projected=projected)
    found = encode_chunks(run, packed.chunks, pad=pad, style=style, normalisation=normalisation, pooled=pooled)
    return PromptEncoding(found.hidden, found.pooled, packed, (*reading.notes, *packed.notes, *found.notes))


def runner(model: CLIPText, layer: int | None = None, final_norm: bool = True, *, projected: bool = False) -> Run:
    """A pass of this encoder. `layer` None is the last one and always normed; otherwise `final_norm` decides.
    `projected`: the pooled vector goes through the projection. The pass raises ValueError for a learned vector of
    another width than the encoder's, and for `projected` without a projection.
    """
    normed = final_norm or layer is None

    def run(rows: Sequence[Row]) -> Rows:
        embeds, end = _embedded(model, rows)
        output = model(embeds, end, layer=layer, final_norm=normed, seen=_seen(rows, embeds.device))
        pooled = output.require_projected() if projected else output.pooled
        return Rows(output.hidden.float(), pooled.float())

    return run


def encode_chunks(
    run: Run,
    chunks: Sequence[Chunk],
    *,
    pad: int = END,
    style: str = "comfy",
    normalisation: str = "none",
    pooled: str = "first chunk",
    on_step: OnStep | None = None,
) -> Encoding:
    """The hidden states of all chunks in a row, with their emphases, and a pooled vector, which no emphasis changes.

    Every row that the chunks and the style need is run once: the chunks, what the style compares them with, the empty
    prompt; together, or sixteen at a time with `on_step(done, total)` after each. `pad` is what the empty prompt is
    padded with. `style`, `normalisation`: see `emphasis`. `pooled`: of the first chunk (as all programs do), the mean
    over the chunks that hold tokens of the prompt, or of the last one that does.

    The EOS vectors stay each chunk's own: compel's option to copy the first one over the others (for long prompts, off
    in its `Compel`) is no emphasis and would change a prompt without any.

    Raises:
        ValueError: there are no chunks; a choice is none of STYLES, NORMALISATIONS, POOLED; an emphasis is no finite
        number, or so large that the result is none; or what `run` raises.
    """
    _check_choice(style, STYLES, "weighting")
    _check_choice(pooled, POOLED, "pooled vector")
    if not chunks:
        raise ValueError("there is nothing to encode; an empty prompt is one chunk of start, end and padding")
    emphases(chunks)
    chunks = normalised(chunks, normalisation)
    emphasis, how = emphases(chunks), STYLES[style]
    if (emphasis == 1).all():
        hidden, vectors, _ = _mixed(run, chunks, plain(chunks), [], on_step)
        return Encoding(_joined(hidden), _pooled(vectors, chunks, pooled))
    empty = [Row(tuple(empty_chunk(pad, len(chunks[0]))))] if how.from_empty else []
    hidden, vectors, others = _mixed(run, chunks, how.mixture(chunks), empty, on_step)
    notes: tuple[str, ...] = ()
    if how.at_places is not None:
        hidden, notes = how.at_places(hidden, others[0] if others else None, emphasis)
    if not hidden.isfinite().all():
        raise ValueError(
            f"with weights between {emphasis.min():.3g} and {emphasis.max():.3g} the prompt's encoding is no finite "
            "number any more; use weights nearer to 1 (or, if it happens without weights too, another encoder file)"
        )
    return Encoding(_joined(hidden), _pooled(vectors, chunks, pooled), notes)


def _mixed(
    run: Run, chunks: Sequence[Chunk], terms: Sequence[Term], others: Sequence[Row], on_step: OnStep | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The sum of the terms for each chunk, the chunks' own pooled vectors, the hidden states of the other rows.

    Encodings are added up as they come: a style that compares a long prompt with thousands of rows does not hold them.

    -> [N, T, C], N times [P], each [T, C]
    """
    own = [Row(tuple(chunk)) for chunk in chunks]
    uses = defaultdict(list)
    for term in terms:
        uses[term.row.key].append(term)
    wanted = {row.key for row in others}
    sums: list[Tensor | None] = [None] * len(chunks)
    vectors, states, owned = {}, {}, {row.key for row in own}
    for row, hidden, vector in _each(run, [*own, *(term.row for term in terms), *others], on_step):
        for term in uses[row.key]:
            part = hidden * (term.share if isinstance(term.share, float) else term.share.to(hidden))
            sums[term.chunk] = part if sums[term.chunk] is None else sums[term.chunk] + part
        if row.key in owned:
            vectors[row.key] = vector
        if row.key in wanted:
            states[row.key] = hidden
    return torch.stack(sums), [vectors[row.key] for row in own], [states[row.key] for row in others]


def _each(run: Run, rows: Sequence[Row], on_step: OnStep | None) -> Iterator[tuple[Row, Tensor, Tensor]]:
    """Every row once, with its hidden states [T, C] and pooled vector [P]."""
    rows = list({row.key: row for row in rows}.values())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[start : start + ROWS_AT_ONCE]
        done = run(batch)
        yield from zip(batch, done.hidden, done.pooled)
        if on_step is not None:
            on_step(start + len(batch), len(rows))


def _joined(hidden: Tensor) -> Tensor:
    return hidden.flatten(0, 1)[None]


def _pooled(vectors: Sequence[Tensor], chunks: Sequence[Chunk], choice: str) -> Tensor:
    """-> [1, P]"""
    filled = [vector for vector, chunk in zip(vectors, chunks) if any(token.span for token in chunk)] or vectors[:1]
    if choice == "mean of chunks":
        return torch.stack(filled).mean(0)[None]
    return (filled[-1] if choice == "last chunk" else vectors[0])[None].clone()


def _check_choice(choice: str, choices: Collection[str], name: str) -> None:
    if choice not in choices:
        raise ValueError(f'there is no {name} "{choice}"; choose one of {", ".join(choices)}')


def _seen(rows: Sequence[Row], device: torch.device) -> Tensor | None:
    """Which places attention may go to; None if to all. -> [N, T] bool"""
    if not any(row.unseen for row in rows):
        return None
    seen = torch.tensor([[place not in row.unseen for place in range(len(row.tokens))] for row in rows])
    return seen.to(device)


def _embedded(model: CLIPText, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token embeddings with the learned vectors in their places, and where each row ends. -> [N, T, C], [N]"""
    device = model.text_model.embeddings.token_embedding.weight.device
    # 0 stands where a learned vector goes; it is no end token, which is all that matters here
    ids = torch.tensor([[t.id if isinstance(t.id, int) else 0 for t in row.tokens] for row in rows], device=device)
    embeds = model.embed(ids).to(activation_dtype(model.text_model.final_layer_norm))
    for number, row in enumerate(rows):
        for place, token in enumerate(row.tokens):
            if not isinstance(token.id, int):
                if token.id.numel() != embeds.shape[-1]:
                    raise ValueError(
                        f"a learned embedding has {token.id.numel()} numbers a vector and this text encoder works with "
                        f"{embeds.shape[-1]}; use one that was trained for it"
                    )
                embeds[number, place] = token.id.reshape(-1).to(embeds)
    return embeds, first_end(ids)
