"""Prompts through the CLIP encoders of a family, our way, while the family goes on joining their results its own way.

A family (ComfyUI's SD1, SDXL, SD3, Flux classes, or our `Towers`) asks each of its encoders to encode its tokens. We
give a shallow copy of the family in which stand-ins answer for the CLIP encoders: they run the real encoder on rows
of tokens and put the emphases in themselves. T5 and the like answer for themselves. The family itself is not changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...clip_core.cache import RowCache
from ...clip_core.chunks import Chunk
from ...clip_core.encode import encode_chunks
from ...clip_core.rows import Run

CACHE_BYTES = 128 << 20  # of encoded rows: 0.24 MB each for CLIP-L, 0.39 MB for bigG
ROWS = RowCache(CACHE_BYTES)


@dataclass(frozen=True)
class Port:
    """A CLIP text encoder as prompts see it. `key` is the host's for its tokens: "l", "g", "h"."""

    name: str  # clip_l, clip_g, clip_h
    key: str
    width: int
    pad: int
    context: int
    layers: int


@dataclass(frozen=True)
class TextEncoders:
    """The CLIP encoders behind a CLIP object, and the names of those that the host reads by itself (T5, LLaMA)."""

    ports: tuple[Port, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class How:
    """What becomes of the emphases, which pooled vector is taken, and the layer: 0 the family's, else counted from
    the end.
    """

    style: str = "comfy"
    normalisation: str = "none"
    pooled: str = "first chunk"
    clip_skip: int = 0


class StandIn:
    """Answers a family in the place of one of its encoders; whatever else it is asked, the encoder answers."""

    def __init__(self, encoder: nn.Module, encode: Callable[[], tuple[Tensor, Tensor]]):
        self._encoder, self._encode = encoder, encode

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)

    def encode_token_weights(
        self, pairs: Sequence[Sequence[tuple]], device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """The pairs are those of the chunks that `encode` knows, and so is the device."""
        return self._encode()


def stand_in(
    encoder: nn.Module,
    chunks: Sequence[Chunk],
    how: How,
    pad: int,
    run: Callable[[], tuple[Run, Hashable | None]],
    on_step: Callable[[int, int], None],
    notes: list[str],
) -> StandIn:
    """`run()` is asked when the family asks: the encoder's pass, and what its results may be kept under (None: they
    may not). What a style has to say is added to `notes`.
    """

    def encode() -> tuple[Tensor, Tensor]:
        one_pass, owner = run()
        kept = one_pass if owner is None else ROWS.through(one_pass, owner)
        encoding = encode_chunks(
            kept, chunks, pad=pad, style=how.style, normalisation=how.normalisation, pooled=how.pooled, on_step=on_step
        )
        notes.extend(encoding.notes)
        return encoding.hidden, encoding.pooled

    return StandIn(encoder, encode)


def with_stand_ins(family: nn.Module, stand_ins: Mapping[str, StandIn]) -> nn.Module:
    """A shallow copy of the family; an instance's own attributes are found before its modules of the same name."""
    shadow = copy.copy(family)
    shadow.__dict__.update(stand_ins)
    return shadow


def as_pairs(chunks: Sequence[Chunk]) -> list[list[tuple[int | Tensor, float]]]:
    """ComfyUI's form of an encoder's tokens, for a family that counts them."""
    return [[(token.id, token.emphasis) for token in chunk] for chunk in chunks]


def inference(run: Run) -> Run:
    """The same pass without a graph for gradients."""

    def quietly(rows):
        with torch.inference_mode():
            return run(rows)

    return quietly
