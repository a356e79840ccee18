"""OmniGen 2, whose model has its trainers' own names. Source: VectorSpaceLab's OmniGen2 transformer_omnigen2.py."""

from ..family import Family, Stack, same

_LAYERS = same(
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"feed_forward.linear_{n}" for n in (1, 2, 3)),
    "norm1.linear",
)
OMNIGEN2 = Family(
    "OmniGen 2",
    has=("ref_image_refiner.0.attn.to_q", "layers.0.feed_forward.linear_1"),
    same=True,
    stacks=(
        *(
            Stack(name, name, word, layers=_LAYERS)
            for name, word in (
                ("layers", "layer"),
                ("noise_refiner", "noise"),
                ("ref_image_refiner", "reference"),
                ("context_refiner", "context"),
            )
        ),
        Stack(
            layers=same(
                "x_embedder",
                "ref_image_patch_embedder",
                "time_caption_embed.timestep_embedder.linear_1",
                "time_caption_embed.timestep_embedder.linear_2",
                "time_caption_embed.caption_embedder.1",
                "norm_out.linear_1",
                "norm_out.linear_2",
            )
        ),
    ),
)
