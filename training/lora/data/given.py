"""Latents and prompts that a graph has made already, as pictures to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

from ...device import on_the_cpu
from ..course import Picture
from ..plan import LoRAPlan
from .captions import CaptionPlan
from .pictures import Prepared


@dataclass(frozen=True, eq=False)
class Given:
    """Latents [B, C, ...] of any sizes, for each a mask [B or 1, H, W] or None, and prompts: one for each picture, or
    one for all.
    """

    latents: Sequence[Tensor]
    masks: Sequence[Tensor | None]
    prompts: Sequence[object]


def prepare_given(given: Given) -> Prepared:
    """Take the latents apart into pictures; each one's caption is the name of its prompt in `prompts`.

    Raises:
        ValueError: no latent or no prompt, something that is no latent, or a number of prompts that does not fit.
    """
    odd = next((one for one in given.latents if not isinstance(one, Tensor) or one.ndim not in (4, 5)), None)
    if odd is not None or not given.latents:
        shape = list(odd.shape) if isinstance(odd, Tensor) else type(odd).__name__
        raise ValueError(f"latents of pictures or videos, [B, C, (t,) h, w], were expected, and this is {shape}")
    singles = [
        (latent[row : row + 1], None if mask is None else _row(mask, row))
        for latent, mask in zip(given.latents, given.masks)
        for row in range(len(latent))
    ]
    if len(given.prompts) not in (1, len(singles)):
        raise ValueError(
            f"{len(singles)} latents came with {len(given.prompts)} prompts: connect one for each, or one for all"
        )
    names = [f"prompt {number + 1}" for number in range(len(given.prompts))]
    found = Prepared(prompts=dict(zip(names, given.prompts)))
    latents = on_the_cpu([latent for latent, _ in singles])
    for number, (latent, (_, mask)) in enumerate(zip(latents, singles)):
        name, cells = f"latent {number + 1}", None if mask is None else _cells(mask, latent)
        found.pictures.append(Picture(name, latent, names[number % len(names)], mask=cells))
        size = " x ".join(map(str, reversed(latent.shape[-2:])))
        found.sizes_px[size] = found.sizes_px.get(size, 0) + 1
        if mask is not None:
            found.masked.append(name)
    return found


def plan_of_given(plan: LoRAPlan) -> LoRAPlan:
    """The plan without what is done to words: these prompts are encoded already."""
    return replace(plan, captions=CaptionPlan(drop_whole=plan.captions.drop_whole))


def _row(mask: Tensor, row: int) -> Tensor:
    """The mask of one latent of a batch. -> [H, W]"""
    rows = mask.reshape(-1, *mask.shape[-2:])
    return rows[row % len(rows)]


def _cells(mask: Tensor, latent: Tensor) -> Tensor:
    """A mask of any size in the cells of a latent. [H, W] -> [1, 1, (1,) h, w]"""
    whole = mask.float().cpu()[None, None]
    cells = functional.adaptive_avg_pool2d(whole, (latent.shape[-2], latent.shape[-1]))
    return cells[:, :, None] if latent.ndim == 5 else cells
