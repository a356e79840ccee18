"""The diffusion families, and how each uses its CLIP text encoders: layer, final norm, pooled vector, padding.

From ComfyUI 0.3.64 (a125cd84): sd1_clip.py:90, sd2_clip.py:4, sdxl_clip.py:5 and :44, sd3_clip.py:64.
"""

from __future__ import annotations

from dataclasses import dataclass

from .tokenizer import END

SD3_WIDTH = 4096  # SD3 pads the joined CLIP states to T5's width


@dataclass(frozen=True)
class EncoderUse:
    """A family's use of one encoder.

    `layer` counts block outputs from the end (-2 is the last but one); None is the last one, which always gets the
    final norm. `final_norm`: the final norm is put on another `layer`, too. `projected`: the pooled vector goes through
    the text projection. `pad` fills a chunk behind its end token.
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
    """A family's encoders, in the order of their channels in the conditioning; `width` pads these with zeros."""

    name: str
    uses: tuple[EncoderUse, ...]
    width: int | None = None
    joined_pooled: bool = False  # pooled vectors are concatenated; otherwise the last encoder's is taken


_L_LAST = EncoderUse("clip_l", None, True, False, END)
_L_PENULTIMATE = EncoderUse("clip_l", -2, False, False, END)  # SDXL does not use its pooled vector
_G_PENULTIMATE = EncoderUse("clip_g", -2, False, True, 0)

FAMILIES = {
    family.name: family
    for family in (
        Family("sd1", (_L_LAST,)),
        Family("sd2", (EncoderUse("clip_h", -2, True, True, 0),)),
        Family("sdxl", (_L_PENULTIMATE, _G_PENULTIMATE)),
        Family("sdxl_refiner", (_G_PENULTIMATE,)),
        Family("sd3", (_L_PENULTIMATE, _G_PENULTIMATE), width=SD3_WIDTH, joined_pooled=True),
    )
}
