"""Qwen-Image, whose model has diffusers' own names. Source: diffusers' QwenImageTransformer2DModel."""

from ..family import OTHER, Family, Stack, same

QWEN_IMAGE = Family(
    "Qwen-Image",
    has=("transformer_blocks.0.img_mod.1", "transformer_blocks.0.attn.add_q_proj"),
    depth={"transformer_blocks": 60},
    same=True,
    stacks=(
        Stack(
            "transformer_blocks",
            "transformer_blocks",
            "block",
            layers=same(
                *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
                *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
                *(f"{side}_{layer}" for side in ("img", "txt") for layer in ("mod.1", "mlp.net.0.proj", "mlp.net.2")),
            ),
        ),
        Stack(
            "transformer_blocks",
            "transformer_blocks",
            tool=OTHER,
            layers={"img_mod.1": "img_mod.lin", "txt_mod.1": "txt_mod.lin"},
            fused={
                "attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
                "attn.add_qkv_proj": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
            },
        ),
        Stack(
            layers=same(
                "img_in",
                "txt_in",
                "norm_out.linear",
                "proj_out",
                "time_text_embed.timestep_embedder.linear_1",
                "time_text_embed.timestep_embedder.linear_2",
            )
        ),
    ),
)
