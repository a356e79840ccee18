"""HiDream, whose model has diffusers' own names. Source: diffusers' HiDreamImageTransformer2DModel."""

from ..family import Family, Stack, same

_EXPERTS = tuple(f"block.ff_i.experts.{n}.w{k}" for n in range(4) for k in (1, 2, 3))
_SHARED = tuple(f"block.ff_i.shared_experts.w{k}" for k in (1, 2, 3))
_ATTENTION = tuple(f"block.attn1.to_{x}" for x in ("q", "k", "v", "out"))

HIDREAM = Family(
    "HiDream",
    has=("double_stream_blocks.0.block.attn1.to_q_t",),
    depth={"double_stream_blocks": 16, "single_stream_blocks": 32},
    same=True,
    others=(
        *("double_stream_blocks.#.block.ff_i.gate", "single_stream_blocks.#.block.ff_i.gate"),
        *("caption_projection.#.linear", "p_embedder.pooled_embedder.linear_1", "p_embedder.pooled_embedder.linear_2"),
        *("t_embedder.timestep_embedder.linear_1", "t_embedder.timestep_embedder.linear_2"),
    ),
    stacks=(
        Stack(
            "double_stream_blocks",
            "double_stream_blocks",
            "double",
            layers=same(
                *_ATTENTION,
                *(f"{name}_t" for name in _ATTENTION),
                *_EXPERTS,
                *_SHARED,
                *(f"block.ff_t.w{k}" for k in (1, 2, 3)),
                "block.adaLN_modulation.1",
            ),
        ),
        Stack(
            "single_stream_blocks",
            "single_stream_blocks",
            "single",
            layers=same(*_ATTENTION, *_EXPERTS, *_SHARED, "block.adaLN_modulation.1"),
        ),
        Stack(layers=same("x_embedder.proj", "final_layer.linear", "final_layer.adaLN_modulation.1")),
    ),
)
