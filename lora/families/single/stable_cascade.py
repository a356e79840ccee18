"""Stable Cascade's stages C and B, which trainers call the prior and the decoder. Source: Stability's stage_c.py."""

from ..family import Family

_BLOCK = (
    *("depthwise", "channelwise.0", "channelwise.4", "mapper", "mapper_sca", "mapper_crp", "kv_mapper.1"),
    *(f"attention.attn.{x}" for x in ("to_q", "to_k", "to_v", "out_proj")),
)
_BLOCKS = (
    *(f"{way}_blocks.#.#.{layer}" for way in ("down", "up") for layer in _BLOCK),
    *(f"{way}_blocks.#.#.1.{layer}" for way in ("down", "up") for layer in ("mapper", "kv_mapper")),
    *("embedding.1", "clf.1", "down_downscalers.#.1", "up_upscalers.#.1"),
    *("down_downscalers.#.1.blocks.0", "up_upscalers.#.1.blocks.1"),
)
STABLE_CASCADE_C = Family(
    "Stable Cascade C",
    has=("clip_txt_pooled_mapper", "clip_img_mapper"),
    same=True,
    stacks=(),
    others=(*_BLOCKS, "clip_txt_mapper", "clip_txt_pooled_mapper", "clip_img_mapper"),
)
STABLE_CASCADE_B = Family(
    "Stable Cascade B",
    has=("effnet_mapper.0", "pixels_mapper.0"),
    same=True,
    stacks=(),
    others=(*_BLOCKS, "clip_mapper", *(f"{name}_mapper.{n}" for name in ("effnet", "pixels") for n in (0, 2))),
)
