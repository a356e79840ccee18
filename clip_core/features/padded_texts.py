"""Features of texts on a graphics card: padded batches, for few large kernels and one transfer over the bus each way.

Texts of similar length share a batch, padded at their ends. Causal attention needs no mask for the padding, as no token
before it attends to it. The last block computes the end tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import sent
from ..networks.layers import Attention, blocks_of, look_up
from ..networks.text import END, TextTransformer

TOKENS_AT_ONCE = 1 << 18  # in one pass, however large the memory: a run can be stopped between passes
_FEW_TOKENS = 4096  # a card takes hardly longer for these than for one, so padding is free up to here
_PADDED = 1.25  # times the texts' own tokens; beyond that another pass is cheaper
_LIVE = 12  # peak activations of a token, in widths: the perceptron's inner width twice, and a few more


def token_bytes(width: int, dtype: torch.dtype) -> int:
    """The peak memory of a token in a block of this width."""
    return _LIVE * width * dtype.itemsize


def passes_of(lengths: Sequence[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Cut texts, sorted by length, into passes: (first, behind the last). Padded to its longest text, a pass has at
    most `tokens` tokens, and little padding.
    """
    start = own = 0
    for number, length in enumerate(lengths):
        padded = (number - start + 1) * length
        if number > start and padded > min(tokens, max(_FEW_TOKENS, _PADDED * (own + length))):
            yield start, number
            start, own = number, 0
        own += length
    if lengths:
        yield start, len(lengths)


def padded_features(
    network: TextTransformer,
    projection: nn.Linear,
    rows: Sequence[Sequence[int]],
    *,
    device: torch.device,
    table_device: torch.device,
    dtype: torch.dtype,
    tokens: int,
    on_step: Callable[[int], None],
) -> Tensor:
    """Encode N rows of ids, at their end tokens. All ids are sent at once, and all features come back at once.

    `on_step(rows queued)` is called between passes, and may raise to stop. Tokens are looked up on `table_device`.

    -> float32 [N, E] on the CPU, of any length
    """
    # Sort rows by length, and pad each pass to its longest row.
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    passes = list(passes_of([len(rows[number]) for number in order], tokens))
    padded = [
        [(*rows[n], *[END] * (len(rows[order[last - 1]]) - len(rows[n]))) for n in order[first:last]]
        for first, last in passes
    ]

    # Send one tensor with the ids of all passes and the positions of all end tokens.
    last_positions = [len(rows[number]) - 1 for number in order]
    sizes = [*(len(some) * len(some[0]) for some in padded), len(rows)]
    numbers = [*chain.from_iterable(chain.from_iterable(padded)), *last_positions]
    on_cpu = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    on_device = sent(on_cpu, device)
    *ids, ends = on_device.split(sizes)
    table_ids = ids if table_device == on_device.device else on_cpu.to(table_device).split(sizes)

    # Queue all passes, fetch all features, and restore the order of the rows.
    features = []
    for (first, last), some in zip(passes, table_ids):
        x = look_up(network.embeddings.token_embedding, some.view(last - first, -1), dtype).to(on_device.device)
        features.append(projection(_at_ends(network, x, ends[first:last])))
        on_step(last)
    found = torch.cat(features) if len(features) > 1 else features[0]
    back = torch.tensor(order, dtype=torch.int64, device="cpu").argsort()
    return found.cpu().float()[back]


def _at_ends(network: TextTransformer, x: Tensor, ends: Tensor) -> Tensor:
    """The last block's output at the end tokens, with the final norm. Embeddings [N, T, C], [N] -> [N, C]"""
    *blocks, last = blocks_of(network.encoder)
    positions = torch.arange(x.shape[1], device=x.device)
    x = x + look_up(network.embeddings.position_embedding, positions, x.dtype)  # [N, T, C]
    for block in blocks:
        x = x + _attention(block.self_attn, block.layer_norm1(x))
        x = x + block.mlp(block.layer_norm2(x))

    # The last block: only the end tokens are queries.
    rows = torch.arange(len(x), device=x.device)
    allowed = (positions <= ends[:, None])[:, None, None]  # [N, 1, 1, T]
    x = x[rows, ends] + _attention_at(last.self_attn, last.layer_norm1(x), (rows, ends), allowed)  # [N, C]
    x = x + last.mlp(last.layer_norm2(x))
    return network.final_layer_norm(x)


def _attention(layer: Attention, x: Tensor) -> Tensor:
    """Causal attention of all tokens. [N, T, C] -> [N, T, C]"""
    q, k, v = (_by_head(project(x), layer.heads) for project in (layer.q_proj, layer.k_proj, layer.v_proj))
    return layer.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def _attention_at(layer: Attention, x: Tensor, queries: tuple[Tensor, Tensor], allowed: Tensor) -> Tensor:
    """Attention of one token of each row, over its allowed keys. [N, T, C], [N] twice, [N, 1, 1, T] bool -> [N, C]"""
    q = _by_head(layer.q_proj(x[queries])[:, None], layer.heads)  # [N, H, 1, C/H]
    k, v = (_by_head(project(x), layer.heads) for project in (layer.k_proj, layer.v_proj))  # [N, H, T, C/H]
    return layer.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).flatten(1))


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[N, T, C] -> [N, H, T, C/H]"""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)
