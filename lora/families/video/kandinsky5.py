"""Kandinsky 5, whose model has diffusers' own names. Source: diffusers' Kandinsky5Transformer3DModel."""

from ..family import Family, Stack, same

_ATTENTION = ("to_query", "to_key", "to_value", "out_layer")
KANDINSKY5 = Family(
    "Kandinsky 5",
    has=("visual_transformer_blocks.0.self_attention.to_query",),
    same=True,
    stacks=(
        Stack(
            "visual_transformer_blocks",
            "visual_transformer_blocks",
            "visual",
            layers=same(
                *(f"{a}.{x}" for a in ("self_attention", "cross_attention") for x in _ATTENTION),
                "feed_forward.in_layer",
                "feed_forward.out_layer",
                "visual_modulation.out_layer",
            ),
        ),
        Stack(
            "text_transformer_blocks",
            "text_transformer_blocks",
            "text",
            layers=same(
                *(f"self_attention.{x}" for x in _ATTENTION),
                "feed_forward.in_layer",
                "feed_forward.out_layer",
                "text_modulation.out_layer",
            ),
        ),
        Stack(
            layers=same(
                "time_embeddings.in_layer",
                "time_embeddings.out_layer",
                "text_embeddings.in_layer",
                "pooled_text_embeddings.in_layer",
                "visual_embeddings.in_layer",
                "out_layer.modulation.out_layer",
                "out_layer.out_layer",
            )
        ),
    ),
)
