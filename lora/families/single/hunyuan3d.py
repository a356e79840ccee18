"""Hunyuan3D 2.1, which makes objects with Hunyuan-DiT's blocks and experts. Source: Tencent's hunyuandit.py."""

from ..family import Family

_EXPERTS = ("experts.0.net.0.proj", "experts.0.net.2", "gate", "shared_experts.net.0.proj", "shared_experts.net.2")
HUNYUAN_3D_21 = Family(
    "Hunyuan3D 2.1",
    has=("blocks.0.attn1.to_q", "blocks.0.attn2.out_proj", "final_layer.linear"),
    lacks=("blocks.0.attn1.to_out.0",),
    same=True,
    stacks=(),
    others=(
        *(f"blocks.#.{a}.{x}" for a in ("attn1", "attn2") for x in ("to_q", "to_k", "to_v", "out_proj")),
        *("blocks.#.mlp.fc1", "blocks.#.mlp.fc2", "blocks.#.skip_linear"),
        *(f"blocks.#.moe.{layer}" for layer in _EXPERTS),
        *("x_embedder", "t_embedder.mlp.0", "t_embedder.mlp.2", "final_layer.linear"),
    ),
)
