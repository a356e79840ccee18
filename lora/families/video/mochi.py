"""Mochi. Sources: genmo's asymm_models_joint.py, diffusers' MochiTransformer3DModel."""

from ..family import Family, Stack, parts

MOCHI = Family(
    "Mochi",
    has=("blocks.0.attn.qkv_x", "t5_yproj"),
    depth={"blocks": 48},
    swapped=frozenset({"norm_out.linear"}),
    gated=frozenset({"transformer_blocks.{}.ff.net.0.proj", "transformer_blocks.{}.ff_context.net.0.proj"}),
    stacks=(
        Stack(
            "blocks",
            "transformer_blocks",
            "block",
            layers={
                "mod_x": "norm1.linear",
                "mod_y": ("norm1_context.linear", "norm1_context.linear_1"),
                "attn.proj_x": "attn1.to_out.0",
                "attn.proj_y": "attn1.to_add_out",
                "mlp_x.w1": "ff.net.0.proj",
                "mlp_y.w1": "ff_context.net.0.proj",
                "mlp_x.w2": "ff.net.2",
                "mlp_y.w2": "ff_context.net.2",
            },
            splits={"attn.qkv_x": parts("attn1.to_{}"), "attn.qkv_y": parts("attn1.add_{}_proj")},
        ),
        Stack(
            layers={
                "x_embedder.proj": "patch_embed.proj",
                "t_embedder.mlp.0": "time_embed.timestep_embedder.linear_1",
                "t_embedder.mlp.2": "time_embed.timestep_embedder.linear_2",
                **{f"t5_y_embedder.to_{x}": f"time_embed.pooler.to_{x}" for x in ("kv", "q", "out")},
                "t5_yproj": "time_embed.caption_proj",
                "final_layer.linear": "proj_out",
                "final_layer.mod": "norm_out.linear",
            }
        ),
    ),
)
