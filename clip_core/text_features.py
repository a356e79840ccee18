"""Texts -> points of the space that texts and pictures share, of length 1."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import CLIP
from .text import first_end
from .tokenizer import Tokenizer

OnStep = Callable[[int, int], None]  # texts done, texts in all; may raise to stop
_AT_ONCE = 64


@dataclass(frozen=True)
class TextFeatures:
    features: Tensor  # [N, E] float32 on the CPU, rows of length 1
    cut: tuple[int, ...]  # N, tokens that each text had too many


def text_features(
    model: CLIP,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    device: torch.device | str | None = None,
    on_step: OnStep | None = None,
) -> TextFeatures:
    """The features of N texts, in their order.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("there are no texts to encode; give at least one")
    device = device or next(model.text_projection.parameters()).device
    context = model.text_model.embeddings.position_embedding.weight.shape[0]
    ids, cut = tokenizer.batch(texts, context=context)
    done = []
    with torch.no_grad():
        for part in ids.split(_AT_ONCE):
            longest = int(first_end(part).max()) + 1  # attention is causal: what comes after changes nothing
            done.append(model.text_features(part[:, :longest].to(device)).float().cpu())
            if on_step is not None:
                on_step(min(len(done) * _AT_ONCE, len(texts)), len(texts))
    return TextFeatures(F.normalize(torch.cat(done), dim=-1), tuple(cut))


class TextCache:
    """Features of texts, kept by owner and text; the least recently used go when there are more than `limit_bytes`.

    `owner` stands for the weights, as they are patched; None: nothing is kept. Threads may share one cache; two that
    want the same text at the same time may both encode it.
    """

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, tuple[Tensor, int]] = OrderedDict()  # (owner, text) -> [E], cut
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of the features kept."""
        return self._bytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def features(
        self, owner: Hashable | None, texts: Sequence[str], encode: Callable[[list[str]], TextFeatures]
    ) -> TextFeatures:
        """The features of the texts in their order; `encode` is asked for those that are not kept, each once."""
        with self._lock:
            found = {text: self._kept[owner, text] for text in texts if (owner, text) in self._kept}
            for text in found:
                self._kept.move_to_end((owner, text))
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing or not texts:
            made = encode(missing)
            new = dict(zip(missing, zip(made.features, made.cut)))
            if owner is not None:
                self._keep(owner, new)
            found |= new
        rows, cut = zip(*(found[text] for text in texts))
        return TextFeatures(torch.stack(rows), cut)

    def _keep(self, owner: Hashable, new: Mapping[str, tuple[Tensor, int]]) -> None:
        with torch.inference_mode(False), torch.no_grad():  # ordinary tensors, and no views of the whole batch
            copies = {text: (row.detach().clone(), cut) for text, (row, cut) in new.items()}
        with self._lock:
            for text, (row, cut) in copies.items():
                if (owner, text) not in self._kept:
                    self._kept[owner, text] = row, cut
                    self._bytes += _bytes(text, row)
            while self._bytes > self.limit_bytes:
                (_, text), (row, _) = self._kept.popitem(last=False)
                self._bytes -= _bytes(text, row)


def _bytes(text: str, row: Tensor) -> int:
    return row.numel() * row.element_size() + len(text)
