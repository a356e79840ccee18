"""Noise as a family's latents are."""

from __future__ import annotations

from ...vae_core import latents
from ...vae_core.config import FAMILIES
from ..host.shared.vae_facts import PICTURES
from ..reports import as_json, shown
from .fit import picture_vae
from .true_size import TRUE_SIZE

STANDARD_NORMAL = "standard normal"
_SEED = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": False}


class SamplePrior:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Noise with the mean and spread that a model family's latents have, as a raw LATENT: what a VAE makes of no "
        "picture in particular. The same seed gives the same latent on every machine."
    )
    SEARCH_ALIASES = ["EmptyLatentImage", "random latent", "noise", "prior"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "Raw latents. One whose size does not fill whole cells remembers it.",
        "Shape, seed, and the mean and spread that were aimed at and drawn, as JSON.",
    )
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 512, "min": 1, "max": 16384, "step": 1}
        return {
            "required": {
                "width": ("INT", {**side, "tooltip": "Width of the picture in px."}),
                "height": ("INT", {**side, "tooltip": "Height of the picture in px."}),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096, "tooltip": "How many latents."}),
                "seed": (
                    "INT",
                    {**_SEED, "tooltip": "Which noise. The first latent is the same in a batch of any size."},
                ),
                "family": (
                    [*FAMILIES, STANDARD_NORMAL],
                    {
                        "tooltip": "Whose latents: the scale and shift that the family's model is trained with. "
                        "standard normal: mean 0, spread 1, which a VAE is trained towards; needs a VAE."
                    },
                ),
            },
            "optional": {
                "vae": ("VAE", {"tooltip": "Gives the number of channels and the px of a cell; must fit the family."}),
            },
        }

    def draw(self, width, height, batch_size, seed, family, vae=None):
        channels, cell = _layout(family, vae)
        rows, columns = -(-height // cell), -(-width // cell)
        named = None if family == STANDARD_NORMAL else family
        samples = latents.prior((batch_size, channels, rows, columns), seed, named)
        latent = {"samples": samples}
        if [rows * cell, columns * cell] != [height, width]:
            latent[TRUE_SIZE] = [height, width]
        title = FAMILIES[family].title if named else STANDARD_NORMAL
        data = {
            "latent": list(samples.shape),
            "family": family,
            "px_per_cell": cell,
            "seed": seed,
            "mean": round(float(samples.mean()), 4),
            "std": round(float(samples.std(correction=0)), 4),
            "channel_mean": _rounded(samples.mean((0, 2, 3))),
            "channel_std": _rounded(samples.transpose(0, 1).flatten(1).std(1, correction=0)),
        }
        lines = [
            f"noise as {title} has it, for {width} x {height} px"
            + (f", {batch_size} of them" if batch_size > 1 else ""),
        ]
        return shown(lines, data, (latent, as_json(data)))


def _layout(family: str, vae) -> tuple[int, int]:
    """Channels of the latent and pixels per cell: the VAE's where there is one."""
    if vae is None:
        if family == STANDARD_NORMAL:
            raise ValueError(
                "standard normal needs a VAE, which says how many channels there are: connect one, or choose a family"
            )
        return FAMILIES[family].latent, FAMILIES[family].px_per_cell
    facts = picture_vae(vae)
    if facts.makes != PICTURES:
        raise ValueError(
            f"a VAE for pictures was expected, but this one is for videos ({facts.kind}), whose noise has frames: "
            "use the stock node for an empty video latent"
        )
    cell, channels = facts.px_per_cell, facts.latent_channels
    if family != STANDARD_NORMAL and FAMILIES[family].latent != channels:
        raise ValueError(
            f"a latent of {family} has {FAMILIES[family].latent} channels, this VAE wants {channels}; "
            "choose the family that the VAE belongs to"
        )
    return channels, cell


def _rounded(values) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


NODES = {"CVL_SamplePrior": (SamplePrior, "Sample Prior (CVL)")}
