"""Wan 2.1 and 2.2. Sources: Wan-Video's model.py, diffusers' WanTransformer3DModel."""

from ..family import Family, Stack

WAN = Family(
    "Wan",
    has=("blocks.0.self_attn.q", "blocks.0.cross_attn.o", "time_projection.1"),
    depth={"blocks": 40},
    stacks=(
        Stack(
            "blocks",
            "blocks",
            "block",
            layers={
                **{
                    f"{own}.{x}": f"{theirs}.to_{x}"
                    for own, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
                    for x in "qkv"
                },
                "self_attn.o": "attn1.to_out.0",
                "cross_attn.o": "attn2.to_out.0",
                "self_attn.norm_q": "attn1.norm_q",
                "self_attn.norm_k": "attn1.norm_k",
                "cross_attn.norm_q": "attn2.norm_q",
                "cross_attn.norm_k": "attn2.norm_k",
                "cross_attn.k_img": "attn2.add_k_proj",
                "cross_attn.v_img": "attn2.add_v_proj",
                "cross_attn.norm_k_img": "attn2.norm_added_k",
                "ffn.0": "ffn.net.0.proj",
                "ffn.2": "ffn.net.2",
                "modulation": "scale_shift_table",
                "norm3": "norm2",
            },
        ),
        Stack(
            layers={
                "patch_embedding": "patch_embedding",
                "time_embedding.0": "condition_embedder.time_embedder.linear_1",
                "time_embedding.2": "condition_embedder.time_embedder.linear_2",
                "time_projection.1": "condition_embedder.time_proj",
                "text_embedding.0": "condition_embedder.text_embedder.linear_1",
                "text_embedding.2": "condition_embedder.text_embedder.linear_2",
                "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
                "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
                "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
                "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
                "head.head": "proj_out",
                "head.modulation": "scale_shift_table",
            }
        ),
    ),
)
