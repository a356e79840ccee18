"""Texts -> features in the space shared with pictures, rows of length 1; and a cache of them.

The features equal those of the encoder's forward, with less work. On a CPU tokens behind the end token are left out,
shared prefixes are encoded once (`shared_prefixes`), and the last block computes the end tokens alone. A card takes
padded batches (`padded_texts`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OnStep
from ..device import budget_bytes
from ..encoding.rows import Kept, bytes_of, copied
from ..networks.clip import CLIP
from ..networks.layers import MLP, Attention, activation_dtype, blocks_of, look_up
from ..networks.siglip import SigLIP
from ..networks.text import CLIPText
from ..tokenizer import END, START, Tokenizer
from .padded_texts import TOKENS_AT_ONCE, padded_features, token_bytes
from .shared_prefixes import TextGroup, Trie, batches, build_trie
from .whole_texts import WholeTexts, whole_text_features

NODES_AT_ONCE = 4096  # of a trie in one pass; bounds its memory, and its time: a run can be stopped between passes
ENTRY_BYTES = 600  # about what Python takes for an entry of the cache besides its numbers and letters
ROWS_AT_ONCE = 1024  # through a perceptron, whose inner width is four times as large


@dataclass(frozen=True)
class TextFeatures:
    features: Tensor  # [N, E] float32 on the CPU, rows of length 1
    cut: tuple[int, ...]  # N, the number of tokens cut from each text


def text_features(
    model: CLIP | CLIPText,
    tokenizer: Tokenizer | WholeTexts,
    texts: Sequence[str],
    *,
    device: torch.device | str | None = None,
    table_device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    free_bytes: int | None = None,
    padded: bool | None = None,
    on_step: OnStep | None = None,
) -> TextFeatures:
    """Encode N texts, in their order. Equal texts are encoded once.

    Args:
        model: a CLIP, or a text encoder with a projection.
        tokenizer: the tokenizer of its vocabulary; for a SigLIP `WholeTexts`.
        texts: at least one.
        device: computes; None: the final norm's device.
        table_device: looks tokens up; None: the token table's device.
        dtype: of the activations; None: as the layers want it. Only layers that cast their weights take another one.
        free_bytes: free memory of the device, which bounds a pass; None: as the device reports.
        padded: padded batches or a trie, two ways to the same features; None: the faster one on this device.
        on_step: called with (texts done, texts in all) after each pass; may raise to stop.

    Returns:
        features [N, E], rows of length 1, float32 on the CPU, and the number of tokens cut from each text.

    Raises:
        ValueError: there are no texts, or they are a SigLIP's and its vocabulary is missing.

    >>> from clip_vae_lora.clip_core.config import TextConfig
    >>> model = CLIPText(TextConfig(width=64, layers=2, heads=1, mlp=128, embed=32)).requires_grad_(False)
    >>> found = text_features(model, Tokenizer(), ["a photo of a cat", "a photo of a dog", "word " * 80])
    >>> found.features.shape, found.cut
    (torch.Size([3, 32]), (0, 0, 5))
    """
    if not texts:
        raise ValueError("there are no texts to encode; give at least one")
    network, context = model.text_model, model.text_model.embeddings.position_embedding.weight.shape[0]
    device = torch.device(device or next(network.final_layer_norm.parameters()).device)
    table_device = torch.device(table_device or network.embeddings.token_embedding.weight.device)
    dtype = dtype or activation_dtype(network.final_layer_norm)
    rows, cut = model_rows(model, tokenizer, texts, context)
    different = sorted(set(rows))
    number_of = {row: number for number, row in enumerate(different)}

    def report(done: int) -> None:
        if on_step is not None:
            on_step(done * len(texts) // len(different), len(texts))

    with torch.no_grad():
        if isinstance(model, SigLIP):
            found = whole_text_features(model, different, (device, table_device), dtype, free_bytes, report)
        elif device.type != "cpu" if padded is None else padded:
            found = _encode_padded(model, different, (device, table_device), dtype, free_bytes, report)
        else:
            found = _encode_by_tries(model, different, (device, table_device), dtype, report)
        features = F.normalize(found, dim=-1)[[number_of[row] for row in rows]]
    return TextFeatures(features, cut)


def model_rows(
    model: CLIP | CLIPText, tokenizer: Tokenizer | WholeTexts, texts: Sequence[str], context: int
) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """The ids of each text as this model takes them, and the number of tokens cut from each."""
    if isinstance(model, SigLIP) and isinstance(tokenizer, WholeTexts):
        return tokenizer.rows(model.config, texts)
    if not isinstance(model, SigLIP) and not isinstance(tokenizer, WholeTexts):
        return token_rows(tokenizer, texts, context)
    raise ValueError("the tokenizer is not this model's: a SigLIP takes its own vocabulary, a CLIP the one of CLIP")


def token_rows(
    tokenizer: Tokenizer, texts: Sequence[str], context: int
) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """The ids of each text from start to end token, and the number of tokens cut from each. An end token written in a
    text ends it there, as the encoder pools at the first one.
    """
    rows, cut = [], []
    for text in texts:
        ids = tokenizer.encode(text)
        kept = ids[: context - 2]
        rows.append((START, *(kept[: kept.index(END)] if END in kept else kept), END))
        cut.append(len(ids) - len(kept))
    return rows, tuple(cut)


def _encode_padded(
    model: CLIP | CLIPText,
    rows: Sequence[tuple[int, ...]],
    devices: tuple[torch.device, torch.device],
    dtype: torch.dtype,
    free_bytes: int | None,
    report: Callable[[int], None],
) -> Tensor:
    """Encode rows in padded batches. `devices`: the one that computes and the token table's.

    -> [rows, E] float32 on the CPU
    """
    network, (device, table_device) = model.text_model, devices
    each_bytes = token_bytes(network.embeddings.position_embedding.weight.shape[1], dtype)
    return padded_features(
        network,
        model.text_projection,
        rows,
        device=device,
        table_device=table_device,
        dtype=dtype,
        tokens=max(1, min(TOKENS_AT_ONCE, budget_bytes(device, free_bytes) // each_bytes)),
        on_step=report,
    )


def _encode_by_tries(
    model: CLIP | CLIPText,
    rows: Sequence[tuple[int, ...]],
    devices: tuple[torch.device, torch.device],
    dtype: torch.dtype,
    report: Callable[[int], None],
) -> Tensor:
    """Encode different rows, sorted, one trie at a time. `devices`: the one that computes and the token table's.

    -> [rows, E] float32 on the CPU
    """
    found = []
    for first, last in batches(rows, NODES_AT_ONCE):
        found.append(_encode_trie(model, build_trie(rows[first:last]), *devices, dtype))
        report(last)
    return torch.cat(found)


def _encode_trie(
    model: CLIP | CLIPText, trie: Trie, device: torch.device, table_device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Encode the texts of a trie, in the order in which it was built. -> [texts, E] float32 on the CPU"""
    # One row of the matrix for each node: its token's embedding and its position's.
    network = model.text_model
    *blocks, last = blocks_of(network.encoder)
    tokens, positions, ends = (torch.tensor(some, device=device) for some in (trie.tokens, trie.positions, trie.ends))
    x = look_up(network.embeddings.token_embedding, tokens.to(table_device), dtype).to(device)
    x = x + look_up(network.embeddings.position_embedding, positions, dtype)  # [nodes, C]

    # All blocks but the last compute every node.
    calls = [_attention_call(group.first, group.texts, group.new, group, device) for group in trie.groups]
    for block in blocks:
        x = x + _attention(block.self_attn, block.layer_norm1(x), calls)
        x = x + _perceptron(block.mlp, block.layer_norm2(x))

    # The last block computes the end tokens alone, and their features are put into the order of the texts.
    x = x[ends] + _attention(last.self_attn, last.layer_norm1(x), _calls_of_ends(trie, device), ends)  # [texts, C]
    x = x + _perceptron(last.mlp, last.layer_norm2(x))
    features = model.text_projection(network.final_layer_norm(x)).float().cpu()
    return features[torch.tensor(trie.order).argsort()]


@dataclass(frozen=True)
class _AttentionCall:
    """One attention call: the query rows (the last `new` tokens of each text of a group), the key and value rows of
    the whole texts, and the causal mask between them.
    """

    queries: slice
    texts: int
    new: int
    keys: Tensor  # [texts * length]
    allowed: Tensor | None  # [new, length] bool; None: all


def _attention_call(first: int, texts: int, new: int, group: TextGroup, device: torch.device) -> _AttentionCall:
    allowed = None
    if new > 1:
        allowed = torch.ones(new, group.length, dtype=torch.bool, device=device).tril_(group.length - new)
    queries = slice(first, first + texts * new)
    return _AttentionCall(queries, texts, new, torch.tensor(group.paths, device=device), allowed)


def _calls_of_ends(trie: Trie, device: torch.device) -> list[_AttentionCall]:
    """The attention calls of the last block, whose queries are the texts' ends alone."""
    firsts = accumulate((group.texts for group in trie.groups), initial=0)
    return [_attention_call(first, group.texts, 1, group, device) for first, group in zip(firsts, trie.groups)]


def _attention(layer: Attention, x: Tensor, calls: Sequence[_AttentionCall], queries: Tensor | None = None) -> Tensor:
    """Attention within each text. [nodes, C] -> [nodes, C], or [queries, C] for the nodes in `queries` alone"""
    q, k, v = layer.q_proj(x if queries is None else x[queries]), layer.k_proj(x), layer.v_proj(x)
    mixed = torch.empty_like(q)
    for call in calls:
        own = q[call.queries].view(call.texts, call.new, layer.heads, -1).transpose(1, 2)  # [n, H, new, D]
        keys, values = (
            rows.index_select(0, call.keys).view(call.texts, -1, layer.heads, own.shape[-1]).transpose(1, 2)
            for rows in (k, v)
        )  # [n, H, T, D]
        found = F.scaled_dot_product_attention(own, keys, values, attn_mask=call.allowed)
        mixed[call.queries] = found.transpose(1, 2).reshape(-1, q.shape[-1])
    return layer.out_proj(mixed)


def _perceptron(layer: MLP, x: Tensor) -> Tensor:
    """The perceptron, some rows at a time, which bounds its memory. [rows, C] -> [rows, C]"""
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
