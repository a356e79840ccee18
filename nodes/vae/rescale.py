"""A VAE whose numbers overflow in fp16, made to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...files.images import read_image
from ...files.tensors import write_tensors
from ...training.vae.stored import TYPES, shortest
from ...vae_core.rescaling.factors import EXACT, LARGEST
from ...vae_core.rescaling.probe import Probed, rescaled
from ..checks import check_image, check_numbers
from ..host import host
from ..host.shared.data_folders import EXAMPLES_FOLDER
from ..image import EXAMPLES
from ..reports import as_json, shown
from .fit import picture_vae

if TYPE_CHECKING:
    from pathlib import Path

    from ..host.interface import Image, Tensor


class RescaleVAE:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Makes a VAE that gives black pictures in fp16 fit for it: what grows too large is divided by powers of two "
        "and multiplied again where it is read, so that latents and pictures stay the same. No training, no files "
        "needed but the VAE's own."
    )
    SEARCH_ALIASES = ["fp16 fix", "fp16 vae", "black images", "NaN", "sdxl vae fp16 fix", "overflow", "half precision"]
    RETURN_TYPES = ("VAE", "STRING", "STRING")
    RETURN_NAMES = ("vae", "path", "report")
    OUTPUT_TOOLTIPS = (
        "The VAE that fits; the same one where nothing was too large.",
        "Where its file was written; empty where nothing was too large.",
        "The largest number of each part before and after, and how far latents and pictures moved, as JSON.",
    )
    FUNCTION = "rescale"
    OUTPUT_NODE = True  # it writes a file

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae": ("VAE", {"tooltip": "A VAE of SD, SDXL, SD3 or Flux; it stays as it is."}),
                "filename_prefix": (
                    "STRING",
                    {"default": "vae/fp16", "tooltip": "Folder and beginning of the name in the output folder."},
                ),
            },
            "optional": {
                "image": (
                    "IMAGE",
                    {"tooltip": "Pictures by which the numbers are measured; without them the examples of this pack."},
                ),
            },
        }

    def rescale(self, vae, filename_prefix, image=None):
        picture_vae(vae)
        trainee = host.trainable_vae(vae)
        pictures = _pictures(image)
        came = [tensor for tensor in trainee.state.values() if tensor.is_floating_point()]
        for kind in dict.fromkeys((shortest(came), TYPES["fp32"])):
            state = {name: tensor.to(kind) for name, tensor in trainee.state.items() if tensor.is_floating_point()}
            found = rescaled(trainee.build, {**trainee.state, **state}, trainee.room().device, pictures, host.progress)
            if found.moved <= EXACT:
                break
        if not found.result.factors:
            return _answer(found, vae, None)
        path = host.output_path(filename_prefix, ".safetensors")
        header = {"format": "pt", "cvl.rescaled_for": "fp16"}
        written = {name: tensor.cpu().contiguous() for name, tensor in found.result.state.items()}
        write_tensors(path, written, header)
        return _answer(found, host.make_vae(trainee.build, written, trainee.dtype), path)


def _pictures(image: Image | None) -> list[Tensor]:
    """The pictures by which is measured, each by itself. -> [1, H, W, C] in 0..1"""
    if image is None:
        return [read_image(EXAMPLES_FOLDER / name)[0] for name in EXAMPLES.values()]
    check_image(image)
    check_numbers(image, "this IMAGE")
    return list(image.split(1))


def _answer(probed: Probed, vae, path: Path | None) -> dict:
    found = probed.result
    data = {
        "file": str(path or ""),
        "largest_before": float(f"{found.before:.6g}"),
        "largest_after": float(f"{found.after:.6g}"),
        "fp16_holds": LARGEST,
        "pictures": probed.pictures,
        "outputs_moved": float(f"{probed.moved:.3g}"),
        "fp16_off_before": probed.before,
        "fp16_off_after": probed.after,
        "parts": {
            part: {"largest": float(f"{size:.6g}"), "factor": found.factors.get(part, 1.0)}
            for part, size in found.largest.items()
        },
    }
    return shown(_lines(probed, path), data, (vae, str(path or ""), as_json(data)))


def _lines(probed: Probed, path: Path | None) -> list[str]:
    found = probed.result
    if path is None:
        lines = [f"nothing is too large: at most {found.before:,.0f} of the {LARGEST:,.0f} that fp16 holds"]
        return [*lines, "no file was written, and the VAE is as it was", *_fp16_lines(probed)[1:]]
    deepest = min(found.factors.values())
    lines = [
        f"{path.name}: the largest number is {found.after:,.0f} and was {found.before:,.0f}; fp16 holds {LARGEST:,.0f}",
        f"{len(found.factors)} of {len(found.largest)} parts were made smaller, by up to {1 / deepest:.0f} times",
    ]
    if probed.moved <= EXACT:
        lines.append(f"latents and pictures are the same: {probed.moved:.1e} of their largest number apart in fp32")
    else:
        lines.append(
            f"⚠ latents and pictures moved by {probed.moved:.1e} of their largest number in fp32: this VAE adds very "
            "large numbers to very small ones, so look at a picture before you use it"
        )
    return lines + _fp16_lines(probed)


def _fp16_lines(probed: Probed) -> list[str]:
    def said(off: float | None) -> str:
        return "NaN or infinity" if off is None else f"{off:.1%} from fp32"

    lines = [f"in fp16 before: {said(probed.before)}", f"in fp16 now: {said(probed.after)}"]
    return lines if probed.after is not None else [*lines, "⚠ still no numbers in fp16: keep this VAE in bf16 or fp32"]


NODES = {"CVL_RescaleVAE": (RescaleVAE, "Rescale VAE for fp16 (CVL)")}
