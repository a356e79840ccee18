"""Facts about the things of a workflow, as far as they decide what fits what: plain numbers and names, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODEL, CLIP, VAE, LATENT, CONDITIONING = "MODEL", "CLIP", "VAE", "LATENT", "CONDITIONING"
IMAGE, MASK, LORA, OTHER = "IMAGE", "MASK", "LoRA", "other"


@dataclass(frozen=True)
class Shape:
    """The shape of latents as far as it is known: their channels, the axes of a cell (1 sound, 2 pictures, 3 videos),
    and how many pixels of a picture a cell spans along each side. None: not known.
    """

    channels: int | None = None
    axes: int | None = None
    px: int | None = None


@dataclass(frozen=True)
class Text:
    """The text that a model reads, an encoder gives or a CONDITIONING holds.

    kinds: names of rows of `texts.TEXTS`; of a model, of those it reads. width: numbers a token. pooled: numbers of the
    pooled text; 0 where there is none, None where that is not known. needs_pooled: the model stops without it.
    """

    kinds: tuple[str, ...] = ()
    width: int | None = None
    pooled: int | None = None
    needs_pooled: bool = False


@dataclass(frozen=True)
class Facts:
    """What one thing is.

    kind: its type, one of those above. name: what a report calls it. title: what it is, in words. family: of a model,
    its row in `models.MODELS`. families: of a LoRA, those it was made for. spaces: rows of `spaces.SPACES`, of the
    latents that a model works on or a VAE may make. shape: of those latents. empty: a LATENT or mask of zeros, which a
    sampler fits itself. text: see `Text`; None where it has none. size, numbers, place, patches: words for the table.
    details: more, by name, for the JSON. broken: sentences about damage that is in it. notes: sentences that only
    inform.
    """

    kind: str
    name: str
    title: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    shape: Shape = Shape()
    empty: bool = False
    text: Text | None = None
    size: str = ""
    numbers: str = ""
    place: str = ""
    patches: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A sentence about one or two things by their names; `misfit` where it stops a run or spoils what comes of it."""

    between: tuple[str, ...]
    sentence: str
    misfit: bool = False
