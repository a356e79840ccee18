"""The way in: a planned prompt through one text encoder, with its emphases.

An encoder is a `Run`: rows of tokens -> their encodings. `Runner` makes one of a CLIPText.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import OnStep
from ..networks.text import CLIPText
from ..prompts.chunks import Chunk, Packed, empty_chunk
from ..prompts.plan import PromptSettings
from ..tokenizer import END
from .emphasis import STYLES, emphases, normalised
from .rows import Row, RowCache, Rows, Run, Term, plain

POOLED = ("first chunk", "mean of chunks", "last chunk")
ROWS_AT_ONCE = 16  # of 77 tokens; bounds the memory of a pass, and how long it is until the next can be called off


@dataclass(frozen=True)
class Encoding:
    hidden: Tensor  # [1, T * chunks, C] float32
    pooled: Tensor  # [1, P] float32
    notes: tuple[str, ...] = ()  # sentences about what a style could not do as it is meant


@dataclass(frozen=True)
class Runner:
    """A pass of our text encoder, as a `Run`.

    `layer` counts block outputs from the end, -2 is the one before the last; None is the last one and always normed,
    otherwise `final_norm` decides. `projected`: the pooled vector goes through the projection. `device` computes,
    wherever the weights lie that a host brings there; None: where the token table lies.

    Called with rows, it raises ValueError for a learned vector of another width than the encoder's, and for
    `projected` without a projection.
    """

    model: CLIPText
    layer: int | None = None
    final_norm: bool = True
    projected: bool = False
    device: torch.device | str | None = None

    def __call__(self, rows: Sequence[Row]) -> Rows:
        output = self.model.encode_rows(
            [[token.id for token in row.tokens] for row in rows],
            [row.unseen for row in rows],
            layer=self.layer,
            final_norm=self.final_norm or self.layer is None,
            device=self.device,
        )
        pooled = output.require_projected() if self.projected else output.pooled
        return Rows(output.hidden.float(), pooled.float())


def encode_packed(
    packed: Packed,
    run: Run,
    settings: PromptSettings,
    *,
    kept: RowCache | None = None,
    owner: Hashable | None = None,
    device: torch.device | str | None = None,
    on_step: OnStep | None = None,
) -> Encoding:
    """Encode a part of a planned prompt for one encoder: the way in, which every node that encodes a prompt takes.

    Args:
        packed: the part's chunks for this encoder, `PromptPlan.parts[n].packed[key]`.
        run: a pass of the encoder: a `Runner` of ours, or a host's.
        settings: the plan's, `PromptPlan.settings`: weighting, normalisation and pooled vector are read.
        kept: rows encoded before, of which none is run again; `owner` stands for the encoder, its weights and its
            layer. Without one of the two every row is run.
        device: where the results are wanted, and rows are kept; None: where `run` leaves them.
        on_step: told `(rows done, rows in all)` after each pass; may raise to stop.

    Returns:
        hidden states [1, T * chunks, C] and pooled vector [1, P], both float32, and what the weighting has to say.

    Raises:
        ValueError: as `encode_chunks`.

    >>> from clip_vae_lora.clip_core.config import TextConfig
    >>> from clip_vae_lora.clip_core.prompts.plan import Port, PromptSettings, plan_prompt
    >>> model = CLIPText(TextConfig(width=64, layers=2, heads=1, mlp=128, embed=32)).requires_grad_(False)
    >>> port = Port("clip_l", "l", width=64, pad=49407, context=77, layers=2)
    >>> planned = plan_prompt("a (red:1.3) fox", [port], PromptSettings())
    >>> found = encode_packed(planned.parts[0].packed["l"], Runner(model, layer=-2), planned.settings)
    >>> found.hidden.shape, found.pooled.shape, found.notes
    (torch.Size([1, 77, 64]), torch.Size([1, 64]), ())
    """

    def moved(rows: Sequence[Row]) -> Rows:
        done = run(rows)
        return done if device is None else Rows(done.hidden.to(device), done.pooled.to(device))

    return encode_chunks(
        moved if kept is None or owner is None else kept.through(moved, owner),
        packed.chunks,
        empty=packed.empty,
        style=settings.weighting,
        normalisation=settings.normalisation,
        pooled=settings.pooled,
        on_step=on_step,
    )


def encode_chunks(
    run: Run,
    chunks: Sequence[Chunk],
    *,
    empty: Chunk | None = None,
    style: str = "comfy",
    normalisation: str = "none",
    pooled: str = "first chunk",
    on_step: OnStep | None = None,
) -> Encoding:
    """The hidden states of all chunks in a row, with their emphases, and a pooled vector, which no emphasis changes.

    Every row that the chunks and the style need is run once: the chunks, what the style compares them with, the empty
    prompt; together, or sixteen at a time with `on_step(done, total)` after each. `empty` is the chunk of the empty
    prompt; None: of the same length, padded with end tokens. `style`, `normalisation`: see `emphasis`. `pooled`: of
    the first chunk (as all programs do), the mean over the chunks that hold tokens of the prompt, or of the last one
    that does.

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
    compared = [Row(tuple(empty or empty_chunk(END, len(chunks[0]))))] if how.from_empty else []
    hidden, vectors, others = _mixed(run, chunks, how.mixture(chunks), compared, on_step)
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
        if on_step is not None and len(rows) > ROWS_AT_ONCE:  # a single pass is over when it could be told
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
