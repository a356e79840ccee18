"""Krea 2. Source: diffusers' Krea2Transformer2DModel and its conversion script."""

from ..family import OTHER, Family, Stack

_LAYERS: dict[str, str | tuple[str, ...]] = {
    **{f"attn.w{x}": f"attn.to_{x}" for x in "qkv"},
    "attn.wo": ("attn.to_out.0", "attn.to_out"),
    "attn.gate": "attn.to_gate",
    "attn.qknorm.qnorm": "attn.norm_q",
    "attn.qknorm.knorm": "attn.norm_k",
    **{f"mlp.{x}": f"ff.{x}" for x in ("gate", "up", "down")},
    "prenorm": "norm1",
    "postnorm": "norm2",
}
_NAMES = (
    ("blocks", "transformer_blocks", "block"),
    ("txtfusion.layerwise_blocks", "text_fusion.layerwise_blocks", "layerwise"),
    ("txtfusion.refiner_blocks", "text_fusion.refiner_blocks", "refiner"),
)
KREA2 = Family(
    "Krea 2",
    has=("blocks.0.attn.wq", "txtfusion.projector"),
    stacks=(
        *(Stack(own, theirs, word, layers=_LAYERS) for own, theirs, word in _NAMES),
        *(
            Stack(own, theirs, tool=OTHER, fused={"attn.to_qkv": ("attn.wq", "attn.wk", "attn.wv")})
            for own, theirs, _ in _NAMES
        ),
        Stack(
            layers={
                "first": "img_in",
                "tmlp.0": "time_embed.linear_1",
                "tmlp.2": "time_embed.linear_2",
                "tproj.1": "time_mod_proj",
                "txtmlp.0": "txt_in.norm",
                "txtmlp.1": "txt_in.linear_1",
                "txtmlp.3": "txt_in.linear_2",
                "txtfusion.projector": "text_fusion.projector",
                "last.linear": "final_layer.linear",
                "last.norm": "final_layer.norm",
            }
        ),
    ),
)
