"""CogVideoX. Sources: diffusers' CogVideoXTransformer3DModel, whose modules ComfyUI calls by shorter names."""

from ..family import Family, Stack, same

COGVIDEOX = Family(
    "CogVideoX",
    has=("blocks.0.attn_out", "blocks.0.ff_proj"),
    same=True,
    stacks=(
        Stack(
            "blocks",
            "transformer_blocks",
            "block",
            layers={
                **{x: f"attn1.to_{x}" for x in "qkv"},
                "attn_out": "attn1.to_out.0",
                "norm_q": "attn1.norm_q",
                "norm_k": "attn1.norm_k",
                "ff_proj": "ff.net.0.proj",
                "ff_out": "ff.net.2",
                **same("norm1.linear", "norm2.linear"),
            },
        ),
        Stack(
            layers={
                **{f"time_embedding_linear_{n}": f"time_embedding.linear_{n}" for n in (1, 2)},
                **{f"ofs_embedding_linear_{n}": f"ofs_embedding.linear_{n}" for n in (1, 2)},
                **same("patch_embed.proj", "patch_embed.text_proj", "norm_out.linear", "proj_out"),
            }
        ),
    ),
)
