"""Lens. Source: the names of its published weights."""

from ..family import Family

_BLOCK = (
    *("attn.img_qkv", "attn.txt_qkv", "attn.to_out.0", "attn.to_add_out"),
    *(f"{side}_{layer}" for side in ("img", "txt") for layer in ("mod.1", "mlp.w1", "mlp.w2", "mlp.w3")),
)
LENS = Family(
    "Lens",
    has=("transformer_blocks.0.attn.img_qkv",),
    same=True,
    stacks=(),
    others=(
        *(f"transformer_blocks.#.{layer}" for layer in _BLOCK),
        *("img_in", "txt_in", "norm_out.linear", "proj_out"),
        *(f"time_text_embed.timestep_embedder.linear_{n}" for n in (1, 2)),
    ),
)
