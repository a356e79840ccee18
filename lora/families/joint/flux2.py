"""Flux.2 (dev and Klein). Source: diffusers' Flux2Transformer2DModel, black-forest-labs/flux2."""

from ..family import OTHER, Family, Stack
from .flux import DOUBLE, DOUBLE_SPLITS, OTHERS, SINGLE_NORMS, embedders

FLUX2 = Family(
    "Flux.2",
    has=("double_blocks.0.img_attn.qkv", "double_stream_modulation_img.lin"),
    depth={"double_blocks": 8, "single_blocks": 48},
    swapped=frozenset({"norm_out.linear"}),
    stacks=(
        Stack(
            "double_blocks",
            "transformer_blocks",
            "double",
            layers={
                **DOUBLE,
                "img_mlp.0": ("ff.linear_in", "ff.net.0.proj"),
                "img_mlp.2": ("ff.linear_out", "ff.net.2"),
                "txt_mlp.0": ("ff_context.linear_in", "ff_context.net.0.proj"),
                "txt_mlp.2": ("ff_context.linear_out", "ff_context.net.2"),
            },
            splits=DOUBLE_SPLITS,
        ),
        Stack(
            "single_blocks",
            "single_transformer_blocks",
            "single",
            layers={
                "linear1": "attn.to_qkv_mlp_proj",
                "linear2": ("attn.to_out", "attn.to_out.0", "proj_out"),
                **SINGLE_NORMS,
            },
        ),
        Stack(
            "single_blocks",
            "single_transformer_blocks",
            tool=OTHER,
            splits={"linear1": (("attn.to_q", 1), ("attn.to_k", 1), ("attn.to_v", 1), ("proj_mlp", 0))},
        ),
        Stack(
            layers={
                "img_in": "x_embedder",
                "txt_in": "context_embedder",
                "final_layer.linear": "proj_out",
                "final_layer.adaLN_modulation.1": "norm_out.linear",
                "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
                "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
                "single_stream_modulation.lin": "single_stream_modulation.linear",
                **embedders(
                    (
                        ("time_in", "time_guidance_embed.timestep_embedder"),
                        ("guidance_in", "time_guidance_embed.guidance_embedder"),
                    )
                ),
            }
        ),
        Stack(
            tool=OTHER,
            layers=embedders(
                (
                    ("time_in", "time_text_embed.timestep_embedder"),
                    ("guidance_in", "time_text_embed.guidance_embedder"),
                )
            ),
        ),
        *OTHERS,
    ),
)
