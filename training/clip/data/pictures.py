"""The pictures of pairs: opened once before a training begins, and kept in memory as far as they fit, scaled down to
twice the side that the model looks at; others are read again when their turn comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ....files.captioned.pairs import Pair, Pairs, read_pair
from ....files.errors import FileFormatError
from ...distributed import current_group
from .shards import owners_of

OnStep = Callable[[int, int], None]
_MOST_BYTES = 2 << 30  # of pictures in memory
_KEPT_SIDES = 2  # shorter side of a kept picture, in sides of what the model looks at
_THUMB_PX = 16
_MOST_MEASURED = 32


class Pictures:
    """The pixels of examples, from memory where they are kept."""

    def __init__(self, pairs: Sequence[Pair], side_px: int):
        self.pairs, self.least_px = list(pairs), _KEPT_SIDES * side_px
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    def __getitem__(self, place: int) -> Tensor:
        """The picture of an example, scaled down where it is large. -> uint8 [3, H, W]"""
        if (kept := self._kept.get(place)) is not None:
            return kept
        found = smaller(read_pair(self.pairs[place]), self.least_px)
        if self._bytes + found.numel() <= _MOST_BYTES:
            self._kept[place], self._bytes = found, self._bytes + found.numel()
        return found

    def some(self, places: Iterable[int]) -> Pictures:
        """The pictures at these places alone, in this order."""
        new = Pictures([], 1)
        order = list(places)
        new.pairs, new.least_px = [self.pairs[place] for place in order], self.least_px
        new._kept = {n: self._kept[place] for n, place in enumerate(order) if place in self._kept}
        new._bytes = sum(kept.numel() for kept in new._kept.values())
        return new


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of a picture. why: it is not used, "" where it is. key: equal for equal pixels. thumb: [768]"""

    why: str = ""
    key: str = ""
    thumb: Tensor | None = None


def look_at_all(pairs: Pairs, opened: Pictures, on_step: OnStep | None = None) -> list[Look]:
    """Open every picture once. Of several processes, which all must call it, each opens those of its own shards, and
    all are told what was seen.
    """
    group, owners = current_group(), owners_of(pairs.pairs)
    own = range(len(pairs.pairs)) if owners is None else [n for n, one in enumerate(owners) if one == group.rank]
    found = {}
    for done, place in enumerate(own, 1):
        found[place] = _look(pairs.pairs[place], opened, place)
        if on_step:
            on_step(done, len(own))
    if owners is not None:
        found = {place: look for some in group.gather(found) for place, look in some.items()}
    return [found[place] for place in range(len(pairs.pairs))]


def _look(pair: Pair, opened: Pictures, place: int) -> Look:
    if why := _without_words(pair):
        return Look(why)
    try:
        picture = opened[place]
    except FileFormatError as error:
        return Look(error.sentence)
    key = hashlib.sha256(repr(picture.shape).encode() + picture.numpy().tobytes()).hexdigest()
    return Look(key=key, thumb=thumbnail(picture))


def _without_words(pair: Pair) -> str:
    if not pair.caption and not pair.label:
        return "it has no caption"
    return "its folder says 0 times" if not pair.repeats else ""


def usual_side(pairs: Sequence[Pair]) -> int:
    """The median of the shorter sides of some of the pictures, in px; 0 where none of those can be read. Of several
    processes, which all must call it, the first looks at them.
    """
    group = current_group()
    return group.share(_usual_side(pairs) if group.first else 0)


def _usual_side(pairs: Sequence[Pair]) -> int:
    sides = []
    for pair in pairs[:: max(1, len(pairs) // _MOST_MEASURED)]:
        try:
            sides.append(min(read_pair(pair).shape[1:]))
        except FileFormatError:
            continue
    return sorted(sides)[len(sides) // 2] if sides else 0


def smaller(picture: Tensor, least_px: int) -> Tensor:
    """Scale a picture down so that its shorter side is `least_px`, where it is longer. uint8 [3, H, W]"""
    height, width = picture.shape[1:]
    scale = least_px / min(height, width)
    if scale >= 1:
        return picture
    size = max(least_px, round(height * scale)), max(least_px, round(width * scale))
    found = functional.interpolate(picture[None].float(), size=size, mode="bicubic", antialias=True)[0]
    return found.round().clamp(0, 255).byte()


def thumbnail(picture: Tensor) -> Tensor:
    """A picture as a row of length 1 whose products tell near-duplicates; zeros for one of a single colour.

    uint8 [3, H, W] -> float32 [3 * 16 * 16]
    """
    small = functional.interpolate(picture[None].float(), size=(_THUMB_PX, _THUMB_PX), mode="area").flatten()
    small = small - small.mean()
    length = small.norm()
    return small / length if float(length) > _THUMB_PX else torch.zeros_like(small)
