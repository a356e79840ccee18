"""Flux and SD3: the names that diffusers and XLabs give to weights which the original model fuses. No torch here.

diffusers has a layer each for q, k and v (in Flux' single blocks for the MLP too); the original model has one weight,
and those layers are rows of it. Sources: diffusers' conversion scripts and lora_conversion_utils.py, ComfyUI's
comfy/utils.py.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Slice(NamedTuple):
    """Rows of a weight: the key, and (0, first row, number of rows). ComfyUI takes the same pair as a patch's key."""

    key: str
    rows: tuple[int, int, int]


Place = str | Slice


class Target(NamedTuple):
    """The place of an adapter; `swapped` says that the file's halves of rows are in the opposite order of the model's.

    diffusers has (scale, shift) of the last adaptive norm in the other order.
    """

    place: Place
    swapped: bool = False


_QKV = {"q": (0, 1), "k": (1, 1), "v": (2, 1)}  # first row and rows, in widths of the model
_FLUX_DOUBLE = {  # ours: diffusers'
    "img_attn.proj": "attn.to_out.0",
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_FLUX_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
_FLUX_WHOLE = {
    "final_layer.linear": "proj_out",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **{
        f"{ours}.{a}_layer": f"time_text_embed.{theirs}.linear_{n}"
        for ours, theirs in (
            ("time_in", "timestep_embedder"),
            ("vector_in", "text_embedder"),
            ("guidance_in", "guidance_embedder"),
        )
        for a, n in (("in", 1), ("out", 2))
    },
}
_SD3_BLOCK = {
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
}
_SD3_WHOLE = {
    "context_embedder": "context_embedder",
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **{
        f"{ours}_embedder.mlp.{i}": f"time_text_embed.{theirs}.linear_{n}"
        for ours, theirs in (("t", "timestep_embedder"), ("y", "text_embedder"))
        for i, n in ((0, 1), (2, 2))
    },
}
_XLABS = {  # the layer: XLabs' processor, its rows in widths
    "img_attn.qkv": ("qkv_lora1", None),
    "txt_attn.qkv": ("qkv_lora2", None),
    "img_attn.proj": ("proj_lora1", None),
    "txt_attn.proj": ("proj_lora2", None),
    "linear1": ("qkv_lora", (0, 3)),
    "linear2": ("proj_lora", None),
}


def diffusers_targets(shapes: Mapping[str, Sequence[int]]) -> dict[str, Target]:
    """The targets of diffusers' module names, for the modules in `shapes` (ours, without prefix and .weight).

    {"double_blocks.0.img_attn.qkv": (9216, 3072)} -> {"transformer_blocks.0.attn.to_q": Slice(..., (0, 0, 3072)), ...}
    """
    found: dict[str, Target] = {}
    last = max((int(module.split(".")[1]) for module in shapes if module.startswith("joint_blocks.")), default=-1)
    flux = any(module.startswith("double_blocks.") for module in shapes)
    for module, shape in shapes.items():
        stack, _, rest = module.partition(".")
        number, _, inside = rest.partition(".")
        if stack in ("double_blocks", "single_blocks") and inside:
            found |= _flux(module, stack, number, inside, shape)
        elif stack == "joint_blocks" and inside:
            found |= _sd3(module, number, inside, shape, int(number) == last if number.isdecimal() else False)
        elif theirs := (_FLUX_WHOLE if flux else _SD3_WHOLE if last >= 0 else {}).get(module):
            found[theirs] = Target(module, swapped=theirs == "norm_out.linear")
    return found


def xlabs_targets(shapes: Mapping[str, Sequence[int]]) -> dict[str, Target]:
    """The targets of XLabs' module names: "double_blocks.0.processor.qkv_lora1" -> "double_blocks.0.img_attn.qkv" """
    found = {}
    for module, shape in shapes.items():
        parts = module.split(".", 2)
        if parts[0] in ("double_blocks", "single_blocks") and len(parts) == 3 and parts[2] in _XLABS:
            name, rows = _XLABS[parts[2]]
            place = Target(_rows(module, rows, shape[-1]) if rows and len(shape) > 1 else module)
            found[f"{parts[0]}.{parts[1]}.processor.{name}"] = place
    return found


def _flux(module: str, stack: str, number: str, inside: str, shape: Sequence[int]) -> dict[str, Target]:
    block = f"{'single_' if stack == 'single_blocks' else ''}transformer_blocks.{number}"
    if theirs := (_FLUX_DOUBLE if stack == "double_blocks" else _FLUX_SINGLE).get(inside):
        return {f"{block}.{theirs}": Target(module)}
    if inside in ("img_attn.qkv", "txt_attn.qkv") and len(shape) > 1:
        form = "attn.to_{}" if inside[0] == "i" else "attn.add_{}_proj"
        return {f"{block}.{form.format(x)}": Target(_rows(module, rows, shape[0] // 3)) for x, rows in _QKV.items()}
    if inside == "linear1" and len(shape) > 1:
        width = shape[-1]
        found = {f"{block}.attn.to_{x}": Target(_rows(module, rows, width)) for x, rows in _QKV.items()}
        return found | {f"{block}.proj_mlp": Target(Slice(module, (0, 3 * width, shape[0] - 3 * width)))}
    return {}


def _sd3(module: str, number: str, inside: str, shape: Sequence[int], is_last: bool) -> dict[str, Target]:
    block = f"transformer_blocks.{number}"
    if theirs := _SD3_BLOCK.get(inside):
        return {f"{block}.{theirs}": Target(module, swapped=is_last and theirs == "norm1_context.linear")}
    forms = {
        "x_block.attn.qkv": "attn.to_{}",
        "context_block.attn.qkv": "attn.add_{}_proj",
        "x_block.attn2.qkv": "attn2.to_{}",
    }
    if inside not in forms or len(shape) < 2:
        return {}
    return {
        f"{block}.{forms[inside].format(x)}": Target(_rows(module, rows, shape[0] // 3)) for x, rows in _QKV.items()
    }


def _rows(module: str, rows: tuple[int, int], width: int) -> Slice:
    return Slice(module, (0, rows[0] * width, rows[1] * width))
