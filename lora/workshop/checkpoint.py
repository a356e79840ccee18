"""The tensors of a checkpoint file under the names that its model has in ComfyUI: `diffusion_model.*`, `clip_l.*`.

Checkpoints call the same weights by where the trainer's program kept them. open_clip has q, k and v in one tensor, and
its projection transposed. Sources: CompVis' and Stability's configurations, ComfyUI's supported_models.py (facts only),
open_clip's transformer.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..formats.suffixes import grammar, parse
from ..kinds.adapters import LoRAError
from ..kinds.table import DOWN, UP
from ..models.families import family_of_keys

Shapes = Mapping[str, Sequence[int]]
UNET = "diffusion_model."
_OPEN_CLIP = "open_clip"
_FRONTS = (  # what a name begins with -> what it begins with in ComfyUI; the longest that fits counts
    ("model.diffusion_model.", UNET),
    (UNET, UNET),
    ("net.", UNET),
    ("cond_stage_model.transformer.text_model.", "clip_l.transformer.text_model."),
    ("cond_stage_model.transformer.", "clip_l.transformer.text_model."),  # the first SD 1 checkpoints
    ("conditioner.embedders.0.transformer.", "clip_l.transformer."),
    ("conditioner.embedders.1.model.", f"clip_g.transformer.{_OPEN_CLIP}."),
    ("conditioner.embedders.0.model.", f"clip_g.transformer.{_OPEN_CLIP}."),  # the refiner of SDXL
    ("cond_stage_model.model.", f"clip_h.transformer.{_OPEN_CLIP}."),
    ("text_encoders.", ""),
    ("clip_l.", "clip_l."),
    ("clip_g.", "clip_g."),
    ("clip_h.", "clip_h."),
    ("t5xxl.", "t5xxl."),
)
_NO_LORA = ("first_stage_model.", "vae.", "model_ema.", "cond_stage_model.logit_scale", "denoiser.")
_OF_CLIP, _OF_VISION = "text_model.", "vision_model."
_OF_T5 = ("encoder.block.", "shared.weight")
_WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
_BLOCKS = {  # of open_clip -> of transformers
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_WHOLE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


class Spot(NamedTuple):
    """Where a weight is in a file: all of a tensor, or so many rows of it from the first on; or it lies transposed."""

    name: str
    rows: tuple[int, int] | None = None
    transposed: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """The weight in its tensor, as a view."""
        whole = tensor.mT if self.transposed else tensor
        return whole if self.rows is None else whole.narrow(0, *self.rows)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the weight in a tensor of this shape."""
        whole = tuple(reversed(shape)) if self.transposed else tuple(shape)
        return whole if self.rows is None else (self.rows[1], *whole[1:])


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file by their keys in ComfyUI: their shapes, and where each lies in the file."""

    shapes: dict[str, tuple[int, ...]]
    spots: dict[str, Spot]


def checkpoint_of(shapes: Shapes) -> Checkpoint:
    """The weights of the diffusion model and of the text encoders in a checkpoint, by their keys in ComfyUI.

    What belongs to neither (the VAE, a trainer's averages) is left out. A file of a diffusion model alone, or of one
    text encoder alone, has no word before its names and is told by them; a whole CLIP keeps its own names.

    Args:
        shapes: of the file's tensors by name.

    Raises:
        LoRAError: the file is a LoRA, or has no diffusion model and no text encoder.

    >>> checkpoint_of({"model.diffusion_model.out.2.weight": (4, 320, 3, 3), "first_stage_model.x": (1,)}).spots
    {'diffusion_model.out.2.weight': Spot(name='model.diffusion_model.out.2.weight', rows=None, transposed=False)}
    """
    if _is_lora(shapes):
        raise LoRAError("it is a LoRA and no model: choose a checkpoint, a diffusion model or a text encoder")
    found: dict[str, Spot] = {}
    rest = {}
    for name, shape in shapes.items():
        front = max((front for front in _FRONTS if name.startswith(front[0])), key=lambda f: len(f[0]), default=None)
        if front is not None:
            found.update(_under(front[1], name, name[len(front[0]) :], shape))
        elif not name.startswith(_NO_LORA):
            rest[name] = shape
    if not found:
        found = _bare(rest)
    if not found:
        shown = ", ".join(sorted(shapes)[:3]) or "nothing"
        raise LoRAError(
            f"it has no diffusion model and no text encoder whose names are known, but {shown}: choose a checkpoint, "
            "or connect the model"
        )
    return Checkpoint({key: spot.shape(shapes[spot.name]) for key, spot in found.items()}, found)


def _is_lora(shapes: Shapes) -> bool:
    known = grammar()
    parts = [part.role for name in shapes if (part := parse(name, known)) is not None]
    return (DOWN in parts and UP in parts) or any(role.startswith(("hada_", "lokr_")) for role in parts)


def _under(front: str, name: str, own: str, shape: Sequence[int]) -> Iterator[tuple[str, Spot]]:
    if not front.endswith(f"{_OPEN_CLIP}."):
        yield front + own, Spot(name)
        return
    yield from _of_open_clip(front.removesuffix(f"{_OPEN_CLIP}."), name, own, shape)


def _of_open_clip(front: str, name: str, own: str, shape: Sequence[int]) -> Iterator[tuple[str, Spot]]:
    """The weights of one tensor of open_clip's text encoder, as transformers calls them."""
    if own in _WHOLE:
        yield front + _WHOLE[own], Spot(name)
    elif own == "text_projection":
        yield f"{front}text_projection.weight", Spot(name, transposed=True)
    elif found := _FUSED.fullmatch(own):
        rows = shape[0] // 3
        for place, part in enumerate(("q_proj", "k_proj", "v_proj")):
            key = f"{front}text_model.encoder.layers.{found[1]}.self_attn.{part}.{found[2]}"
            yield key, Spot(name, (place * rows, rows))
    elif (found := _BLOCK.fullmatch(own)) and found[2] in _BLOCKS:
        yield f"{front}text_model.encoder.layers.{found[1]}.{_BLOCKS[found[2]]}.{found[3]}", Spot(name)


def _bare(shapes: Shapes) -> dict[str, Spot]:
    """The weights of a file that holds one network alone."""
    if any(name.startswith("transformer.resblocks.") for name in shapes):
        width = next((shape[-1] for name, shape in shapes.items() if name.endswith("ln_final.weight")), 0)
        front = f"{_WIDTHS.get(width, 'clip_g')}.transformer."
        return {key: at for name, shape in shapes.items() for key, at in _of_open_clip(front, name, name, shape)}
    if any(name.startswith(_OF_CLIP) for name in shapes) and any(name.startswith(_OF_VISION) for name in shapes):
        return {name: Spot(name) for name in shapes}
    if any(name.startswith(_OF_CLIP) for name in shapes):
        width = next((shape[-1] for name, shape in shapes.items() if name.endswith("final_layer_norm.weight")), 0)
        return {f"{_WIDTHS.get(width, 'clip_l')}.transformer.{name}": Spot(name) for name in shapes}
    if any(name.startswith(_OF_T5) for name in shapes):
        return {f"t5xxl.transformer.{name}": Spot(name) for name in shapes}
    keys = {UNET + name: Spot(name) for name in shapes}
    known = family_of_keys({key: shapes[at.name] for key, at in keys.items()})
    blocks = ("_blocks.", "blocks.", "layers.")
    return keys if known or any(block in name for name in shapes for block in blocks) else {}
