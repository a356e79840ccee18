"""The tensors of a checkpoint under the names of ComfyUI's models, which LoRAs are matched with; and LoRAs in them.

Names: CompVis/stable-diffusion (`model.diffusion_model`, `cond_stage_model`), Stability-AI/generative-models
(`conditioner.embedders`), open_clip (`transformer.resblocks`, q, k and v of one tensor), and the files of ComfyUI's
folders diffusion_models and text_encoders, which have no front.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...families.table import family_of_modules
from ...kinds.adapters import LoRAError, on_device
from ...models.match import key_of
from ...models.places import Place, Slice
from ...weights.fusing import Change, apply_
from ..gathering import Gathered, strengths_of

Shape = tuple[int, ...]
_UNET = "diffusion_model."
_FRONTS = (  # of a file -> of the model
    ("model.diffusion_model.", _UNET),
    ("diffusion_model.", _UNET),
    ("conditioner.embedders.0.transformer.", "clip_l.transformer."),
    ("text_encoders.clip_l.transformer.", "clip_l.transformer."),
    ("text_encoders.clip_g.transformer.", "clip_g.transformer."),
    ("text_encoders.t5xxl.transformer.", "t5xxl.transformer."),
    ("cond_stage_model.transformer.", "clip_l.transformer."),
)
_OPEN_CLIP = (("conditioner.embedders.1.model.", "clip_g."), ("conditioner.embedders.0.model.", "clip_g."))
_OPEN_CLIP_2 = (("cond_stage_model.model.", "clip_h."),)
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)$")
_RENAMED = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
_FUSED = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Spot:
    """Where a weight of the model lies in a file: the tensor's name, and the rows of it, None for all."""

    name: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file by the model's keys: their shapes, and where each lies in the file."""

    shapes: dict[str, Shape]
    spots: dict[str, Spot] = field(default_factory=dict)


def checkpoint_of(shapes: Mapping[str, Sequence[int]]) -> Checkpoint:
    """Find the weights that a LoRA can change among a file's tensors.

    Raises:
        LoRAError: the file is a LoRA, or holds neither a diffusion model nor a text encoder under a known name.
    """
    if any(re.search(r"\.(lora_(up|down|A|B)|hada_w1_a|lokr_w[12])", name) for name in shapes):
        raise LoRAError("this file is a LoRA: choose the checkpoint that the LoRAs are to go into")
    spots: dict[str, Spot] = {}
    found: dict[str, Shape] = {}
    front = _bare_front(shapes)
    for name, shape in shapes.items():
        for key, spot, own in _keys(name, tuple(shape), front):
            spots[key], found[key] = spot, own
    if not found:
        first = ", ".join(list(shapes)[:3])
        raise LoRAError(f"a checkpoint, a diffusion model or a text encoder was expected, this file has {first}")
    return Checkpoint(found, spots)


def _bare_front(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """What the model calls the names of a file without fronts; None for a file with fronts, or an unknown one."""
    if any(name.startswith(tuple(start for start, _ in (*_FRONTS, *_OPEN_CLIP, *_OPEN_CLIP_2))) for name in shapes):
        return None
    modules = {name.rpartition(".")[0] for name in shapes}
    if family_of_modules(modules) or "time_embed.0.weight" in shapes:
        return _UNET
    layer = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    if layer in shapes and any(name.startswith("vision_model.") for name in shapes):
        return ""  # a whole CLIP, whose names are the model's own
    if layer in shapes:
        return "clip_g.transformer." if shapes[layer][0] == 1280 else "clip_l.transformer."
    return "t5xxl.transformer." if "encoder.block.0.layer.0.SelfAttention.q.weight" in shapes else None


def _keys(name: str, shape: Shape, front: str | None) -> list[tuple[str, Spot, Shape]]:
    """The model's keys that a tensor holds."""
    if front is not None:
        return [(front + name, Spot(name), shape)]
    for start, own in (*_OPEN_CLIP, *_OPEN_CLIP_2):
        if name.startswith(start):
            return _of_open_clip(name, name.removeprefix(start), own, shape)
    for start, own in _FRONTS:
        if name.startswith(start):
            return [(own + name.removeprefix(start), Spot(name), shape)]
    return []


def _of_open_clip(name: str, rest: str, own: str, shape: Shape) -> list[tuple[str, Spot, Shape]]:
    block = _BLOCK.match(rest)
    if not block:
        return []
    at = f"{own}transformer.text_model.encoder.layers.{block[1]}"
    if block[2] in ("attn.in_proj_weight", "attn.in_proj_bias"):
        end, rows = ("weight" if block[2].endswith("weight") else "bias"), shape[0] // 3
        return [
            (f"{at}.self_attn.{part}.{end}", Spot(name, (number * rows, rows)), (rows, *shape[1:]))
            for number, part in enumerate(_FUSED)
        ]
    module, _, end = block[2].rpartition(".")
    return [(f"{at}.{_RENAMED[module]}.{end}", Spot(name), shape)] if module in _RENAMED else []


@dataclass(frozen=True)
class Baking:
    """What a checkpoint becomes: tensor -> its changes, each on all of it or on some of its rows (first, how many)."""

    changes: dict[str, tuple[tuple[tuple[int, int] | None, Change], ...]]


def plan_baking(gathered: Gathered, checkpoint: Checkpoint) -> Baking:
    """Plan which tensors of a file the LoRAs change.

    Raises:
        LoRAError: blocks that select nothing, or every strength is 0.
    """
    strengths = strengths_of(gathered)
    found: dict[str, list[tuple[tuple[int, int] | None, Change]]] = {}
    for place, parts in gathered.layers.items():
        for part in parts:
            strength = strengths[part.source][place]
            if not strength:
                continue
            spot = checkpoint.spots[key_of(place)]
            rows = _inside(spot.rows, _rows_of(place), part.rows)
            found.setdefault(spot.name, []).append((rows, Change(part.adapter, strength)))
    if not found:
        raise LoRAError("every strength is 0: the checkpoint would stay as it is")
    return Baking({name: tuple(several) for name, several in found.items()})


def _rows_of(place: Place) -> tuple[int, int] | None:
    return place.rows[1:] if isinstance(place, Slice) else None


def _inside(*ranges: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows of rows of rows, in the outermost's own numbers."""
    found: tuple[int, int] | None = None
    for own in ranges:
        if own is not None:
            found = own if found is None else (found[0] + own[0], own[1])
    return found


def baked(baking: Baking, name: str, weight: Tensor) -> Tensor:
    """A tensor of the checkpoint with its changes: the sum is made in fp32 and rounded once to the tensor's own type.

    Raises:
        LoRAError: a change does not fit, widens the tensor, or makes a number that its type cannot hold.
    """
    several = baking.changes.get(name, ())
    if not several:
        return weight
    total = weight.to(torch.float32, copy=True)
    by_rows: dict[tuple[int, int] | None, list[Change]] = {}
    for rows, change in several:
        by_rows.setdefault(rows, []).append(Change(on_device(change.adapter, weight.device), change.strength))
    for rows, changes in by_rows.items():
        apply_(total if rows is None else total.narrow(0, *rows), changes)
    found = total.to(weight.dtype)
    if not found.isfinite().all():
        kind = str(weight.dtype).removeprefix("torch.")
        raise LoRAError(f"{name} would hold numbers that {kind} cannot: take smaller strengths")
    return found
