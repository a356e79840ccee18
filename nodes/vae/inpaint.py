"""Inpainting: the picture with a hole to a latent, and what was painted back into the picture."""

from __future__ import annotations

from ...vae_core import inpaint
from ...vae_core.tiling.work import Tiling
from ..checks import check_batches, check_image, check_mask, check_numbers
from ..host import host
from ..reports import as_json, shown
from .fit import channel_notes, frame_notes, picture_vae
from .true_size import size_kept


class VAEEncodeInpaint:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Prepares a picture for inpainting: neutral grey where the mask is, encoded, with the grown mask as noise "
        "mask. As the stock node, but a picture of any size is padded instead of cut, and its size remembered."
    )
    SEARCH_ALIASES = ["VAEEncodeForInpaint", "inpaint", "inpainting", "mask to latent", "outpaint", "paint over"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "Raw latents with a noise mask: a sampler paints only there.",
        "Sizes, padding, and how much is masked, as JSON.",
    )
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pixels": ("IMAGE", {"tooltip": "The pictures to paint into; an alpha channel where the VAE has one."}),
                "vae": ("VAE", {"tooltip": "The VAE of the model that will paint."}),
                "mask": (
                    "MASK",
                    {
                        "tooltip": "Where to paint: one mask, or one for each picture. One of another size is scaled "
                        "to the picture. Values are rounded at a half."
                    },
                ),
            },
            "optional": {
                "grow_mask_by": (
                    "INT",
                    {
                        "default": 6,
                        "min": 0,
                        "max": 64,
                        "step": 1,
                        "tooltip": "The width in px of the brush that widens the noise mask, as in the stock node: "
                        "half of it on every side. The grey keeps the mask's own shape.",
                    },
                ),
            },
        }

    def encode(self, pixels, vae, mask, grow_mask_by=6):
        check_image(pixels)
        check_numbers(pixels, "this IMAGE")
        mask = check_mask(mask)
        check_batches(pictures=len(pixels), masks=len(mask))
        facts = picture_vae(vae)
        factor = facts.px_per_cell
        size = list(pixels.shape[1:3])
        hole = inpaint.hole(pixels, mask.to(pixels.device), grow_mask_by, factor)
        worked = host.encode_image(vae, hole.pixels, None, Tiling())
        samples = worked.result
        padded = [now - before for now, before in zip(hole.pixels.shape[1:3], size)]
        latent = {"samples": samples, "noise_mask": hole.noise_mask}
        if any(padded):
            latent |= size_kept(size, samples)
        data = {
            "image": list(pixels.shape),
            "latent": list(samples.shape),
            "mask": list(mask.shape),
            "mask_scaled": list(mask.shape[1:]) != size,
            "mask_rounded": hole.was_soft,
            "grow_mask_by": grow_mask_by,
            "padded_px": padded,
            "masked": round(float(hole.mask.mean()), 6),
            "noise_masked": round(float(inpaint.cut_to(hole.noise_mask[:, 0], size).mean()), 6),
            "plan": worked.plan,
            "notes": [*worked.notes, *channel_notes(pixels, facts), *frame_notes(pixels, samples, facts)],
        }
        return shown(_encode_lines(data, factor), data, (latent, as_json(data)))


def _encode_lines(data: dict, factor: int) -> list[str]:
    height, width = data["image"][1:3]
    lines = [
        f"{data['masked']:.1%} of {width} x {height} px will be painted, {data['noise_masked']:.1%} with the grown "
        "mask",
    ]
    if not data["masked"]:
        lines.append("the mask is empty: nothing will be painted")
    if data["masked"] == 1:
        lines.append("the mask covers every pixel: nothing of the picture is left")
    if data["mask_scaled"]:
        rows, columns = data["mask"][1:]
        lines.append(f"the mask of {columns} x {rows} px was scaled (bilinear) to the picture")
    if data["mask_rounded"]:
        lines.append("the mask has soft values: they were rounded at a half")
    if any(data["padded_px"]):
        down, right = data["padded_px"]
        lines.append(f"mirrored {down} rows at the bottom and {right} columns at the right: cells are {factor} px")
    return lines + data["notes"]


class CompositeInpaint:
    CATEGORY = "CVL/image"
    DESCRIPTION = (
        "Pastes what was inpainted back into the original, with a soft edge. Pixels that were not masked keep every "
        "bit, and the picture keeps its size."
    )
    SEARCH_ALIASES = ["ImageCompositeMasked", "paste back", "inpaint", "inpaint stitch", "uncrop", "blend"]
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("image", "blend_mask", "report")
    OUTPUT_TOOLTIPS = (
        "The original with the inpainted part in it.",
        "How much of the inpainted picture is in each pixel.",
        "How much was pasted, and what was scaled or cut, as JSON.",
    )
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "original": ("IMAGE", {"tooltip": "The picture before inpainting. Its alpha channel is kept."}),
                "inpainted": (
                    "IMAGE",
                    {
                        "tooltip": "The picture after inpainting. One padded to whole cells is cut back; one of any "
                        "other size is scaled."
                    },
                ),
                "mask": ("MASK", {"tooltip": "The mask that was inpainted: one, or one for each picture."}),
            },
            "optional": {
                "feather_px": (
                    "INT",
                    {
                        "default": 8,
                        "min": 0,
                        "max": 512,
                        "tooltip": "Width of the soft edge. It lies inside the grown mask. 0: a hard edge.",
                    },
                ),
                "grow_px": (
                    "INT",
                    {
                        "default": 8,
                        "min": 0,
                        "max": 512,
                        "tooltip": "How far the mask is widened on every side first. As much as feather_px: the whole "
                        "mask is pasted, and the soft edge lies round it.",
                    },
                ),
            },
        }

    def composite(self, original, inpainted, mask, feather_px=8, grow_px=8):
        for image, name in ((original, "the original"), (inpainted, "the inpainted picture")):
            check_image(image)
            check_numbers(image, name)
        mask = check_mask(mask).to(original.device)
        batch = check_batches(originals=len(original), inpainted=len(inpainted), masks=len(mask))
        size = tuple(original.shape[1:3])
        inpainted, fitted = _fitted(inpainted[..., :3].to(original), size)
        whole = inpaint.resized_mask(mask, size)
        weight = inpaint.feathered(inpaint.grown(whole, grow_px, grow_px), feather_px)
        colours = inpaint.composite(original[..., :3], inpainted, weight)
        image = original.expand(batch, -1, -1, -1).clone()
        image[..., :3] = colours
        weight = weight.expand(batch, -1, -1)
        data = {
            "image": list(image.shape),
            "inpainted_was": fitted,
            "mask": list(mask.shape),
            "mask_scaled": tuple(mask.shape[1:]) != size,
            "feather_px": feather_px,
            "grow_px": grow_px,
            "masked": round(float((whole > 0).float().mean()), 6),
            "untouched": round(float((weight == 0).float().mean()), 6),
            "largest_share": round(float(weight.max()), 6),
            "thinned": bool(whole.max() == 1 and weight.max() < 1),
        }
        return shown(_composite_lines(data), data, (image, weight.clone(), as_json(data)))


def _fitted(inpainted, size: tuple[int, int]):
    """The inpainted picture at the original's size, and what was done to it."""
    came = tuple(inpainted.shape[1:3])
    if came == size:
        return inpainted, "of the original's size"
    if inpaint.is_padded(came, size):
        return inpaint.cut_to(inpainted, size), f"cut at the bottom and right from {came[1]} x {came[0]} px"
    return inpaint.resized(inpainted, size), f"scaled (bicubic, antialiased) from {came[1]} x {came[0]} px"


def _composite_lines(data: dict) -> list[str]:
    lines = [f"{data['untouched']:.1%} of the pixels keep every bit, {1 - data['untouched']:.1%} are pasted or mixed"]
    if data["inpainted_was"] != "of the original's size":
        lines.append(f"the inpainted picture was {data['inpainted_was']}")
    if data["mask_scaled"]:
        rows, columns = data["mask"][1:]
        lines.append(f"the mask of {columns} x {rows} px was scaled (bilinear) to the original")
    if not data["masked"]:
        lines.append("the mask is empty: this is the original")
    elif data["thinned"]:
        lines.append(
            f"the mask is too thin for a feather of {data['feather_px']} px: nowhere is more than "
            f"{data['largest_share']:.0%} of the inpainted picture to be seen; grow it by as much, or feather less"
        )
    return lines


NODES = {
    "CVL_VAEEncodeInpaint": (VAEEncodeInpaint, "VAE Encode for Inpainting (CVL)"),
    "CVL_CompositeInpaint": (CompositeInpaint, "Composite Inpaint (CVL)"),
}
