"""SD 3 and 3.5. Sources: Stability's sd3-ref mmdit.py, diffusers' SD3Transformer2DModel."""

from ..family import Family, Stack, parts

SD3 = Family(
    "SD 3",
    has=("joint_blocks.0.x_block.attn.qkv",),
    depth={"joint_blocks": 38},
    swapped=frozenset(
        {"norm_out.linear", "transformer_blocks.{}.norm1_context.linear"}
    ),  # the latter in the last block
    stacks=(
        Stack(
            "joint_blocks",
            "transformer_blocks",
            "joint",
            layers={
                "x_block.adaLN_modulation.1": "norm1.linear",
                "x_block.attn.proj": "attn.to_out.0",
                "x_block.attn2.proj": "attn2.to_out.0",
                "x_block.mlp.fc1": "ff.net.0.proj",
                "x_block.mlp.fc2": "ff.net.2",
                "x_block.attn.ln_q": "attn.norm_q",
                "x_block.attn.ln_k": "attn.norm_k",
                "x_block.attn2.ln_q": "attn2.norm_q",
                "x_block.attn2.ln_k": "attn2.norm_k",
                "context_block.adaLN_modulation.1": "norm1_context.linear",
                "context_block.attn.proj": "attn.to_add_out",
                "context_block.mlp.fc1": "ff_context.net.0.proj",
                "context_block.mlp.fc2": "ff_context.net.2",
                "context_block.attn.ln_q": "attn.norm_added_q",
                "context_block.attn.ln_k": "attn.norm_added_k",
            },
            splits={
                "x_block.attn.qkv": parts("attn.to_{}"),
                "x_block.attn2.qkv": parts("attn2.to_{}"),
                "context_block.attn.qkv": parts("attn.add_{}_proj"),
            },
        ),
        Stack(
            layers={
                "context_embedder": "context_embedder",
                "x_embedder.proj": "pos_embed.proj",
                "final_layer.linear": "proj_out",
                "final_layer.adaLN_modulation.1": "norm_out.linear",
                "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
                "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
                "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
                "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
            }
        ),
    ),
)
