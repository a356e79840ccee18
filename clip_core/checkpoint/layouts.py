"""CLIP's tensor names as tables: which encoders a set of names holds, and which tensor of the file each of ours is.

Two ways of naming are read, under any prefix:
- "hf": Hugging Face's, which are ours, with or without `text_model.` or `vision_model.` in front;
- "openai": OpenAI's and open_clip's flat names (`transformer.resblocks.0.attn.in_proj_weight`).

Hugging Face has no ResNets; their names of ours are OpenAI's in a frame of Hugging Face's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Shapes = Mapping[str, Sequence[int]]


class LayoutError(ValueError):
    """The tensors are not those of a CLIP that is read here. One sentence or two for the person at the screen."""


_BLOCK = {  # OpenAI's: ours
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_VISION = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}
# A bare name holds the matrix [in, out], one with `.weight` a Linear's [out, in]. Shapes do not tell: most are square.
_BARE_PROJECTIONS = {"text_projection": "text_projection.weight", "proj": "visual_projection.weight"}
_LINEAR_PROJECTIONS = {
    "text_projection.weight": "text_projection.weight",
    "text_projection.weight.weight": "text_projection.weight",  # Playground 2, converted by kohya's scripts
    "visual_projection.weight": "visual_projection.weight",
}
_OUR_BLOCK = r"encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|layer_norm[12]|mlp\.fc[12])\.(weight|bias)"
_OURS = {
    "text": rf"embeddings\.\w+\.weight|{_OUR_BLOCK}|final_layer_norm\.(weight|bias)",
    "vision": rf"embeddings\.(class_embedding|\w+\.weight)|{_OUR_BLOCK}|(pre_|post_)lay\w+\.(weight|bias)",
}
_NORM = r"(weight|bias|running_mean|running_var)"
_RESNET = (
    rf"(layer[1-4]\.\d+\.)?(conv[123]\.weight|bn[123]\.{_NORM})"
    rf"|layer[1-4]\.\d+\.downsample\.(0\.weight|1\.{_NORM})"
    r"|attnpool\.(positional_embedding|[kqv]_proj\.(weight|bias))"
)
_RESNET_PROJECTIONS = {"attnpool.c_proj": "visual_projection", "visual_projection": "visual_projection"}
_RESNET_ANCHOR = "attnpool.positional_embedding"
_ANCHOR = {"text": "token_embedding.weight", "vision": "class_embedding"}  # each encoder has one
_THIRDS = ("q_proj", "k_proj", "v_proj")  # the order in which in_proj holds them
_LEFTOVERS = {
    "position_ids",
    "attn_mask",
    "num_batches_tracked",
    "input_resolution",
    "context_length",
    "vocab_size",
    "logit_scale",
    "weight_format",
}


@dataclass(frozen=True)
class Origin:
    """Where one of our tensors comes from: a tensor of the file, whole, one part of its rows (a third, or one `of`
    another number), transposed, or without its first dimension of 1 (`squeezed`).

    `scale` names the largest absolute values of its rows where bitsandbytes saved them as 8-bit numbers: a row is
    numbers / 127 times its value (bitsandbytes' `dequantize_rowwise`, and LLM.int8(), arXiv 2208.07339, 2.1).
    """

    name: str
    third: int | None = None
    transposed: bool = False
    scale: str | None = None
    of: int = 3
    squeezed: bool = False

    def scaled_by(self, names: Collection[str]) -> Origin:
        """This origin, with the scales that bitsandbytes put beside it, if they are among the names."""
        scale = f"{self.name.removesuffix('weight')}SCB"
        return replace(self, scale=scale) if self.name.endswith(".weight") and scale in names else self

    def shape(self, shapes: Shapes) -> tuple[int, ...]:
        shape = tuple(shapes[self.name])
        if self.squeezed and shape[:1] == (1,):
            shape = shape[1:]
        if self.third is not None and shape:
            shape = (shape[0] // self.of, *shape[1:])
        return shape[::-1] if self.transposed else shape

    def take(self, tensors: Mapping[str, Tensor]) -> Tensor:
        tensor = tensors[self.name]
        if self.scale is not None:
            tensor = _dequantised(tensor, tensors[self.scale], self)
        elif not tensor.is_floating_point():
            raise LayoutError(
                f"{self.name} holds whole numbers ({str(tensor.dtype).removeprefix('torch.')}) without the scales of "
                "its rows: its weights are quantised in a way that is not read here; use an fp16 file"
            )
        if self.third is not None:
            tensor = tensor.chunk(self.of)[self.third]
        return tensor.T.contiguous() if self.transposed else tensor.contiguous()


def _dequantised(numbers: Tensor, rows: Tensor, origin: Origin) -> Tensor:
    """The weights that 8-bit numbers and the largest absolute values of their rows stand for. [R, C], [R] -> [R, C]"""
    if numbers.dtype != torch.int8 or rows.numel() != len(numbers):
        raise LayoutError(
            f"{origin.name} should be 8-bit whole numbers with one scale for each of its {len(numbers)} rows, and is "
            f"{str(numbers.dtype).removeprefix('torch.')} with {rows.numel()} scales; use an fp16 file"
        )
    scale = rows.to(numbers.device, torch.float32).reshape(-1, *[1] * (numbers.ndim - 1)) / 127
    return numbers.to(torch.float32) * scale


Origins = dict[str, list[Origin]]  # our name: every tensor of the file that means it; more than one must be equal


@dataclass(frozen=True)
class Root:
    """Where an encoder is in a file: the way of naming, and what stands before its names."""

    layout: str  # "hf" or "openai"
    prefix: str
    resnet: bool = False


def roots(names: Collection[str], half: str) -> list[Root]:
    """Where the "text" or the "vision" encoders are among these names, in the order of their prefixes."""
    found, anchor, known = set(), _ANCHOR[half], set(names)
    for name in known:
        before = name.removesuffix(anchor)
        if before == name:
            continue
        if before.endswith("embeddings."):
            found.add(Root("hf", before.removesuffix("embeddings.").removesuffix(f"{half}_model.")))
        elif f"{before}transformer.resblocks.0.attn.in_proj_weight" in known:
            found.add(Root("openai", before))
    if half == "vision":
        places = (name.removesuffix(_RESNET_ANCHOR) for name in known if name.endswith(_RESNET_ANCHOR))
        found |= {_resnet_root(place) for place in places if f"{place}layer1.0.conv1.weight" in known}
    return sorted(found, key=lambda root: root.prefix)


def _resnet_root(prefix: str) -> Root:
    if prefix.endswith("vision_model."):
        return Root("hf", prefix.removesuffix("vision_model."), True)
    return Root("openai", prefix, True)


def base(root: Root) -> str:
    """What stands before both halves of the CLIP that an encoder belongs to."""
    return root.prefix.removesuffix("visual.").removesuffix("text.") if root.layout == "openai" else root.prefix


def belong_together(text: Root, vision: Root) -> bool:
    """Whether two encoders are the halves of one CLIP."""
    return text.layout == vision.layout and base(text) == base(vision)


def origins(names: Iterable[str], root: Root, half: str) -> Origins:
    """Our names of one encoder, and where each comes from."""
    table: Origins = {}
    known = set(names)
    for name in known:
        for target, origin in _read(name, root, half):
            table.setdefault(target, []).append(origin.scaled_by(known))
    return table


def is_leftover(name: str) -> bool:
    """Whether a tensor is one that some program saved along and nobody reads."""
    return name.rpartition(".")[2] in _LEFTOVERS


def _read(name: str, root: Root, half: str) -> list[tuple[str, Origin]]:
    projection = None if root.resnet else _projection(name, root, half)
    if projection:
        return [projection]
    if not name.startswith(root.prefix):
        return []
    own = name[len(root.prefix) :]
    if root.resnet:
        return _read_resnet(name, own.removeprefix("vision_model.") if root.layout == "hf" else own)
    if root.layout == "hf":
        own = own.removeprefix(f"{half}_model.")
        return [(f"{half}_model.{own}", Origin(name))] if re.fullmatch(_OURS[half], own) else []
    known = (_TEXT if half == "text" else _VISION).get(own)
    return [(known, Origin(name))] if known else block_origins(name, own, half)


def _read_resnet(name: str, own: str) -> list[tuple[str, Origin]]:
    part, _, kind = own.rpartition(".")
    if part in _RESNET_PROJECTIONS and kind in ("weight", "bias"):
        return [(f"{_RESNET_PROJECTIONS[part]}.{kind}", Origin(name))]
    return [(f"vision_model.{own}", Origin(name))] if re.fullmatch(_RESNET, own) else []


def block_origins(name: str, own: str, half: str) -> list[tuple[str, Origin]]:
    """What a tensor of one of OpenAI's blocks is among ours; `own` is its name without what stands before."""
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", own)
    if not match:
        return []
    number, part, kind = match.groups()
    block = f"{half}_model.encoder.layers.{number}."
    if part == "attn.in_proj":
        return [(f"{block}self_attn.{head}.{kind}", Origin(name, third)) for third, head in enumerate(_THIRDS)]
    return [(f"{block}{_BLOCK[part]}.{kind}", Origin(name))] if part in _BLOCK else []


def _projection(name: str, root: Root, half: str) -> tuple[str, Origin] | None:
    """The projection, which stands beside the encoder, or one level up where the encoder is called `transformer`."""
    wanted = "text_projection.weight" if half == "text" else "visual_projection.weight"
    for prefix in {root.prefix, root.prefix.removesuffix("transformer.")}:
        own = name.removeprefix(prefix)
        if len(own) + len(prefix) != len(name):
            continue
        if _LINEAR_PROJECTIONS.get(own) == wanted:
            return wanted, Origin(name)
        if _BARE_PROJECTIONS.get(own) == wanted:
            return wanted, Origin(name, transposed=True)
    return None
