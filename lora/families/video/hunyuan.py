"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage. Sources: Tencent's models.py and the three classes of diffusers."""

from ..family import Family, Stack, parts
from ..joint.flux import DOUBLE, DOUBLE_SPLITS, MLP, MODULATION, OTHERS, SINGLE, embedders

_BLOCKS = (
    Stack(
        "double_blocks", "transformer_blocks", "double", layers={**MODULATION, **DOUBLE, **MLP}, splits=DOUBLE_SPLITS
    ),
    Stack(
        "txt_in.individual_token_refiner.blocks",
        "context_embedder.token_refiner.refiner_blocks",
        "refiner",
        layers={
            "self_attn.proj": "attn.to_out.0",
            "mlp.0": "ff.net.0.proj",
            "mlp.2": "ff.net.2",
            "adaLN_modulation.1": "norm_out.linear",
            "norm1": "norm1",
            "norm2": "norm2",
        },
        splits={"self_attn.qkv": parts("attn.to_{}")},
    ),
    Stack(
        "txt_in.individual_token_refiner.blocks",
        "txt_in.individual_token_refiner.blocks",
        tool="",
        layers={"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"},
        splits={"self_attn.qkv": parts("self_attn.{}")},
    ),
    *OTHERS,
)
_OUTSIDE = {
    "img_in.proj": "x_embedder.proj",
    "txt_in.input_embedder": "context_embedder.proj_in",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **embedders(
        (
            ("txt_in.t_embedder", "context_embedder.time_text_embed.timestep_embedder"),
            ("txt_in.c_embedder", "context_embedder.time_text_embed.text_embedder"),
        )
    ),
}
_SWAPPED = frozenset({"norm_out.linear"})
_MARK = "txt_in.individual_token_refiner.blocks.0.self_attn.qkv"

HUNYUAN_VIDEO = Family(
    "HunyuanVideo",
    has=(_MARK, "vector_in.in_layer"),
    depth={"double_blocks": 20, "single_blocks": 40},
    swapped=_SWAPPED,
    stacks=(
        *_BLOCKS,
        SINGLE,
        Stack(
            layers={
                **_OUTSIDE,
                **embedders(
                    (
                        ("time_in", "time_text_embed.timestep_embedder"),
                        ("vector_in", "time_text_embed.text_embedder"),
                        ("guidance_in", "time_text_embed.guidance_embedder"),
                    )
                ),
            }
        ),
    ),
)
HUNYUAN_VIDEO_15 = Family(
    "HunyuanVideo 1.5",
    has=(_MARK, "byt5_in.fc1"),
    depth={"double_blocks": 54},
    lacks=("vector_in.in_layer", "single_blocks.0.linear1"),
    swapped=_SWAPPED,
    stacks=(
        *_BLOCKS,
        Stack(
            layers={
                **_OUTSIDE,
                **embedders((("time_in", "time_embed.timestep_embedder"),)),
                **{f"byt5_in.fc{n}": f"context_embedder_2.linear_{n}" for n in (1, 2, 3)},
                "byt5_in.layernorm": "context_embedder_2.norm",
                "vision_in.proj.0": "image_embedder.norm_in",
                "vision_in.proj.1": "image_embedder.linear_1",
                "vision_in.proj.3": "image_embedder.linear_2",
                "vision_in.proj.4": "image_embedder.norm_out",
                "cond_type_embedding": "cond_type_embed",
            }
        ),
    ),
)
HUNYUAN_IMAGE = Family(
    "HunyuanImage",
    has=(_MARK, "single_blocks.0.linear1"),
    depth={"double_blocks": 20, "single_blocks": 40},
    lacks=("vector_in.in_layer",),
    swapped=_SWAPPED,
    stacks=(
        *_BLOCKS,
        SINGLE,
        Stack(
            layers={
                **_OUTSIDE,
                **embedders(
                    (
                        ("time_in", "time_guidance_embed.timestep_embedder"),
                        ("time_r_in", "time_guidance_embed.timestep_embedder_r"),
                        ("guidance_in", "time_guidance_embed.guidance_embedder"),
                    )
                ),
                **{f"byt5_in.fc{n}": f"context_embedder_2.linear_{n}" for n in (1, 2, 3)},
                "byt5_in.layernorm": "context_embedder_2.norm",
            }
        ),
    ),
)
