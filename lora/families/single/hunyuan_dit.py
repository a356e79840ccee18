"""Hunyuan-DiT. Sources: Tencent's HunyuanDiT models.py, diffusers' HunyuanDiT2DModel."""

from ..family import Family, Stack, parts

HUNYUAN_DIT = Family(
    "Hunyuan-DiT",
    has=("blocks.0.attn1.Wqkv", "mlp_t5.0"),
    depth={"blocks": 40},
    swapped=frozenset({"norm_out.linear"}),
    others=("time_extra_emb.style_embedder", "style_embedder"),
    stacks=(
        Stack(
            "blocks",
            "blocks",
            "block",
            layers={
                "attn1.out_proj": "attn1.to_out.0",
                "attn1.q_norm": "attn1.norm_q",
                "attn1.k_norm": "attn1.norm_k",
                "attn2.q_proj": "attn2.to_q",
                "attn2.out_proj": "attn2.to_out.0",
                "attn2.q_norm": "attn2.norm_q",
                "attn2.k_norm": "attn2.norm_k",
                "mlp.fc1": "ff.net.0.proj",
                "mlp.fc2": "ff.net.2",
                "default_modulation.1": "norm1.linear",
                "skip_linear": "skip_linear",
            },
            splits={"attn1.Wqkv": parts("attn1.to_{}"), "attn2.kv_proj": parts("attn2.to_{}", names=("k", "v"))},
        ),
        Stack(
            layers={
                "t_embedder.mlp.0": "time_extra_emb.timestep_embedder.linear_1",
                "t_embedder.mlp.2": "time_extra_emb.timestep_embedder.linear_2",
                "extra_embedder.0": "time_extra_emb.extra_embedder.linear_1",
                "extra_embedder.2": "time_extra_emb.extra_embedder.linear_2",
                **{f"pooler.{x}_proj": f"time_extra_emb.pooler.{x}_proj" for x in "qkvc"},
                "mlp_t5.0": "text_embedder.linear_1",
                "mlp_t5.2": "text_embedder.linear_2",
                "x_embedder.proj": "pos_embed.proj",
                "final_layer.linear": "proj_out",
                "final_layer.adaLN_modulation.1": "norm_out.linear",
            }
        ),
    ),
)
