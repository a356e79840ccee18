"""Wan 2.1 and 2.2. Sources: Wan-Video's model.py, diffusers' WanTransformer3DModel."""

from ..family import Family, Stack

_ATTENTION = ("q", "k", "v", "o")
_VACE = (  # and what Wan's other models have beside: camera, sound, a person's movements
    *(f"vace_blocks.#.{a}.{x}" for a in ("self_attn", "cross_attn") for x in _ATTENTION),
    *("vace_blocks.#.ffn.0", "vace_blocks.#.ffn.2", "vace_blocks.#.before_proj", "vace_blocks.#.after_proj"),
    *(f"vace_blocks.#.{a}.to_{x}" for a in ("attn1", "attn2") for x in ("q", "k", "v", "out.0")),
    *("vace_blocks.#.ffn.net.0.proj", "vace_blocks.#.ffn.net.2", "vace_blocks.#.proj_in", "vace_blocks.#.proj_out"),
    "vace_patch_embedding",
)
_CAMERA = ("control_adapter.conv", *(f"control_adapter.residual_blocks.#.conv{n}" for n in (1, 2)))
_SOUND = (
    *(f"audio_injector.injector.#.{x}" for x in _ATTENTION),
    "audio_injector.injector_adain_layers.#.linear",
    *(f"casual_audio_encoder.encoder.conv{name}" for name in ("1_global.conv", "1_local.conv", "2.conv", "3.conv")),
    "casual_audio_encoder.encoder.final_linear",
    *("cond_encoder", "frame_packer.proj", "frame_packer.proj_2x", "frame_packer.proj_4x", "trainable_cond_mask"),
    *(f"blocks.#.audio_cross_attn_wrapper.audio_cross_attn.{x}" for x in _ATTENTION),
    *("audio_proj.audio_proj_glob_1.layer", "audio_proj.audio_proj_glob_2.layer"),
)
_MOVEMENT = (
    *(f"face_encoder.conv{name}.conv" for name in ("1_local", "2", "3")),
    *(f"face_adapter.fuser_blocks.#.linear{n}{x}" for n, x in ((1, "_kv"), (1, "_q"), (2, ""))),
    *("face_encoder.out_proj", "motion_encoder.dec.direction", "motion_encoder.enc.fc.#", "pose_patch_embedding"),
    *("motion_encoder.enc.net_app.convs.#", "motion_encoder.enc.net_app.convs.#.#"),
    *(f"motion_encoder.enc.net_app.convs.#.{name}.#" for name in ("conv1", "conv2", "skip")),
)
WAN = Family(
    "Wan",
    others=(*_VACE, *_CAMERA, *_SOUND, *_MOVEMENT),
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
