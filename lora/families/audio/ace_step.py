"""ACE-Step 1 and 1.5. Sources: the two programs' transformer files, diffusers' AceStepTransformer1DModel."""

from ..family import Family, Stack, same

ACE_STEP = Family(
    "ACE-Step 1",
    has=("lyric_embs", "transformer_blocks.0.cross_attn.add_q_proj"),
    same=True,
    others=(
        *("lyric_embs", "lyric_encoder.embed.out.0", "timestep_embedder.linear_1", "timestep_embedder.linear_2"),
        *("proj_in.early_conv_layers.#", "projectors.#.#"),
    ),
    stacks=(
        Stack(
            "transformer_blocks",
            "transformer_blocks",
            "block",
            layers=same(
                *(f"{a}.{x}" for a in ("attn", "cross_attn") for x in ("to_q", "to_k", "to_v", "to_out.0")),
                *(f"cross_attn.{x}" for x in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
                *(f"ff.{x}_conv.conv" for x in ("inverted", "depth", "point")),
            ),
        ),
        Stack(
            "lyric_encoder.encoders",
            "lyric_encoder.encoders",
            "lyric",
            layers=same(
                *(f"self_attn.linear_{x}" for x in ("q", "k", "v", "out", "pos")),
                "feed_forward.w_1",
                "feed_forward.w_2",
            ),
        ),
        Stack(layers=same("speaker_embedder", "genre_embedder", "lyric_proj", "t_block.1", "final_layer.linear")),
    ),
)
_LAYER = (*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("gate", "up", "down")))
_BESIDE = ("detokenizer", "encoder.lyric_encoder", "encoder.timbre_encoder", "tokenizer.attention_pooler")
ACE_STEP_15 = Family(
    "ACE-Step 1.5",
    has=("decoder.layers.0.self_attn.q_proj", "decoder.condition_embedder"),
    root="decoder.",
    others=(
        *(f"{part}.layers.#.{layer}" for part in _BESIDE for layer in _LAYER),
        *(f"{part}.embed_tokens" for part in _BESIDE),
        *("detokenizer.proj_out", "encoder.text_projector", "tokenizer.audio_acoustic_proj"),
        *("tokenizer.quantizer.project_in", "tokenizer.quantizer.project_out"),
    ),
    stacks=(
        Stack(
            "decoder.layers",
            "layers",
            "layer",
            layers={
                **{f"{a}.{x}_proj": f"{a}.to_{x}" for a in ("self_attn", "cross_attn") for x in "qkv"},
                **{f"{a}.o_proj": f"{a}.to_out.0" for a in ("self_attn", "cross_attn")},
                **{f"{a}.{x}_norm": f"{a}.norm_{x}" for a in ("self_attn", "cross_attn") for x in "qk"},
                **same("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
            },
        ),
        Stack(
            layers={
                "decoder.condition_embedder": "condition_embedder",
                "decoder.proj_in.1": "proj_in_conv",
                "decoder.proj_out.1": "proj_out_conv",
                **{
                    f"decoder.{own}.{name}": f"{own}.{name}"
                    for own in ("time_embed", "time_embed_r")
                    for name in ("linear_1", "linear_2", "time_proj")
                },
            }
        ),
    ),
)
