"""Rows: what a text encoder is given in one pass, and what it gives back, whoever's encoder it is."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .chunks import Token


@dataclass(frozen=True, eq=False)
class Row:
    """The tokens of one pass, start to padding; their emphases mean nothing here. Attention does not go to the places
    in `unseen`, though their own encodings are still computed.

    Raises:
        ValueError: an unseen place is none of the row's, or is the first, which has nothing else to look at.
    """

    tokens: tuple[Token, ...]
    unseen: frozenset[int] = frozenset()

    def __post_init__(self):
        if self.unseen and not 1 <= min(self.unseen) <= max(self.unseen) < len(self.tokens):
            raise ValueError(
                f"places {sorted(self.unseen)} of a row of {len(self.tokens)} tokens were to be hidden; "
                f"only places 1 to {len(self.tokens) - 1} can be"
            )

    @cached_property
    def key(self) -> Hashable:
        """Equal for rows that an encoder cannot tell apart: ids, learned vectors by their bytes, unseen places."""
        return tuple(t.id if isinstance(t.id, int) else _fingerprint(t.id) for t in self.tokens), self.unseen


@dataclass(frozen=True)
class Rows:
    """One pass's results, in the order of its rows."""

    hidden: Tensor  # [n, T, C] float32
    pooled: Tensor  # [n, P] float32


Run = Callable[[Sequence[Row]], Rows]  # one pass of an encoder


def _fingerprint(vector: Tensor) -> tuple[str, bytes]:
    content = bytes(vector.detach().cpu().reshape(-1).view(torch.uint8).tolist())
    return str(vector.dtype), hashlib.blake2b(content, digest_size=16).digest()
