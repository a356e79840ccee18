"""PixArt alpha and sigma. Sources: PixArt-sigma's PixArtMS, diffusers' PixArtTransformer2DModel."""

from ..family import Family, Stack, parts

PIXART = Family(
    "PixArt",
    has=("blocks.0.cross_attn.kv_linear", "t_block.1"),
    depth={"blocks": 28},
    stacks=(
        Stack(
            "blocks",
            "transformer_blocks",
            "block",
            layers={
                "attn.proj": "attn1.to_out.0",
                "attn.qkv": "attn1.to_qkv",
                "mlp.fc1": "ff.net.0.proj",
                "mlp.fc2": "ff.net.2",
                "cross_attn.q_linear": "attn2.to_q",
                "cross_attn.kv_linear": "attn2.to_kv",
                "cross_attn.proj": "attn2.to_out.0",
                "scale_shift_table": "scale_shift_table",
            },
            splits={
                "attn.qkv": parts("attn1.to_{}"),
                "cross_attn.kv_linear": parts("attn2.to_{}", names=("k", "v")),
            },
        ),
        Stack(
            layers={
                **{
                    f"{own}.mlp.{i}": f"adaln_single.emb.{theirs}.linear_{n}"
                    for own, theirs in (
                        ("t_embedder", "timestep_embedder"),
                        ("csize_embedder", "resolution_embedder"),
                        ("ar_embedder", "aspect_ratio_embedder"),
                    )
                    for i, n in ((0, 1), (2, 2))
                },
                "x_embedder.proj": "pos_embed.proj",
                "y_embedder.y_embedding": "caption_projection.y_embedding",
                "y_embedder.y_proj.fc1": "caption_projection.linear_1",
                "y_embedder.y_proj.fc2": "caption_projection.linear_2",
                "t_block.1": "adaln_single.linear",
                "final_layer.linear": "proj_out",
                "final_layer.scale_shift_table": "scale_shift_table",
            }
        ),
    ),
)
