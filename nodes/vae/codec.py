"""Pixels to latents and back."""

from __future__ import annotations

import math

from ...vae_core.inpaint import padded_to_cells
from ...vae_core.tiling.work import Tiling
from ..checks import check_finite, check_image, check_numbers
from ..host import host
from ..reports import as_json, shown
from .fit import channel_notes, check_latent, frame_notes, picture_vae
from .true_size import cut_back, size_kept

TILING_INPUTS = {
    "tiling": (
        ["auto", "off", "budget"],
        {
            "tooltip": "Tiles that give exactly what the whole picture gives. auto: on a graphics card none where the "
            "picture fits its free memory, else as large as is worth having. off: the picture at once. budget: the "
            "largest that budget_mb allows."
        },
    ),
    "budget_mb": (
        "INT",
        {
            "advanced": True,
            "default": 4096,
            "min": 16,
            "max": 1_048_576,
            "step": 16,
            "tooltip": "The most memory in MB, on a graphics card its own, that may be used beside the VAE's weights; "
            "for tiling = budget only.",
        },
    ),
}


class VAEEncode:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Turns pictures of any size into latents: the mean of the VAE's distribution, as the stock node gives it, or a "
        "seeded sample of it. What does not fill a cell is continued by reflection, and VAE Decode (CVL) cuts it off "
        "again. Large pictures go in exact tiles."
    )
    SEARCH_ALIASES = ["VAEEncode", "VAEEncodeTiled", "tiled vae", "image to latent", "img2img", "encode image"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "Raw latents, as ComfyUI's samplers take them; the picture's true size goes with them.",
        "Shapes, padding, the plan, and the latents' mean and spread, as JSON.",
    )
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pixels": ("IMAGE", {"tooltip": "The pictures to encode; an alpha channel where the VAE has one."}),
                "vae": ("VAE", {"tooltip": "The VAE: from our loader or from a stock one."}),
            },
            "optional": {
                "posterior": (
                    ["mean", "sample"],
                    {
                        "advanced": True,
                        "tooltip": "mean: the same latent every time, as the stock node. sample: drawn from the VAE's "
                        "distribution, as in training.",
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "advanced": True,
                        "default": 0,
                        "min": 0,
                        "max": 2**64 - 1,
                        "control_after_generate": False,
                        "tooltip": "Which sample is drawn; used with posterior = sample only.",
                    },
                ),
                "border": (
                    ["pad", "cut"],
                    {
                        "advanced": True,
                        "tooltip": "When the picture does not fill whole cells. pad: it is continued by reflection at "
                        "the right and at the bottom. cut: cut at the centre, as the stock node does.",
                    },
                ),
                **TILING_INPUTS,
            },
        }

    def encode(self, pixels, vae, posterior="mean", seed=0, border="pad", tiling="auto", budget_mb=4096):
        check_image(pixels)
        check_numbers(pixels, "this IMAGE")
        facts = picture_vae(vae)
        factor, (height, width) = facts.px_per_cell, pixels.shape[1:3]
        loose = [height % factor, width % factor]
        if border == "cut" and min(height, width) < factor:
            raise ValueError(
                f"this picture is {width} x {height} px, but one latent cell of this VAE spans {factor} px; "
                "set border to pad, or scale the picture up first"
            )
        image = padded_to_cells(pixels, factor) if any(loose) and border == "pad" else pixels
        worked = host.encode_image(vae, image, seed if posterior == "sample" else None, Tiling(tiling, budget_mb))
        check_numbers(worked.result, "the latent that the VAE made of a sound picture")
        latent = {"samples": worked.result}
        notes = [*worked.notes, *channel_notes(pixels, facts), *frame_notes(pixels, worked.result, facts)]
        if any(loose) and border == "pad":
            latent |= size_kept([height, width], worked.result)
            notes.append(f"padded to {_size(image)} px; VAE Decode (CVL) cuts it back")
        elif any(loose):
            loose_text = f"{loose[0]} rows and {loose[1]} columns"
            notes.append(f"cut at the centre: {loose_text} did not fill a cell of {factor} px")
        data = {
            "image": list(pixels.shape),
            "latent": list(worked.result.shape),
            "posterior": posterior,
            "border": border,
            "loose_px": loose,
            **_statistics(worked.result),
            "plan": worked.plan,
            "notes": notes,
        }
        lines = [
            f"{_size(pixels)} px encoded",
            *_tiles_line(worked.plan),
            *notes,
        ]
        return shown(lines, data, (latent, as_json(data)))


class VAEDecode:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Turns latents into pictures, in exact tiles that fit the memory: no seams, no shift of colours. A latent with "
        "the wrong number of channels, and a picture that came out broken, are errors that say what to do."
    )
    SEARCH_ALIASES = [
        "VAEDecode",
        "VAEDecodeTiled",
        "tiled vae",
        "tiled decode",
        "latent to image",
        "out of memory",
        "upscale decode",
    ]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "report")
    OUTPUT_TOOLTIPS = ("The pictures, in 0..1.", "Shapes, the plan, and the pictures' value range, as JSON.")
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples": ("LATENT", {"tooltip": "Raw latents: from a sampler or from VAE Encode."}),
                "vae": ("VAE", {"tooltip": "The VAE of the model that the latent belongs to."}),
            },
            "optional": dict(TILING_INPUTS),
        }

    def decode(self, samples, vae, tiling="auto", budget_mb=4096):
        facts = picture_vae(vae)
        latent, notes = check_latent(samples, facts)
        worked = host.decode_latent(vae, latent, Tiling(tiling, budget_mb))
        check_finite(worked.result, latent)
        image, cut = cut_back(worked.result, samples, latent, facts)
        notes = [*notes, *worked.notes, *cut]
        data = {
            "latent": list(latent.shape),
            "image": list(image.shape),
            "min": round(float(image.min()), 4),
            "max": round(float(image.max()), 4),
            "plan": worked.plan,
            "notes": notes,
        }
        lines = [f"decoded to {_size(image)} px", *_tiles_line(worked.plan), *notes]
        if data["min"] == data["max"]:
            lines.append(f"every pixel has the same value, {data['min']}: the latent or the VAE may be broken")
        return shown(lines, data, (image, as_json(data)))


def _tiles_line(plan: str) -> list[str]:
    """Say that it went in tiles, if it did, whose sizes and memory are in the JSON; or that ComfyUI did it, and how."""
    if "ComfyUI itself:" in plan:
        return [plan]
    return ["in tiles, to fit the memory: exactly the picture without tiles"] if "tiles of" in plan else []


def _statistics(latent) -> dict[str, float | None]:
    """JSON has no NaN."""
    numbers = {"mean": float(latent.mean()), "std": float(latent.std())}
    return {name: round(value, 4) if math.isfinite(value) else None for name, value in numbers.items()}


def _size(image) -> str:
    batch, height, width = image.shape[:3]
    return f"{width} x {height}" if batch == 1 else f"{batch} of {width} x {height}"


NODES = {
    "CVL_VAEEncode": (VAEEncode, "VAE Encode (CVL)"),
    "CVL_VAEDecode": (VAEDecode, "VAE Decode (CVL)"),
}
