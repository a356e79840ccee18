"""Texts -> points of the space that texts and pictures share, of length 1; and a store for them.

The same numbers as the encoder's forward gives, with less work. On a CPU: nothing behind a text's end token, beginnings
that texts share once (`shared_prefixes`), and of the last block the end tokens only. On a card, which would rather do
more at once: texts side by side (`padded_texts`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import OnStep
from ..device import budget_bytes
from ..encoding.rows import Kept, bytes_of, copied
from ..networks.clip import CLIP
from ..networks.layers import activation_dtype, looked_up
from ..networks.text import CLIPText
from ..tokenizer import END, START, Tokenizer
from .padded_texts import TOKENS_AT_ONCE, padded_features, token_bytes
from .shared_prefixes import Group, Tree, batches, plan

NODES_AT_ONCE = 4096  # bounds the memory of a pass, and how long it is until the next can be called off
ENTRY_BYTES = 600  # about what Python takes for an entry of the cache besides its numbers and letters
ROWS_AT_ONCE = 1024  # of the perceptron, whose inner width is four times as large


@dataclass(frozen=True)
class TextFeatures:
    features: Tensor  # [N, E] float32 on the CPU, rows of length 1
    cut: tuple[int, ...]  # N, tokens that each text had too many


def text_features(
    model: CLIP | CLIPText,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    device: torch.device | str | None = None,
    looking: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    free_bytes: int | None = None,
    padded: bool | None = None,
    on_step: OnStep | None = None,
) -> TextFeatures:
    """The features of N texts, in their order. Equal texts are encoded once.

    `device` computes (None: the projection's), tokens are looked up on `looking` (None: where their table lies).
    `dtype` of the activations: None for what the layers want, another one only for layers that cast their weights.
    `free_bytes` of the device bound a pass; None: as the device says. `padded` chooses between the two ways to the same
    features; None: the quicker one on this device.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("there are no texts to encode; give at least one")
    network, context = model.text_model, model.text_model.embeddings.position_embedding.weight.shape[0]
    device = torch.device(device or next(model.text_projection.parameters()).device)
    looking = torch.device(looking or network.embeddings.token_embedding.weight.device)
    dtype = dtype or activation_dtype(network.final_layer_norm)
    rows, cut = token_rows(tokenizer, texts, context)
    different = sorted(set(rows))
    place = {row: number for number, row in enumerate(different)}

    def told(done: int) -> None:
        if on_step is not None:
            on_step(done * len(texts) // len(different), len(texts))

    with torch.no_grad():
        if device.type != "cpu" if padded is None else padded:
            each = token_bytes(network.embeddings.position_embedding.weight.shape[1], dtype)
            most = max(1, min(TOKENS_AT_ONCE, budget_bytes(device, free_bytes) // each))
            placed = {"device": device, "looking": looking, "dtype": dtype}
            found = padded_features(network, model.text_projection, different, tokens=most, on_step=told, **placed)
        else:
            found = _by_trees(model, different, (device, looking), dtype, told)
        features = F.normalize(found, dim=-1)[[place[row] for row in rows]]
    return TextFeatures(features, cut)


def token_rows(
    tokenizer: Tokenizer, texts: Sequence[str], context: int
) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Start to end of each text, and how many tokens each had too many. An end token written in a text ends it there,
    for that is where the encoder looks.
    """
    rows, cut = [], []
    for text in texts:
        ids = tokenizer.encode(text)
        kept = ids[: context - 2]
        rows.append((START, *(kept[: kept.index(END)] if END in kept else kept), END))
        cut.append(len(ids) - len(kept))
    return rows, tuple(cut)


def _by_trees(
    model: CLIP | CLIPText,
    rows: Sequence[tuple[int, ...]],
    devices: tuple[torch.device, torch.device],
    dtype: torch.dtype,
    told: Callable[[int], None],
) -> Tensor:
    """Different rows, sorted, a tree of them at a time; `devices` compute and look tokens up.

    -> [rows, E] float32 on the CPU
    """
    found = []
    for first, last in batches(rows, NODES_AT_ONCE):
        found.append(_encoded(model, plan(rows[first:last]), *devices, dtype))
        told(last)
    return torch.cat(found)


def _encoded(
    model: CLIP | CLIPText, tree: Tree, device: torch.device, looking: torch.device, dtype: torch.dtype
) -> Tensor:
    """-> [texts, E] float32 on the CPU"""
    network = model.text_model
    *blocks, last = network.encoder.layers
    tokens, places, ends = (torch.tensor(numbers, device=device) for numbers in (tree.tokens, tree.places, tree.ends))
    looks = [_look(group.first, group.texts, group.new, group, device) for group in tree.groups]
    x = looked_up(network.embeddings.token_embedding, tokens.to(looking), dtype).to(device)
    x = x + looked_up(network.embeddings.position_embedding, places, dtype)  # [nodes, C]
    for block in blocks:
        x = x + _attention(block.self_attn, block.layer_norm1(x), looks)
        x = x + _perceptron(block.mlp, block.layer_norm2(x))
    x = x[ends] + _attention(last.self_attn, last.layer_norm1(x), _looks_of_ends(tree, device), ends)  # [texts, C]
    x = x + _perceptron(last.mlp, last.layer_norm2(x))
    features = model.text_projection(network.final_layer_norm(x)).float().cpu()
    return features[torch.tensor(tree.order).argsort()]


@dataclass(frozen=True)
class _Look:
    """Which rows of a matrix ask, `new` of each text, and which nodes of the text they may look at."""

    rows: slice
    texts: int
    new: int
    keys: Tensor  # [texts * length]
    allowed: Tensor | None  # [new, length] bool; None: all


def _look(first: int, texts: int, new: int, group: Group, device: torch.device) -> _Look:
    allowed = None
    if new > 1:
        allowed = torch.ones(new, group.length, dtype=torch.bool, device=device).tril_(group.length - new)
    return _Look(slice(first, first + texts * new), texts, new, torch.tensor(group.paths, device=device), allowed)


def _looks_of_ends(tree: Tree, device: torch.device) -> list[_Look]:
    """Only what the ends of the texts look at: of the last block nothing else is wanted."""
    firsts = accumulate((group.texts for group in tree.groups), initial=0)
    return [_look(first, group.texts, 1, group, device) for first, group in zip(firsts, tree.groups)]


def _attention(layer: nn.Module, x: Tensor, looks: Sequence[_Look], asking: Tensor | None = None) -> Tensor:
    """[nodes, C] -> [nodes, C], or of the nodes in `asking` alone"""
    q, k, v = layer.q_proj(x if asking is None else x[asking]), layer.k_proj(x), layer.v_proj(x)
    mixed = torch.empty_like(q)
    for look in looks:
        own = q[look.rows].view(look.texts, look.new, layer.heads, -1).transpose(1, 2)  # [n, H, s, D]
        near, far = (
            t.index_select(0, look.keys).view(look.texts, -1, layer.heads, own.shape[-1]).transpose(1, 2)
            for t in (k, v)
        )  # [n, H, T, D]
        found = F.scaled_dot_product_attention(own, near, far, attn_mask=look.allowed)
        mixed[look.rows] = found.transpose(1, 2).reshape(-1, q.shape[-1])
    return layer.out_proj(mixed)


def _perceptron(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([layer(part) for part in x.split(ROWS_AT_ONCE)])


Feature = tuple[Tensor, int]  # [E], tokens too many


class TextCache(Kept[tuple[Hashable, str], Feature]):
    """Features of texts, kept by owner and text.

    An `owner` stands for the weights, as they are patched; None: nothing is kept. Two threads that want the same text
    at the same time may both encode it.
    """

    def __init__(self, limit_bytes: int):
        super().__init__(limit_bytes, _bytes, _copied)

    def features(
        self, owner: Hashable | None, texts: Sequence[str], encode: Callable[[list[str]], TextFeatures]
    ) -> TextFeatures:
        """The features of the texts in their order; `encode` is asked for those that are not kept, each once."""
        found = {text: feature for (_, text), feature in self.find((owner, text) for text in texts).items()}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing or not texts:
            made = encode(missing)
            new = dict(zip(missing, zip(made.features, made.cut)))
            if owner is not None:
                self.keep({(owner, text): feature for text, feature in new.items()})
            found |= new
        rows, cut = zip(*(found[text] for text in texts))
        return TextFeatures(torch.stack(rows), cut)


def _bytes(key: tuple[Hashable, str], feature: Feature) -> int:
    return bytes_of(feature[0]) + len(key[1]) + ENTRY_BYTES


def _copied(feature: Feature) -> Feature:
    row, cut = feature
    return copied(row), cut
