"""Pixels to latents and back."""

from __future__ import annotations

from . import catalog, loading
from .checks import check_finite, check_image, check_latent
from .host import host
from .reports import as_json, shown
from .text import DTYPES


class LoadVAE:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Loads a VAE (SD1, SD2, SDXL, SD3, Flux.1; LDM or diffusers names; alone or inside a checkpoint) or a tiny "
        "autoencoder of the TAESD family, and says what it found. Stock nodes take its VAE."
    )
    SEARCH_ALIASES = ["VAELoader", "load vae", "TAESD", "autoencoder"]
    RETURN_TYPES = ("VAE", "STRING")
    RETURN_NAMES = ("vae", "report")
    OUTPUT_TOOLTIPS = (
        "The VAE, for any node that takes one.",
        "What was read, as JSON: kind, latent channels, pixels per cell, layout, tensors left unread.",
    )
    FUNCTION = "load"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (
                    catalog.choices("vae"),
                    {
                        "tooltip": "A VAE file, or a checkpoint that contains one. Of a TAESD pair choose either "
                        "half: the other is found beside it."
                    },
                ),
            },
            "optional": {
                "dtype": (
                    DTYPES,
                    {"tooltip": "What the VAE computes in. auto: as ComfyUI, or fp32 alone. SDXL's fails in fp16."},
                ),
                "family": (
                    ["auto", *loading.TINY_FAMILIES],
                    {
                        "tooltip": "For a tiny autoencoder only: the model it stands in for, which its tensors do not "
                        "tell. auto: told from the file's name (taesd, taesdxl, taesd3, taef1)."
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("vae", file)

    def load(self, file, dtype="auto", family="auto"):
        vae, lines, data = loading.vae(catalog.path("vae", file), dtype, family)
        return shown(lines, data, (vae, as_json(data)))


class VAEEncode:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Turns pictures into latents: the mean of the VAE's distribution, as the stock node gives it, or a seeded "
        "sample of it. Says when pixels at the border did not fit whole cells and were cut."
    )
    SEARCH_ALIASES = ["VAEEncode", "image to latent", "img2img"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "Raw latents, as ComfyUI's samplers take them.",
        "Shapes, what was cut, and the latents' mean and spread, as JSON.",
    )
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pixels": ("IMAGE", {"tooltip": "The pictures to encode. An alpha channel is not used."}),
                "vae": ("VAE", {"tooltip": "The VAE: from our loader or from a stock one."}),
            },
            "optional": {
                "posterior": (
                    ["mean", "sample"],
                    {
                        "tooltip": "mean: the same latent every time, as the stock node. sample: drawn from the VAE's "
                        "distribution, as in training."
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 2**64 - 1,
                        "control_after_generate": False,
                        "tooltip": "Which sample is drawn; used with posterior = sample only.",
                    },
                ),
            },
        }

    def encode(self, pixels, vae, posterior="mean", seed=0):
        check_image(pixels)
        factor = host.pixels_per_cell(vae)
        cut = []
        if factor:
            height, width = pixels.shape[1:3]
            if min(height, width) < factor:
                raise ValueError(
                    f"this picture is {width} x {height} px, but one latent cell of this VAE spans {factor} px; "
                    "scale the picture up first"
                )
            cut = [height % factor, width % factor]
        latent = host.encode_image(vae, pixels, seed if posterior == "sample" else None)
        data = {
            "image": list(pixels.shape), "latent": list(latent.shape), "posterior": posterior,
            "cut_px": cut, "mean": round(float(latent.mean()), 4), "std": round(float(latent.std()), 4),
        }  # fmt: skip
        lines = [
            f"{_size(pixels)} px -> latent {' x '.join(map(str, latent.shape))}",
            f"mean {data['mean']}, spread {data['std']}",
        ]
        if any(cut):
            lines.append(f"cut at the centre: {cut[0]} rows and {cut[1]} columns did not fill a cell of {factor} px")
        return shown(lines, data, ({"samples": latent}, as_json(data)))


class VAEDecode:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Turns latents into pictures. A latent with the wrong number of channels, and a picture that came out broken, "
        "are errors that say what to do."
    )
    SEARCH_ALIASES = ["VAEDecode", "latent to image"]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "report")
    OUTPUT_TOOLTIPS = ("The pictures, in 0..1.", "Shapes and the pictures' value range, as JSON.")
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples": ("LATENT", {"tooltip": "Raw latents: from a sampler or from VAE Encode."}),
                "vae": ("VAE", {"tooltip": "The VAE of the model that the latent belongs to."}),
            }
        }

    def decode(self, samples, vae):
        latent = check_latent(samples, host.latent_channels(vae))
        image = host.decode_latent(vae, latent)
        check_finite(image, latent)
        data = {
            "latent": list(latent.shape),
            "image": list(image.shape),
            "min": round(float(image.min()), 4),
            "max": round(float(image.max()), 4),
        }
        lines = [f"latent {' x '.join(map(str, latent.shape))} -> {_size(image)} px"]
        if data["min"] == data["max"]:
            lines.append(f"every pixel has the same value, {data['min']}: the latent or the VAE may be broken")
        return shown(lines, data, (image, as_json(data)))


def _size(image) -> str:
    batch, height, width = image.shape[:3]
    return f"{width} x {height}" if batch == 1 else f"{batch} of {width} x {height}"
