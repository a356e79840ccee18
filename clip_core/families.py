"""How each diffusion family reads its CLIP text encoders: which layer, normed or not, which pooled vector, which
padding.

From ComfyUI 0.3.64 (a125cd84): sd1_clip.py:90, sd2_clip.py:4, sdxl_clip.py:5 and :44, sd3_clip.py:64.
"""

from __future__ import annotations

from dataclasses import dataclass

from .tokenizer import END

SD3_WIDTH = 4096  # SD3 pads the joined CLIP states to T5's width


@dataclass(frozen=True)
class Use:
    """How one encoder is read.

    `layer` counts block outputs from the end (-2 = before the last block); None is the last one, always normed.
    `final_norm` says whether the final norm is put on a `layer` that is not None. `projected`: the pooled vector goes
    through the text projection. `pad` fills a chunk behind its end token.
    """

    encoder: str  # clip_l, clip_h or clip_g: the host's names
    layer: int | None
    final_norm: bool
    projected: bool
    pad: int

    @property
    def key(self) -> str:
        """The host's key for this encoder's tokens: "l", "h", "g"."""
        return self.encoder.removeprefix("clip_")


@dataclass(frozen=True)
class Family:
    """The encoders of a family in the order of their conditioning's channels; `width` pads those with zeros."""

    name: str
    uses: tuple[Use, ...]
    width: int | None = None
    joined_pooled: bool = False  # pooled vectors side by side; otherwise the last encoder's


_L_LAST = Use("clip_l", None, True, False, END)
_L_PENULTIMATE = Use("clip_l", -2, False, False, END)  # SDXL does not use its pooled vector
_G_PENULTIMATE = Use("clip_g", -2, False, True, 0)

FAMILIES = {
    family.name: family
    for family in (
        Family("sd1", (_L_LAST,)),
        Family("sd2", (Use("clip_h", -2, True, True, 0),)),
        Family("sdxl", (_L_PENULTIMATE, _G_PENULTIMATE)),
        Family("sdxl_refiner", (_G_PENULTIMATE,)),
        Family("sd3", (_L_PENULTIMATE, _G_PENULTIMATE), width=SD3_WIDTH, joined_pooled=True),
    )
}
