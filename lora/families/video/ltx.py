"""LTX-Video and LTX-2, whose models have nearly diffusers' own names. Source: diffusers' LTX classes."""

from ..family import Family, Stack, same

_QKVO = ("to_q", "to_k", "to_v", "to_out.0")
_BLOCK = same(*(f"{a}.{x}" for a in ("attn1", "attn2") for x in _QKVO), "ff.net.0.proj", "ff.net.2")
_NORMS = {f"{a}.{x}_norm": f"{a}.norm_{x}" for a in ("attn1", "attn2") for x in "qk"}
_SOUND = ("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
_EMBEDDERS = same(
    "adaln_single.emb.timestep_embedder.linear_1",
    "adaln_single.emb.timestep_embedder.linear_2",
    "adaln_single.linear",
    "caption_projection.linear_1",
    "caption_projection.linear_2",
)
LTXV = Family(
    "LTX-Video",
    has=("patchify_proj", "transformer_blocks.0.attn2.to_q"),
    depth={"transformer_blocks": 48},
    lacks=("audio_patchify_proj",),
    same=True,
    stacks=(
        Stack("transformer_blocks", "transformer_blocks", "block", layers={**_BLOCK, **_NORMS}),
        Stack(
            layers={
                "patchify_proj": "proj_in",
                "proj_out": "proj_out",
                **{name: name.replace("adaln_single", "time_embed") for name in _EMBEDDERS},
            }
        ),
    ),
)
LTX2 = Family(
    "LTX-2",
    others=tuple(
        f"{way}_embeddings_connector.transformer_1d_blocks.#.{layer}"
        for way in ("audio", "video")
        for layer in (*(f"attn1.{x}" for x in _QKVO), "ff.net.0.proj", "ff.net.2")
    ),
    has=("patchify_proj", "audio_patchify_proj"),
    depth={"transformer_blocks": 48},
    same=True,
    stacks=(
        Stack(
            "transformer_blocks",
            "transformer_blocks",
            "block",
            layers={
                **_BLOCK,
                **_NORMS,
                **same(*(f"{a}.{x}" for a in _SOUND for x in _QKVO), "audio_ff.net.0.proj", "audio_ff.net.2"),
                **{f"{a}.{x}_norm": f"{a}.norm_{x}" for a in _SOUND for x in "qk"},
            },
        ),
        Stack(
            layers={
                "patchify_proj": "proj_in",
                "audio_patchify_proj": "audio_proj_in",
                "adaln_single.emb.timestep_embedder.linear_1": "time_embed.emb.timestep_embedder.linear_1",
                "adaln_single.emb.timestep_embedder.linear_2": "time_embed.emb.timestep_embedder.linear_2",
                "adaln_single.linear": "time_embed.linear",
                "audio_adaln_single.emb.timestep_embedder.linear_1": "audio_time_embed.emb.timestep_embedder.linear_1",
                "audio_adaln_single.emb.timestep_embedder.linear_2": "audio_time_embed.emb.timestep_embedder.linear_2",
                "audio_adaln_single.linear": "audio_time_embed.linear",
                **{
                    f"{own}.{inside}": f"{theirs}.{inside}"
                    for own, theirs in (
                        ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
                        ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
                        ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
                        ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
                    )
                    for inside in (
                        "emb.timestep_embedder.linear_1",
                        "emb.timestep_embedder.linear_2",
                        "linear",
                    )
                },
                **same("caption_projection.linear_1", "caption_projection.linear_2", "proj_out", "audio_proj_out"),
                **same("audio_caption_projection.linear_1", "audio_caption_projection.linear_2"),
            }
        ),
    ),
)
