"""Emphasis by comparison: a prompt is encoded again without some of its tokens, and the encodings are mixed.

A mixture is a list of `Term`s: the encoding of each chunk becomes the sum of encoded rows times their shares. It is
made chunk by chunk, because a row that hides nothing of a chunk is that chunk's own row. All of it takes linear time:
a chunk has no more rows than tokens with an emphasis.

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

# What stands for a token that is taken out: "+</w>", as in the reference and in asagi4/comfyui-prompt-control. The
# reference's comment calls it the comma, which is 267; pictures made with either of the two were made with 266.
MASK = 266
_LEAST = 1e-5  # compel's smallest emphasis here; the tangent of 90 degrees is infinite


def stepwise(chunks: Sequence[Chunk]) -> list[Term]:
    """Down-weighting as a staircase. With the emphases below 1 in order, u1 < u2 < ... < um, and T0 the chunk, Ti what
    T(i-1) is when the tokens of emphasis ui are masked:

        u1 E(T0) + (u2 - u1) E(T1) + ... + (1 - um) E(Tm)

    Tokens are masked by the value of their emphasis, all words of it at once, and stay masked. Emphases above 1 count
    as 1. Source: ADV_CLIP_emb `down_weight`, as it runs with NumPy 1: with NumPy 2, whose `unique` gives its inverse
    in two dimensions, it masks other places.
    """
    terms = []
    for number, chunk in enumerate(chunks):
        tokens, below = list(chunk), 0.0
        for level in sorted({token.emphasis for token in chunk if token.emphasis < 1}):
            terms.append(Term(number, Row(tuple(tokens)), level - below))
            places = [place for place, token in enumerate(chunk) if token.emphasis == level]
            tokens, below = _masked(tokens, places), level
        terms.append(Term(number, Row(tuple(tokens)), 1 - below))
    return terms


def divided(chunks: Sequence[Chunk]) -> list[Term]:
    """All emphases divided by the largest, and then stepwise, so that nothing is above 1: with (a:2) in a prompt every
    plain word counts a half. Start, end and padding stay at 1. Source: ADV_CLIP_emb `scale_to_norm`, "down_weight".
    """
    top = max(token.emphasis for chunk in chunks for token in chunk)  # at least 1, which start and end have

    def share(token: Token) -> Token:
        return replace(token, emphasis=token.emphasis / top) if token.span else token

    return stepwise([[share(token) for token in chunk] for chunk in chunks])


def by_word(chunks: Sequence[Chunk]) -> list[Term]:
    """comfy++: stepwise below 1, and for each word of emphasis w above 1, at its places j,

        + (w - 1) (z_j - E(the prompt with the word masked)_j)

    with z the chunk's own encoding. A word is a true one, up to its `</w>`; the reference was written when ComfyUI
    numbered words, and with today's numbers it masks a whole "(...)" at once. One more row a word. Source:
    ADV_CLIP_emb "comfy++", `from_masked`.
    """
    terms = stepwise(chunks)
    for number, chunk in enumerate(chunks):
        words = defaultdict(list)
        for place, token in enumerate(chunk):
            if token.emphasis > 1:
                words[token.word].append(place)
        if words:
            terms.append(Term(number, Row(tuple(chunk)), _above_one(chunk, range(len(chunk)))))
        for places in words.values():
            terms.append(Term(number, Row(tuple(_masked(chunk, places))), -_above_one(chunk, places)))
    return terms


def by_fragment(chunks: Sequence[Chunk]) -> list[Term]:
    """compel: for each fragment f of emphasis below 1 the prompt is encoded with attention blind to f, Bf, and

        (z + sum of tf Bf) / (1 + sum of tf)    with tf = tan((1 - max(wf, 1e-5)) pi / 2)

    so that 0.5 is half way. A fragment is what stands together with one emphasis, as compel's parser joins it. The sums
    are over the whole prompt: a fragment in another chunk counts here with this chunk's own encoding, as in compel.
    Where a fragment is cut by the end of a chunk, compel hides the end token and padding between its halves too; here
    only tokens of the prompt are hidden, which is what its own comment says. Source: `EmbeddingsProvider`
    `get_embeddings_for_weighted_prompt_fragments`, DownweightMode.MASK.
    """
    fragments = _fragments(chunks)
    pulls = [math.tan((1 - max(emphasis, _LEAST)) * math.pi / 2) for emphasis, _ in fragments]
    total = 1 + math.fsum(pulls)
    terms, hidden_shares = [], [0.0] * len(chunks)
    for pull, (_, places) in zip(pulls, fragments):
        for number, unseen in places.items():
            terms.append(Term(number, Row(tuple(chunks[number]), frozenset(unseen)), pull / total))
            hidden_shares[number] += pull / total
    return [replace(term, share=1 - hidden_shares[term.chunk]) for term in plain(chunks)] + terms


def _fragments(chunks: Sequence[Chunk]) -> list[tuple[float, dict[int, list[int]]]]:
    """Emphasis below 1, and the places {chunk: [place, ...]} of each fragment, in order."""
    fragments, last = [], None
    for number, chunk in enumerate(chunks):
        for place, token in enumerate(chunk):
            if token.span == 0:
                continue
            if token.emphasis < 1:
                if token.emphasis != last:
                    fragments.append((token.emphasis, defaultdict(list)))
                fragments[-1][1][number].append(place)
            last = token.emphasis
    return fragments


def _masked(tokens: Sequence[Token], places: Sequence[int]) -> list[Token]:
    tokens = list(tokens)
    for place in places:
        tokens[place] = Token(MASK)
    return tokens


def _above_one(chunk: Chunk, places: Sequence[int]) -> Tensor:
    """How far the emphases at these places are above 1, 0 elsewhere. -> [T, 1] float32 on the CPU, which every device
    has; what it is multiplied with is float32 too.
    """
    above = torch.zeros(len(chunk), 1, dtype=torch.float64, device="cpu")
    for place in places:
        above[place] = max(chunk[place].emphasis - 1, 0)
    return above.float()  # too large a one becomes infinite here, and is refused with what it makes
