"""Texts through a text encoder as a graphics card likes it: few large kernels, and one move over the bus in.

Texts of about one length go side by side, filled up at their ends. With causal attention what stands behind an end
token changes nothing before it, so nothing has to be hidden. Of the last block only the end tokens are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import sent
from ..networks.layers import looked_up
from ..networks.text import END

TOKENS_AT_ONCE = 1 << 18  # at most, however much memory there is: until a pass can be called off
_FEW_TOKENS = 4096  # so many take a card hardly longer than one: filling up costs nothing below that
_FILLED = 1.25  # times the texts' own tokens; beyond that another pass is cheaper
_LIVE = 12  # widths of activations that a token takes at most: the perceptron's inner ones twice, and a few


def token_bytes(width: int, dtype: torch.dtype) -> int:
    """What a token takes of the memory at most, while it goes through a block of this width."""
    return _LIVE * width * dtype.itemsize


def stretches(lengths: Sequence[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Cut texts in order of their lengths into passes: (first, behind the last). A pass has at most `tokens` tokens,
    filled up to its longest text, and few that only fill up.
    """
    start = own = 0
    for number, length in enumerate(lengths):
        filled = (number - start + 1) * length
        if number > start and filled > min(tokens, max(_FEW_TOKENS, _FILLED * (own + length))):
            yield start, number
            start, own = number, 0
        own += length
    if lengths:
        yield start, len(lengths)


def padded_features(
    network: nn.Module,
    projection: nn.Module,
    rows: Sequence[Sequence[int]],
    *,
    device: torch.device,
    looking: torch.device,
    dtype: torch.dtype,
    tokens: int,
    on_step: Callable[[int], None],
) -> Tensor:
    """The projected states at the end tokens of N rows of ids. All ids are sent at once and all features come back at
    once; `on_step(rows queued)` is told in between, and may raise to stop. Tokens are looked up on `looking`.

    -> float32 [N, E] on the CPU, of any length
    """
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    passes = list(stretches([len(rows[number]) for number in order], tokens))
    filled = [
        [(*rows[n], *[END] * (len(rows[order[last - 1]]) - len(rows[n]))) for n in order[first:last]]
        for first, last in passes
    ]
    ends = [len(rows[number]) - 1 for number in order]
    sizes = [len(some) * len(some[0]) for some in filled]
    numbers = torch.tensor([*chain.from_iterable(chain.from_iterable(filled)), *ends], dtype=torch.int64, device="cpu")
    *ids, ends = (there := sent(numbers, device)).split([*sizes, len(ends)])
    looked = ids if looking == there.device else numbers.to(looking).split([*sizes, len(ends)])
    features = []
    for (first, last), some in zip(passes, looked):
        x = looked_up(network.embeddings.token_embedding, some.view(last - first, -1), dtype).to(there.device)
        features.append(projection(_at_ends(network, x, ends[first:last])))
        on_step(last)
    found = torch.cat(features) if len(features) > 1 else features[0]
    back = torch.tensor(order, dtype=torch.int64, device="cpu").argsort()
    return found.cpu().float()[back]


def _at_ends(network: nn.Module, x: Tensor, ends: Tensor) -> Tensor:
    """The last block's states at the end tokens, with the final norm. Embeddings [N, T, C], [N] -> [N, C]"""
    *blocks, last = network.encoder.layers
    places = torch.arange(x.shape[1], device=x.device)
    x = x + looked_up(network.embeddings.position_embedding, places, x.dtype)  # [N, T, C]
    for block in blocks:
        x = x + _attention(block.self_attn, block.layer_norm1(x))
        x = x + block.mlp(block.layer_norm2(x))
    rows = torch.arange(len(x), device=x.device)
    allowed = (places <= ends[:, None])[:, None, None]  # [N, 1, 1, T]
    x = x[rows, ends] + _attention_at(last.self_attn, last.layer_norm1(x), (rows, ends), allowed)  # [N, C]
    x = x + last.mlp(last.layer_norm2(x))
    return network.final_layer_norm(x)


def _attention(layer: nn.Module, x: Tensor) -> Tensor:
    """Every token to those before it. [N, T, C] -> [N, T, C]"""
    q, k, v = (_by_head(project(x), layer.heads) for project in (layer.q_proj, layer.k_proj, layer.v_proj))
    return layer.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def _attention_at(layer: nn.Module, x: Tensor, asking: tuple[Tensor, Tensor], allowed: Tensor) -> Tensor:
    """One token of each row to those it may look at. [N, T, C], [N] twice, [N, 1, 1, T] bool -> [N, C]"""
    q = _by_head(layer.q_proj(x[asking])[:, None], layer.heads)  # [N, H, 1, C/H]
    k, v = (_by_head(project(x), layer.heads) for project in (layer.k_proj, layer.v_proj))  # [N, H, T, C/H]
    return layer.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).flatten(1))


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[N, T, C] -> [N, H, T, C/H]"""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)
