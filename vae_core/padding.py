"""Where the padding of an encoded picture lies, after its latent was flipped, turned, or changed by a sampler.

A picture is padded at the bottom and the right (`inpaint.padded_to_cells`). Whoever flips the latent moves the padding,
and tells nobody. So a sketch of the latent goes with it: which of the eight flips and turns it shows now says where the
padding is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from .inpaint import Size

GRID = 8  # cells of a sketch along each side
_SAME = 1e-3  # of its size: a sketch so near is the same latent, in whatever type
# correlation of two sketches of one picture, half of which a sampler may have repainted; with what is left when it
_LIKE = 0.5  # is enlarged and cropped to the size it had, a picture has 0.1 to 0.4
_TIE = 0.02  # as it was wins where another flip is no better than by this,
_CLEAR = 0.05  # and another flip only where it is better than all others by that


@dataclass(frozen=True)
class Turn:
    """One of the eight: rows become columns first, then up and down change places, then left and right."""

    swapped: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def of(self, x: Tensor) -> Tensor:
        """Flip and turn the last two sides. [..., h, w] -> [..., h, w] or [..., w, h]"""
        x = x.transpose(-1, -2) if self.swapped else x
        sides = [side for side, flipped in ((-2, self.upside_down), (-1, self.mirrored)) if flipped]
        return x.flip(sides) if sides else x

    def back(self, x: Tensor) -> Tensor:
        """Undo `of`. [..., h, w] -> [..., h, w] or [..., w, h]"""
        sides = [side for side, flipped in ((-2, self.upside_down), (-1, self.mirrored)) if flipped]
        x = x.flip(sides) if sides else x
        return x.transpose(-1, -2) if self.swapped else x

    def size(self, size: Size) -> Size:
        """A height and width after it."""
        return (size[1], size[0]) if self.swapped else size


TURNS = tuple(Turn(bool(n & 4), bool(n & 2), bool(n & 1)) for n in range(8))  # as it was first


@dataclass(frozen=True)
class Sketch:
    """A latent in a few numbers: of a video the mean of its frames. It flips and turns as the latent does."""

    values: Tensor  # float32 [B, C, GRID, GRID] on the CPU
    cells: Size  # rows and columns of the latent

    @classmethod
    def of(cls, latent: Tensor) -> "Sketch":
        """[B, C, h, w] or [B, C, t, h, w] -> Sketch"""
        frames = latent.float() if latent.ndim == 4 else latent.float().mean(2)
        return cls(adaptive_avg_pool2d(frames, GRID).cpu(), (latent.shape[-2], latent.shape[-1]))


def find_turn(latent: Tensor, known: Sketch) -> Turn | None:
    """How a latent lies now that had the sketch `known`; None where it cannot be told.

    All latents of a batch have to lie alike. Where they are copies of the known ones, to rounding, each may be of any
    of them; where none is, a sampler has been at work, and they are compared in their order if they are as many.

    [N, C, h, w] or [N, C, t, h, w] -> Turn or None
    """
    turns = [turn for turn in TURNS if turn.size(known.cells) == tuple(latent.shape[-2:])]
    if not turns or latent.shape[1] != known.values.shape[1]:
        return None
    now = Sketch.of(latent).values.flatten(1)  # [N, S]
    turned = torch.stack([turn.of(known.values).flatten(1) for turn in turns])  # [T, M, S]
    away = torch.stack([torch.cdist(now, one, compute_mode="donot_use_mm_for_euclid_dist") for one in turned])
    same = (away <= _SAME * turned.norm(dim=-1)[:, None, :]).any(-1)  # [T, N]
    copies = same.all(-1).tolist()
    if any(copies):
        return turns[copies.index(True)]
    if bool(same.any()):
        return None  # some are what was encoded, and others are not: batched with something else
    return _likest(turns, now, turned)


def _likest(turns: list[Turn], now: Tensor, turned: Tensor) -> Turn | None:
    """The turn under which the sketches are most like the known ones, if it can be told. [N, S], [T, M, S]"""
    one, others = (_unit(values) for values in (now, turned))
    like = torch.einsum("ns,tms->tnm", one, others)
    like = like.diagonal(dim1=1, dim2=2) if like.shape[1] == like.shape[2] else like.amax(-1)  # [T, N]
    scores = like.amin(-1)
    score = scores.tolist()
    best = max(range(len(score)), key=score.__getitem__)
    if score[best] < _LIKE:
        return None
    if turns[0] == TURNS[0] and score[0] >= max(_LIKE, score[best] - _TIE):
        return turns[0]
    clear = all(score[best] - other >= _CLEAR for place, other in enumerate(score) if place != best)
    return turns[best] if clear else None


def _unit(values: Tensor) -> Tensor:
    """Each channel's sketch about its mean, all channels of length 1. [..., C * GRID * GRID] -> the same"""
    channels = values.unflatten(-1, (-1, GRID * GRID))
    centred = (channels - channels.mean(-1, keepdim=True)).flatten(-2)
    return centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def cut_where(image: Tensor, size: Size, turn: Turn) -> Tensor:
    """Cut off the padding of a picture that had this size before it was padded, and was turned since; a view.

    [B, H, W, C] -> [B, *turn.size(size), C]
    """
    height, width = turn.size(size)
    top = image.shape[1] - height if turn.upside_down else 0
    left = image.shape[2] - width if turn.mirrored else 0
    return image[:, top : top + height, left : left + width]
