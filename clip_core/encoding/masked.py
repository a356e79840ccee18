"""Emphasis by masking: a prompt is encoded again with some of its tokens masked, and the encodings are mixed.

A mixture is a list of `Term`s: each chunk's encoding becomes the sum of encoded rows times their shares. Rows are made
for each chunk separately, because a row that masks nothing is the chunk's own. A chunk has at most as many rows as
tokens with an emphasis.

BlenderNeko/ComfyUI_ADV_CLIP_emb (commit 63984de) hides a token by putting another in its place, damian0815/compel
(commit c60b9fb) by hiding it from attention.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..prompts.chunks import Chunk, Token
from .rows import Row, Term, plain

# The placeholder of a masked token: "+</w>", as in the reference and in asagi4/comfyui-prompt-control. The
# reference's comment calls it the comma, which is 267; pictures made with either of the two were made with 266.
MASK = 266
_LEAST = 1e-5  # compel's smallest emphasis; at 0 the tangent would be infinite


def stepwise(chunks: Sequence[Chunk]) -> list[Term]:
    """Lower emphases step by step. With the emphases below 1 in order, u1 < u2 < ... < um, T0 the chunk, and Ti equal
    to T(i-1) with the tokens of emphasis ui masked, the encoding is

        u1 E(T0) + (u2 - u1) E(T1) + ... + (1 - um) E(Tm)

    All tokens of one emphasis are masked together, and stay masked. Emphases above 1 count as 1. Source: ADV_CLIP_emb
    `down_weight` as it runs with NumPy 1: NumPy 2's `unique` returns its inverse in two dimensions, so there it masks
    other positions.
    """
    terms = []
    for number, chunk in enumerate(chunks):
        tokens, below = list(chunk), 0.0
        for level in sorted({token.emphasis for token in chunk if token.emphasis < 1}):
            terms.append(Term(number, Row(tuple(tokens)), level - below))
            positions = [at for at, token in enumerate(chunk) if token.emphasis == level]
            tokens, below = _mask(tokens, positions), level
        terms.append(Term(number, Row(tuple(tokens)), 1 - below))
    return terms


def divided(chunks: Sequence[Chunk]) -> list[Term]:
    """Divide all emphases by the largest, so that none is above 1, and then go stepwise: beside (a:2) every plain word
    counts a half. Start, end and padding stay at 1. Source: ADV_CLIP_emb `scale_to_norm`, "down_weight".
    """
    top = max(token.emphasis for chunk in chunks for token in chunk)  # at least 1, which start and end have

    def share(token: Token) -> Token:
        return replace(token, emphasis=token.emphasis / top) if token.span else token

    return stepwise([[share(token) for token in chunk] for chunk in chunks])


def by_word(chunks: Sequence[Chunk]) -> list[Term]:
    """comfy++: stepwise below 1; each word of emphasis w above 1 adds, at its positions j,

        + (w - 1) (z_j - E(the prompt with the word masked)_j)

    with z the chunk's own encoding. A word ends at its `</w>`. The reference was written when ComfyUI numbered words;
    with the numbers of today's ComfyUI it masks a whole "(...)" at once. Each word costs one row. Source: ADV_CLIP_emb
    "comfy++", `from_masked`.
    """
    terms = stepwise(chunks)
    for number, chunk in enumerate(chunks):
        words = defaultdict(list)
        for at, token in enumerate(chunk):
            if token.emphasis > 1:
                words[token.word].append(at)
        if words:
            terms.append(Term(number, Row(tuple(chunk)), _above_one(chunk, range(len(chunk)))))
        for positions in words.values():
            terms.append(Term(number, Row(tuple(_mask(chunk, positions))), -_above_one(chunk, positions)))
    return terms


def by_fragment(chunks: Sequence[Chunk]) -> list[Term]:
    """compel: masking fragment f, of emphasis below 1, in attention gives the encoding Bf; the result is

        (z + sum of tf Bf) / (1 + sum of tf)    with tf = tan((1 - max(wf, 1e-5)) pi / 2)

    so that 0.5 is half way. A fragment is a run of tokens of one emphasis, as compel's parser joins them. The sums are
    over the whole prompt: a fragment of another chunk counts with this chunk's own encoding, as in compel. If a chunk
    ends inside a fragment, compel also masks the end token and padding between the two halves; here only tokens of the
    prompt are masked, as its own comment describes it. Source: `EmbeddingsProvider`
    `get_embeddings_for_weighted_prompt_fragments`, DownweightMode.MASK.
    """
    fragments = _fragments(chunks)
    pulls = [math.tan((1 - max(emphasis, _LEAST)) * math.pi / 2) for emphasis, _ in fragments]
    total = 1 + math.fsum(pulls)
    terms, hidden_shares = [], [0.0] * len(chunks)
    for pull, (_, positions) in zip(pulls, fragments):
        for number, unseen in positions.items():
            terms.append(Term(number, Row(tuple(chunks[number]), frozenset(unseen)), pull / total))
            hidden_shares[number] += pull / total
    return [replace(term, share=1 - hidden_shares[term.chunk]) for term in plain(chunks)] + terms


def _fragments(chunks: Sequence[Chunk]) -> list[tuple[float, dict[int, list[int]]]]:
    """The fragments of emphasis below 1, in order: the emphasis, and {chunk: its positions there}."""
    fragments: list[tuple[float, dict[int, list[int]]]] = []
    last: float | None = None
    for number, chunk in enumerate(chunks):
        for at, token in enumerate(chunk):
            if token.span == 0:
                continue
            if token.emphasis < 1:
                if token.emphasis != last:
                    fragments.append((token.emphasis, defaultdict(list)))
                fragments[-1][1][number].append(at)
            last = token.emphasis
    return fragments


def _mask(tokens: Sequence[Token], positions: Sequence[int]) -> list[Token]:
    """Replace the tokens at these positions by the placeholder."""
    masked = list(tokens)
    for at in positions:
        masked[at] = Token(MASK)
    return masked


def _above_one(chunk: Chunk, positions: Sequence[int]) -> Tensor:
    """The excess of the emphases at these positions over 1, and 0 elsewhere. -> [T, 1] float32 on the CPU"""
    above = torch.zeros(len(chunk), 1, dtype=torch.float64, device="cpu")
    for at in positions:
        above[at] = max(chunk[at].emphasis - 1, 0)
    return above.float()  # a huge one becomes infinite, and `encode_chunks` refuses the result
