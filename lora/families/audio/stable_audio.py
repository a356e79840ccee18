"""Stable Audio. Sources: Stability's stable-audio-tools dit.py, diffusers' StableAudioDiTModel and its converter."""

from ..family import Family, Stack, parts

_EMBEDDERS = (
    ("to_timestep_embed", "timestep_proj"),
    ("to_global_embed", "global_proj"),
    ("to_cond_embed", "cross_attention_proj"),
)
STABLE_AUDIO = Family(
    "Stable Audio",
    has=("to_timestep_embed.0", "transformer.layers.0.self_attn.to_qkv"),
    stacks=(
        Stack(
            "transformer.layers",
            "transformer_blocks",
            "block",
            layers={
                "self_attn.to_out": "attn1.to_out.0",
                "cross_attn.to_q": "attn2.to_q",
                "cross_attn.to_out": "attn2.to_out.0",
                "ff.ff.0.proj": "ff.net.0.proj",
                "ff.ff.2": "ff.net.2",
            },
            splits={
                "self_attn.to_qkv": parts("attn1.to_{}"),
                "cross_attn.to_kv": parts("attn2.to_{}", names=("k", "v")),
            },
        ),
        Stack(
            layers={
                **{f"{own}.{n}": f"{theirs}.{n}" for own, theirs in _EMBEDDERS for n in (0, 2)},
                "transformer.project_in": "proj_in",
                "transformer.project_out": "proj_out",
                "preprocess_conv": "preprocess_conv",
                "postprocess_conv": "postprocess_conv",
                "timestep_features": "time_proj",
            }
        ),
    ),
)
