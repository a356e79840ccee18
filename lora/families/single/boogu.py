"""Boogu, whose blocks are those of OmniGen 2 and blocks of its own. Source: the names of its published weights."""

from ..family import Family

_FEED = tuple(f"feed_forward.linear_{n}" for n in (1, 2, 3))
_BLOCK = (*(f"attn.to_{x}" for x in ("q", "k", "v", "out.0")), *_FEED, "norm1.linear")
_PROCESSOR = (*(f"{side}_to_{x}" for side in ("img", "instruct") for x in "qkv"), "img_out", "instruct_out")
_DOUBLE = (
    "img_instruct_attn.to_out.0",
    *(f"img_instruct_attn.processor.{name}" for name in _PROCESSOR),
    *(f"img_self_attn.to_{x}" for x in ("q", "k", "v", "out.0")),
    *(f"{side}_{layer}" for side in ("img", "instruct") for layer in _FEED),
    *(f"{side}_norm{n}.linear" for side in ("img", "instruct") for n in (1, 2, 3)),
)
BOOGU = Family(
    "Boogu",
    has=("double_stream_layers.0.img_instruct_attn.to_out.0",),
    same=True,
    stacks=(),
    others=(
        *(f"double_stream_layers.#.{layer}" for layer in _DOUBLE),
        *(
            f"{stack}.#.{layer}"
            for stack in ("single_stream_layers", "noise_refiner", "ref_image_refiner", "context_refiner")
            for layer in _BLOCK
        ),
        *("x_embedder", "ref_image_patch_embedder", "norm_out.linear_1", "norm_out.linear_2"),
        *(f"time_caption_embed.timestep_embedder.linear_{n}" for n in (1, 2)),
        "time_caption_embed.caption_embedder.1",
    ),
)
