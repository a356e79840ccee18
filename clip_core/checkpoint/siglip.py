"""SigLIP's tensor names as tables, and its sizes from shapes: Hugging Face's layout, and open_clip's with timm's image
encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..config import TextConfig
from ..siglip_config import SIGLIP_ACTIVATION, SigLIPConfig, SigLIPVisionConfig, siglip_heads
from .layouts import LayoutError, Origin, Origins, Root, Shapes, block_origins

_MARKS = (("hf", "vision_model.head.probe"), ("openai", "visual.trunk.attn_pool.latent"))
_THIRDS = ("q_proj", "k_proj", "v_proj")
_POOL = "vision_model.head."
_FLAT = {  # open_clip's and timm's names: ours
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text.ln_final.weight": "text_model.final_layer_norm.weight",
    "text.ln_final.bias": "text_model.final_layer_norm.bias",
    "text.text_projection.weight": "text_model.head.weight",
    "text.text_projection.bias": "text_model.head.bias",
    "visual.trunk.patch_embed.proj.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.trunk.patch_embed.proj.bias": "vision_model.embeddings.patch_embedding.bias",
    "visual.trunk.norm.weight": "vision_model.post_layernorm.weight",
    "visual.trunk.norm.bias": "vision_model.post_layernorm.bias",
    "visual.trunk.attn_pool.latent": f"{_POOL}probe",
}
_POOL_PARTS = {  # timm's: ours
    "q": "attention.q_proj",
    "proj": "attention.out_proj",
    "norm": "layernorm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_TRUNK_PARTS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_SIDES = {(14, 27): 384}  # px of pictures that patches do not fill: So400m's 27 patches of 14 px
_VOCABULARIES = {32_000: 1, 256_000: 2}  # tokens: version


def siglip_root(shapes: Shapes) -> Root | None:
    """Where a SigLIP with both encoders is among these names; None if there is none.

    Raises:
        LayoutError: it is a SigLIP of a kind that is not read here.
    """
    for layout, mark in _MARKS:
        for name in sorted(shapes):
            if name.endswith(mark):
                root = Root(layout, name.removesuffix(mark))
                _refuse_others(shapes, root)
                return root if _text_mark(root) in shapes else None
    return None


def siglip_origins(shapes: Shapes, root: Root) -> Origins:
    """Our names of a SigLIP, and where each comes from."""
    read = _read_hugging_face if root.layout == "hf" else _read_open_clip
    table: Origins = {}
    for name in shapes:
        own = name.removeprefix(root.prefix)
        if not name.startswith(root.prefix):
            continue
        found = [(own, Origin(name))] if own in ("logit_scale", "logit_bias") else read(own, name)
        for target, origin in found:
            table.setdefault(target, []).append(origin.scaled_by(shapes))
    return table


def infer_siglip(
    known: Mapping[str, tuple[int, ...]], activation: str | None = None, heads: int | None = None
) -> tuple[SigLIPConfig, tuple[str, ...]]:
    """The config of a SigLIP from the shapes of its tensors by our names, and notes on what is assumed.

    Raises:
        LayoutError: a tensor is missing that a size is read from, or the patches do not make a square.
    """
    act = activation or SIGLIP_ACTIVATION
    vocab, width = _shape(known, "text_model.embeddings.token_embedding.weight", 2)
    context = _shape(known, "text_model.embeddings.position_embedding.weight", 2)[0]
    text_mlp = _shape(known, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0]
    embed = _shape(known, "text_model.head.weight", 2)[0]
    text = TextConfig(width, _layers(known, "text_model"), siglip_heads(width), text_mlp, embed, vocab, context, act)
    wide, _, patch_px, _ = _shape(known, "vision_model.embeddings.patch_embedding.weight", 4)
    patches = _shape(known, "vision_model.embeddings.position_embedding.weight", 2)[0]
    mlp = _shape(known, "vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0]
    grid = math.isqrt(patches)
    if not patches or grid**2 != patches:
        raise LayoutError(f"its image encoder has {patches} patches, which make no square")
    side = _SIDES.get((patch_px, grid), grid * patch_px)
    layers = _layers(known, "vision_model")
    vision = SigLIPVisionConfig(wide, layers, heads or siglip_heads(wide), mlp, patch_px, side, wide, act)
    if embed != wide:
        raise LayoutError(f"texts are embedded in {embed} dimensions and pictures in {wide}: they are no pair")
    notes: tuple[str, ...] = (f"pictures of {side} px are assumed",) if side != grid * patch_px else ()
    version = _VOCABULARIES.get(vocab)
    if version is None:
        version = 2 if vocab > 250_000 else 1
        notes += (f"its vocabulary of {vocab} tokens is not SigLIP's (32000) or SigLIP 2's (256000)",)
    return SigLIPConfig(text, vision, version=version), notes


def _read_hugging_face(own: str, name: str) -> list[tuple[str, Origin]]:
    fused = re.fullmatch(rf"{re.escape(_POOL)}attention\.in_proj_(weight|bias)", own)
    if fused:
        return _parts_of(name, f"{_POOL}attention.", _THIRDS, fused[1])
    whole = re.fullmatch(r"(text|vision)_model\.(?!.*position_ids).+\.(weight|bias)|vision_model\.head\.probe", own)
    return [(own, Origin(name))] if whole else []


def _read_open_clip(own: str, name: str) -> list[tuple[str, Origin]]:
    if own == "visual.trunk.pos_embed":  # [1, P, C]
        return [("vision_model.embeddings.position_embedding.weight", Origin(name, squeezed=True))]
    if own in _FLAT:
        return [(_FLAT[own], Origin(name))]
    if own.startswith("text."):
        return block_origins(name, own.removeprefix("text."), "text")
    kind = own.rpartition(".")[2]
    pool = re.fullmatch(r"visual\.trunk\.attn_pool\.(.+)\.(weight|bias)", own)
    if pool and pool[1] == "kv":
        return _parts_of(name, f"{_POOL}attention.", _THIRDS[1:], kind)
    if pool:
        return [(f"{_POOL}{_POOL_PARTS[pool[1]]}.{kind}", Origin(name))] if pool[1] in _POOL_PARTS else []
    block = re.fullmatch(r"visual\.trunk\.blocks\.(\d+)\.(.+)\.(weight|bias)", own)
    if block is None:
        return []
    before = f"vision_model.encoder.layers.{block[1]}."
    if block[2] == "attn.qkv":
        return _parts_of(name, f"{before}self_attn.", _THIRDS, kind)
    return [(f"{before}{_TRUNK_PARTS[block[2]]}.{kind}", Origin(name))] if block[2] in _TRUNK_PARTS else []


def _parts_of(name: str, before: str, heads: tuple[str, ...], kind: str) -> list[tuple[str, Origin]]:
    """A tensor that holds the rows of several layers, one below the other."""
    return [(f"{before}{head}.{kind}", Origin(name, part, of=len(heads))) for part, head in enumerate(heads)]


def _text_mark(root: Root) -> str:
    inner = "text_model.embeddings.token_embedding.weight" if root.layout == "hf" else "text.token_embedding.weight"
    return f"{root.prefix}{inner}"


def _refuse_others(shapes: Shapes, root: Root) -> None:
    patches = shapes.get(f"{root.prefix}vision_model.embeddings.patch_embedding.weight")
    if patches is not None and len(patches) == 2:
        raise LayoutError(
            "it is a SigLIP 2 of the kind NaFlex, which takes pictures of any shape and is not read here; take one "
            "with a fixed size (google/siglip2-base-patch16-256, for example)"
        )
    if root.layout == "openai" and any(name.startswith(f"{root.prefix}text.transformer.embeddings") for name in shapes):
        raise LayoutError(
            "it is a SigLIP with a text encoder of Hugging Face's inside open_clip, which is not read here"
        )


def _shape(known: Mapping[str, tuple[int, ...]], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in known:
        raise LayoutError(f"it is incomplete: {name} is missing under every name that is known here")
    if len(known[name]) != dimensions:
        raise LayoutError(f"{name} has the shape {list(known[name])}; {dimensions} dimensions were expected")
    return known[name]


def _layers(known: Mapping[str, tuple[int, ...]], half: str) -> int:
    matches = (re.match(rf"{half}\.encoder\.layers\.(\d{{1,9}})\.", name) for name in known)
    count = 1 + max((int(match[1]) for match in matches if match), default=-1)
    if count > len(known):  # before a network of that size is built
        raise LayoutError(f"it is incomplete: it has a layer number {count - 1}, and {len(known)} tensors in all")
    return count
