"""Image Encode: pictures through the image half of a CLIP, for nodes that condition on a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from ..checks import check_image, check_numbers
from ..host import host
from ..reports import as_json, shown
from . import features
from .ground import GROUND, WHITE, level, on_ground

if TYPE_CHECKING:
    from ...clip_core.features.pictures import ImageEncoder
    from ..host.interface import Tensor

    class VisionOutput(Protocol):
        """A CLIP_VISION_OUTPUT, as far as the report reads it."""

        image_embeds: Tensor  # [B, E]
        last_hidden_state: Tensor  # [B, 1 + P, C]


CROPS = {"auto": "auto", "center": "crop", "squash": "squash", "pad": "pad"}  # the menu's words: the host's


class EncodeImage:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Encodes pictures with the image half of a CLIP, as the stock CLIP Vision Encode does, but with the pixels "
        "that the model was trained on (Pillow's bicubic, to the bit). For unCLIP, style models and IP-Adapters."
    )
    SEARCH_ALIASES = ["CLIP Vision Encode", "CLIPVisionEncode", "image embedding", "unCLIP", "IPAdapter"]
    RETURN_TYPES = ("CLIP_VISION_OUTPUT", "STRING")
    RETURN_NAMES = ("clip_vision_output", "report")
    OUTPUT_TOOLTIPS = (
        "Hidden states and embedding of each picture, for stock nodes that take a CLIP_VISION_OUTPUT.",
        "Sizes, how each picture was cut, and the lengths of the embeddings, as JSON.",
    )
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": (
                    features.MODEL_TYPES,
                    {"tooltip": "From Load CLIP Model, or a stock CLIP_VISION of the CLIP kind."},
                ),
                "image": ("IMAGE", {"tooltip": "One picture or a batch, of any size."}),
            },
            "optional": {
                "crop": (
                    list(CROPS),
                    {
                        "advanced": True,
                        "tooltip": "How a picture becomes a square. center: shorter side scaled, the middle cut out. "
                        "squash: both sides scaled. pad: all of it, on ground. auto: as the model was trained, mostly "
                        "center.",
                    },
                ),
                "ground": GROUND,
            },
        }

    def encode(self, clip_model, image, crop="auto", ground=WHITE):
        check_image(image)
        check_numbers(image, "this IMAGE")
        encoder = host.image_encoder(clip_model)
        laid = on_ground(image, ground)
        output = host.vision_output(clip_model, laid.image, CROPS[crop], host.progress(len(image)), level(ground))
        data = _report(encoder, cast("VisionOutput", output), image, encoder.resize if crop == "auto" else CROPS[crop])
        data |= laid.data
        return shown([*_lines(data), *laid.notes], data, (output, as_json(data)))


def _report(encoder: ImageEncoder, output: VisionOutput, image: Tensor, resize: str) -> dict:
    height, width = image.shape[1:3]
    kept = min(height, width)
    return {
        "pictures": len(image),
        "picture_px": [width, height],
        "encoder_px": encoder.size_px,
        "crop": "center" if resize == "crop" else resize,
        "seen_px": [kept, kept] if resize == "crop" else [width, height],
        "image_embeds": list(output.image_embeds.shape),
        "lengths": [round(float(row.norm()), 4) for row in output.image_embeds],
        "hidden_states": list(output.last_hidden_state.shape),
    }


def _lines(data: dict) -> list[str]:
    (width, height), (wide, tall), side = data["picture_px"], data["seen_px"], data["encoder_px"]
    lines = [f"{_counted(data['pictures'])}, {width} x {height} px, seen at {side} x {side} px"]
    if (wide, tall) != (width, height):
        lines.append(f"only the middle {wide} x {tall} px of each are seen; crop: squash or pad shows all of it")
    elif data["crop"] == "pad" and width != height:
        lines.append(f"all of each is seen, on {data['ground']}: some of the square is empty")
    elif width != height:
        lines.append("both sides were scaled by themselves, so the proportions have changed")
    return lines


def _counted(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


NODES = {"CVL_EncodeImage": (EncodeImage, "Image Encode (CVL)")}
