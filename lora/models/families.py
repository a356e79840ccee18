"""Families of models: a LoRA file and a model of two different families are refused, and both are named."""

import re
from collections.abc import Iterable, Mapping, Sequence

from ..families.table import family_of_modules
from ..formats.read import LoRAFile
from ..kinds.adapters import LoRAError

SD1, SD2, SDXL, REFINER, SD3, FLUX = "SD 1", "SD 2", "SDXL", "SDXL refiner", "SD 3", "Flux"
_CONTEXT = {768: SD1, 1024: SD2, 2048: SDXL, 1280: REFINER}  # the width of the text that cross attention reads
_CROSS = re.compile(r"attn2[._](?:processor[._])?to_[kv]$")
_UNET_KEY = re.compile(r"diffusion_model\.(?:input|output)_blocks\.[\d.]+transformer_blocks\.\d+\.attn2\.to_k\.weight$")
_MMDIT = re.compile(r"(?:^|transformer_|model_|lycoris_)transformer_blocks_\d+_(?:attn|ff|norm)")
_HIDDEN_FLUX, _MODEL = 3072, "diffusion_model."


def family_of_keys(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The family of a model, from the keys and shapes of its state dict; None where several fit (text encoders)."""
    known = family_of_modules({key[len(_MODEL) :].removesuffix(".weight") for key in shapes if key.startswith(_MODEL)})
    if known and known.name not in (FLUX, SD3):
        return None  # a file's own names tell no such family yet
    if any(key.startswith(("diffusion_model.double_blocks.", "diffusion_model.single_blocks.")) for key in shapes):
        return FLUX
    if any(key.startswith("diffusion_model.joint_blocks.") for key in shapes):
        return SD3
    widths = (shape[-1] for key, shape in shapes.items() if _UNET_KEY.match(key) and len(shape) > 1)
    return _CONTEXT.get(next(widths, 0))


def family_of_file(file: LoRAFile) -> str | None:
    """The family that a file was made for, from its modules' names and sizes; None where they fit several families."""
    names = list(file.adapters) or list(file.unread)
    joined = set(_stacks(names))
    if "double_blocks" in joined or "single_blocks" in joined or "single_transformer_blocks" in joined:
        return FLUX
    if "joint_blocks" in joined:
        return SD3
    if "mmdit" in joined:  # diffusers has the same names for both, and Flux is 3072 wide
        widths = {
            inner
            for name, adapter in file.adapters.items()  # not of CLIP-L, whose fc2 is 3072 wide too
            if "mmdit" in _stacks([name]) and (inner := adapter.extent[1])
        }
        return FLUX if _HIDDEN_FLUX in widths else SD3 if widths else None
    for name, adapter in file.adapters.items():
        if _is_cross(name) and adapter.extent[1] in _CONTEXT:
            return _CONTEXT[adapter.extent[1]]
    two_encoders = any(name.startswith(("lora_te2_text_model", "text_encoder_2.")) for name in names)
    return SDXL if two_encoders and "unet" in joined else None


def refuse_other_family(file: LoRAFile, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a file whose family is known to differ from the model's.

    Raises:
        LoRAError: the families differ; the message names both.
    """
    made_for, model = family_of_file(file), family_of_keys(shapes)
    if made_for and model and made_for != model:
        raise LoRAError(
            f"this LoRA was made for {made_for}, and the model connected is {model}: "
            f"connect a {made_for} model, or choose a LoRA for {model}"
        )


def _is_cross(name: str) -> bool:
    if _CROSS.search(name):
        return True
    number = name.removeprefix("unet:")
    return number != name and number.isdecimal() and int(number[-6:]) % 9 in (6, 7) and len(number) < 6


def _stacks(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        flat = name[:200].replace(".", "_")
        for stack in ("double_blocks", "single_blocks", "single_transformer_blocks", "joint_blocks"):
            if f"{stack}_" in flat:
                yield stack
        if _MMDIT.search(flat) and "attentions_" not in flat:
            yield "mmdit"
        if flat.startswith(("lora_unet_", "unet_", "oft_unet_", "unet:")):
            yield "unet"
