"""ERNIE-Image, whose model has diffusers' own names. Source: diffusers' ErnieImageTransformer2DModel."""

from ..family import OTHER, Family, Stack, same

_QKV = ("self_attention.to_q", "self_attention.to_k", "self_attention.to_v")
ERNIE = Family(
    "ERNIE-Image",
    has=("layers.0.self_attention.to_q", "layers.0.mlp.linear_fc2"),
    same=True,
    others=("time_embedding.linear_1", "time_embedding.linear_2"),
    stacks=(
        Stack(
            "layers",
            "layers",
            "layer",
            layers=same(
                *_QKV, "self_attention.to_out.0", *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "linear_fc2"))
            ),
        ),
        Stack("layers", "layers", tool=OTHER, fused={"self_attention.to_qkv": _QKV}),
        Stack(layers=same("x_embedder.proj", "text_proj", "final_norm.linear", "final_linear", "adaLN_modulation.1")),
    ),
)
