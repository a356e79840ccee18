"""Ideogram 4. Sources: Ideogram's ideogram4 model file, diffusers' Ideogram4Transformer2DModel."""

from ..family import Family, Stack, parts, same

IDEOGRAM4 = Family(
    "Ideogram 4",
    has=("layers.0.attention.qkv", "llm_cond_proj"),
    depth={"layers": 34},
    same=True,
    stacks=(
        Stack(
            "layers",
            "layers",
            "layer",
            layers={
                "attention.qkv": "attention.to_qkv",
                "attention.o": ("attention.to_out.0", "attention.to_out"),
                **same("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaln_modulation"),
            },
            splits={"attention.qkv": parts("attention.to_{}")},
        ),
        Stack(
            layers=same(
                *("input_proj", "llm_cond_proj", "t_embedding.mlp_in", "t_embedding.mlp_out", "adaln_proj"),
                *("embed_image_indicator", "final_layer.linear", "final_layer.adaln_modulation"),
            )
        ),
    ),
)
