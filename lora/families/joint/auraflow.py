"""AuraFlow and Pony v7. Sources: cloneofsimo's minRF mmdit.py, diffusers' AuraFlowTransformer2DModel."""

from ..family import Family, Stack

AURAFLOW = Family(
    "AuraFlow",
    has=("double_layers.0.attn.w2q",),
    depth={"double_layers": 4, "single_layers": 32},
    swapped=frozenset({"norm_out.linear"}),
    stacks=(
        Stack(
            "double_layers",
            "joint_transformer_blocks",
            "double",
            layers={
                **{f"attn.w2{x}": f"attn.to_{x}" for x in "qkv"},
                "attn.w2o": "attn.to_out.0",
                **{f"attn.w1{x}": f"attn.add_{x}_proj" for x in "qkv"},
                "attn.w1o": "attn.to_add_out",
                "mlpX.c_fc1": "ff.linear_1",
                "mlpX.c_fc2": "ff.linear_2",
                "mlpX.c_proj": "ff.out_projection",
                "mlpC.c_fc1": "ff_context.linear_1",
                "mlpC.c_fc2": "ff_context.linear_2",
                "mlpC.c_proj": "ff_context.out_projection",
                "modX.1": "norm1.linear",
                "modC.1": "norm1_context.linear",
            },
        ),
        Stack(
            "single_layers",
            "single_transformer_blocks",
            "single",
            layers={
                **{f"attn.w1{x}": f"attn.to_{x}" for x in "qkv"},
                "attn.w1o": "attn.to_out.0",
                "mlp.c_fc1": "ff.linear_1",
                "mlp.c_fc2": "ff.linear_2",
                "mlp.c_proj": "ff.out_projection",
                "modCX.1": "norm1.linear",
            },
        ),
        Stack(
            layers={
                "t_embedder.mlp.0": "time_step_proj.linear_1",
                "t_embedder.mlp.2": "time_step_proj.linear_2",
                "cond_seq_linear": "context_embedder",
                "init_x_linear": "pos_embed.proj",
                "final_linear": "proj_out",
                "modF.1": "norm_out.linear",
                "positional_encoding": "pos_embed.pos_embed",
                "register_tokens": "register_tokens",
            }
        ),
    ),
)
