"""The way in: encode a part of a planned prompt with one text encoder, emphases included.

The encoder is a `Run`, a function from rows of tokens to their encodings. `Runner` wraps a CLIPText as one.
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
from .emphasis import STYLES, emphases, normalise_emphases
from .rows import Row, RowCache, Rows, Run, Term, plain

POOLED = ("first chunk", "mean of chunks", "last chunk")
ROWS_AT_ONCE = 16  # of 77 tokens; bounds the memory of a pass, and how long it is until the next can be called off


@dataclass(frozen=True)
class Encoding:
    hidden: Tensor  # [1, T * chunks, C] float32
    pooled: Tensor  # [1, P] float32
    notes: tuple[str, ...] = ()  # sentences about a weighting's limits on this prompt


@dataclass(frozen=True)
class Runner:
    """Our text encoder as a `Run`.

    `layer` counts block outputs from the end: -2 is the last but one. None is the last one, which always gets the final
    norm; for others `final_norm` decides. `projected`: the pooled vector goes through the projection. `device`
    computes, even if a host brings the weights there layer by layer; None: the token table's device.

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
    """Encode a part of a planned prompt with one encoder. Every node that encodes a prompt comes this way.

    Args:
        packed: the part's chunks for this encoder, `PromptPlan.parts[n].packed[key]`.
        run: the encoder, a `Runner` of ours or a host's.
        settings: the plan's, `PromptPlan.settings`. Weighting, normalisation and pooled vector are used.
        kept: a cache of encoded rows. `owner` is the key of the encoder, its weights and its layer; with no cache or no
            owner every row is run.
        device: the device of the results and of the cached rows; None: that of `run`'s results.
        on_step: called with (rows done, rows in all) after each pass; may raise to stop.

    Returns:
        hidden states [1, T * chunks, C] and pooled vector [1, P], both float32, with notes of the weighting.

    Raises:
        ValueError: a choice of the settings does not exist, an emphasis is no finite number, or it is so large that
            the result has none; or the error that `run` raises.

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
    """Encode chunks: their hidden states in a row, with the emphases applied, and a pooled vector without emphases.

    Each row that the chunks and the style need is run once, at most sixteen in a pass: the chunks, the rows that the
    style compares them with, the empty prompt. `empty` is the chunk of the empty prompt; None: one of the same length,
    padded with end tokens. `style`, `normalisation`: see `emphasis`. `pooled`: the vector of the first chunk (as all
    programs take), the mean over the chunks with tokens of the prompt, or the vector of the last of these.

    Each chunk keeps its own end token's vector. compel can copy the first chunk's over the others (for long prompts,
    off in its `Compel`); that is no emphasis, and would change a prompt without any.

    Raises:
        ValueError: there are no chunks; a choice is none of STYLES, NORMALISATIONS, POOLED; an emphasis is no finite
        number, or so large that the result is none; or what `run` raises.
    """
    _check_choice(style, STYLES, "weighting")
    _check_choice(pooled, POOLED, "pooled vector")
    if not chunks:
        raise ValueError("there is nothing to encode; an empty prompt is one chunk of start, end and padding")
    emphases(chunks)
    chunks = normalise_emphases(chunks, normalisation)
    emphasis, weighting = emphases(chunks), STYLES[style]
    if (emphasis == 1).all():
        hidden, vectors, _ = _run_and_mix(run, chunks, plain(chunks), [], on_step)
        return Encoding(_join(hidden), _pooled(vectors, chunks, pooled))
    compared = [Row(tuple(empty or empty_chunk(END, len(chunks[0]))))] if weighting.from_empty else []
    hidden, vectors, others = _run_and_mix(run, chunks, weighting.mixture(chunks), compared, on_step)
    notes: tuple[str, ...] = ()
    if weighting.apply is not None:
        hidden, notes = weighting.apply(hidden, others[0] if others else torch.zeros_like(hidden[0]), emphasis)
    if not hidden.isfinite().all():
        raise ValueError(
            f"with weights between {emphasis.min():.3g} and {emphasis.max():.3g} the prompt's encoding is no finite "
            "number any more; use weights nearer to 1 (or, if it happens without weights too, another encoder file)"
        )
    return Encoding(_join(hidden), _pooled(vectors, chunks, pooled), notes)


def _run_and_mix(
    run: Run, chunks: Sequence[Chunk], terms: Sequence[Term], others: Sequence[Row], on_step: OnStep | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run all rows, and sum up the terms of each chunk. Also returned: the chunks' own pooled vectors, and the hidden
    states of the other rows.

    Encodings are added as they come, so a style that compares a long prompt with thousands of rows does not hold them.

    -> [N, T, C], N times [P], each [T, C]
    """
    own = [Row(tuple(chunk)) for chunk in chunks]
    terms_of = defaultdict(list)
    for term in terms:
        terms_of[term.row.key].append(term)
    wanted = {row.key for row in others}
    sums: dict[int, Tensor] = {}
    vectors, states, owned = {}, {}, {row.key for row in own}
    for row, hidden, vector in _each(run, [*own, *(term.row for term in terms), *others], on_step):
        for term in terms_of[row.key]:
            part = hidden * (term.share if isinstance(term.share, float) else term.share.to(hidden))
            sums[term.chunk] = sums[term.chunk] + part if term.chunk in sums else part
        if row.key in owned:
            vectors[row.key] = vector
        if row.key in wanted:
            states[row.key] = hidden
    return (
        torch.stack([sums[number] for number in range(len(chunks))]),
        [vectors[row.key] for row in own],
        [states[row.key] for row in others],
    )


def _each(run: Run, rows: Sequence[Row], on_step: OnStep | None) -> Iterator[tuple[Row, Tensor, Tensor]]:
    """Every row once, with its hidden states [T, C] and pooled vector [P]."""
    rows = list({row.key: row for row in rows}.values())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[start : start + ROWS_AT_ONCE]
        done = run(batch)
        yield from zip(batch, done.hidden, done.pooled)
        if on_step is not None and len(rows) > ROWS_AT_ONCE:  # a single pass is over when it could be told
            on_step(start + len(batch), len(rows))


def _join(hidden: Tensor) -> Tensor:
    """All chunks in a row. [N, T, C] -> [1, N * T, C]"""
    return hidden.flatten(0, 1)[None]


def _pooled(vectors: Sequence[Tensor], chunks: Sequence[Chunk], choice: str) -> Tensor:
    """The pooled vector that the choice names. N times [P] -> [1, P]"""
    filled = [vector for vector, chunk in zip(vectors, chunks) if any(token.span for token in chunk)]
    filled = filled or [vectors[0]]
    if choice == "mean of chunks":
        return torch.stack(filled).mean(0)[None]
    return (filled[-1] if choice == "last chunk" else vectors[0])[None].clone()


def _check_choice(choice: str, choices: Collection[str], name: str) -> None:
    if choice not in choices:
        raise ValueError(f'there is no {name} "{choice}"; choose one of {", ".join(choices)}')
