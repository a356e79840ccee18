"""MiniMax H3. Source: diffusers' MiniMaxH3Transformer3DModel and its converter of checkpoints."""

from ..family import Family, Stack, parts, same

_BLOCK = {
    "attn.out_proj": "attn.to_out.0",
    "attn.q_norm": "attn.norm_q",
    "attn.k_norm": "attn.norm_k",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_SPLITS = {"attn.qkv_proj": parts("attn.to_{}")}
MINIMAX_H3 = Family(
    "MiniMax H3",
    has=("video_patch_proj", "token_refiner.blocks.0.attn.qkv_proj"),
    gated=frozenset({"transformer_blocks.{}.ff.net.0.proj", "token_refiner.refiner_blocks.{}.ff.net.0.proj"}),
    stacks=(
        Stack(
            "blocks",
            "transformer_blocks",
            "block",
            layers={**_BLOCK, **same("adaln_proj.linear")},
            splits=_SPLITS,
        ),
        Stack("token_refiner.blocks", "token_refiner.refiner_blocks", "refiner", layers=_BLOCK, splits=_SPLITS),
        Stack(
            layers={
                "video_patch_proj": "proj_in",
                "audio_patch_proj": "audio_proj_in",
                "condition_proj": "context_embedder",
                "time_embedder.proj_in": "time_embedder.linear_1",
                "time_embedder.proj_out": "time_embedder.linear_2",
                "final_layer.adaln_proj.linear": "norm_out.linear",
                "final_layer.video_out": "proj_out",
                "final_layer.audio_out": "audio_proj_out",
            }
        ),
    ),
)
