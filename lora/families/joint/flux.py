"""Flux.1, Chroma and Hunyuan3D 2, which has Flux' blocks.

Sources: black-forest-labs/flux model.py, diffusers' FluxTransformer2DModel, XLabs' x-flux, Tencent's hunyuan3ddit.py.
"""

from dataclasses import replace

from ..family import OTHER, XLABS, Family, Stack, parts, same

DOUBLE = {
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_attn.qkv": "attn.to_qkv",
    "txt_attn.qkv": "attn.to_added_qkv",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
}
MLP = {
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
MODULATION = {"img_mod.lin": "norm1.linear", "txt_mod.lin": "norm1_context.linear"}
DOUBLE_SPLITS = {"img_attn.qkv": parts("attn.to_{}"), "txt_attn.qkv": parts("attn.add_{}_proj")}
SINGLE_NORMS = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
SINGLE = Stack(
    "single_blocks",
    "single_transformer_blocks",
    "single",
    layers={"linear2": "proj_out", **SINGLE_NORMS, "modulation.lin": "norm.linear"},
    splits={"linear1": parts("attn.to_{}", width=1, rest="proj_mlp")},
)
TIMES = (
    ("time_in", "time_text_embed.timestep_embedder"),
    ("vector_in", "time_text_embed.text_embedder"),
    ("guidance_in", "time_text_embed.guidance_embedder"),
)


def embedders(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The two layers of each embedder: BFL's in_layer and out_layer are diffusers' linear_1 and linear_2."""
    return {f"{own}.{a}_layer": f"{theirs}.linear_{n}" for own, theirs in pairs for a, n in (("in", 1), ("out", 2))}


XLABS_STACKS = (
    Stack(
        "double_blocks",
        "double_blocks",
        tool=XLABS,
        layers={
            "img_attn.qkv": "processor.qkv_lora1",
            "txt_attn.qkv": "processor.qkv_lora2",
            "img_attn.proj": "processor.proj_lora1",
            "txt_attn.proj": "processor.proj_lora2",
        },
    ),
    Stack(
        "single_blocks",
        "single_blocks",
        tool=XLABS,
        layers={"linear2": "processor.proj_lora"},
        splits={"linear1": (("processor.qkv_lora", 3), ("", 0))},
    ),
)
OTHERS = (  # what musubi-tuner, diffusion-pipe and the host's own files call BFL's layers
    Stack(
        "double_blocks",
        "double_blocks",
        tool=OTHER,
        layers={
            "img_mod.lin": "img_mod.linear",
            "txt_mod.lin": "txt_mod.linear",
            "img_mlp.0": "img_mlp.fc1",
            "img_mlp.2": "img_mlp.fc2",
            "txt_mlp.0": "txt_mlp.fc1",
            "txt_mlp.2": "txt_mlp.fc2",
        },
        splits={"img_attn.qkv": parts("img_attn.{}"), "txt_attn.qkv": parts("txt_attn.{}")},
    ),
    Stack(
        "single_blocks",
        "single_blocks",
        tool=OTHER,
        layers={"modulation.lin": "modulation.linear"},
        splits={"linear1": (("linear1_qkv", 3), ("linear1_mlp", 0))},
    ),
    Stack(
        "single_blocks",
        "single_blocks",
        tool=OTHER,
        splits={"linear1": (("linear1_q", 1), ("linear1_k", 1), ("linear1_v", 1), ("", 0))},
    ),
)
FLUX = Family(
    "Flux",
    has=("double_blocks.0.img_attn.qkv",),
    lacks=(
        *("double_stream_modulation_img.lin", "distilled_guidance_layer.in_proj", "txt_in.input_embedder"),
        "latent_in",
    ),
    depth={"double_blocks": 19, "single_blocks": 38},
    swapped=frozenset({"norm_out.linear"}),
    stacks=(
        Stack(
            "double_blocks",
            "transformer_blocks",
            "double",
            layers={**MODULATION, **DOUBLE, **MLP},
            splits=DOUBLE_SPLITS,
        ),
        SINGLE,
        Stack(
            layers={
                "img_in": "x_embedder",
                "txt_in": "context_embedder",
                "final_layer.linear": "proj_out",
                "final_layer.adaLN_modulation.1": "norm_out.linear",
                **embedders(TIMES),
            }
        ),
        Stack(tool=OTHER, layers=embedders((("time_in", "time_embed.timestep_embedder"),))),  # LongCat-Image
        *XLABS_STACKS,
        *OTHERS,
    ),
)
CHROMA = Family(
    "Chroma",
    others=(  # Chroma Radiance
        *("img_in_patch", "nerf_blocks.#.param_generator", "nerf_final_layer_conv.conv"),
        "nerf_image_embedder.embedder.0",
    ),
    has=("double_blocks.0.img_attn.qkv", "distilled_guidance_layer.in_proj"),
    depth={"double_blocks": 19, "single_blocks": 38},
    stacks=(
        Stack("double_blocks", "transformer_blocks", "double", layers={**DOUBLE, **MLP}, splits=DOUBLE_SPLITS),
        replace(SINGLE, layers={"linear2": "proj_out", **SINGLE_NORMS}),
        Stack(
            "distilled_guidance_layer.layers",
            "distilled_guidance_layer.layers",
            layers={"in_layer": "linear_1", "out_layer": "linear_2"},
        ),
        Stack(
            layers={
                "img_in": "x_embedder",
                "txt_in": "context_embedder",
                "final_layer.linear": "proj_out",
                **same("distilled_guidance_layer.in_proj", "distilled_guidance_layer.out_proj"),
            }
        ),
        *XLABS_STACKS,
        *OTHERS,
    ),
)
HUNYUAN_3D = Family(
    "Hunyuan3D 2",
    others=("final_layer.adaLN_modulation.1",),
    has=("double_blocks.0.img_attn.qkv", "latent_in"),
    stacks=(
        Stack(
            "double_blocks",
            "transformer_blocks",
            "double",
            layers={**MODULATION, **DOUBLE, **MLP},
            splits=DOUBLE_SPLITS,
        ),
        SINGLE,
        Stack(layers=same("latent_in", "cond_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear")),
        *OTHERS,
    ),
)
