"""JoyImage. Source: the names of its published weights."""

from ..family import Family

_SIDES = ("img", "txt")
JOY_IMAGE = Family(
    "JoyImage",
    has=("double_blocks.0.attn.img_attn_qkv",),
    same=True,
    stacks=(),
    others=(
        *(f"double_blocks.#.attn.{side}_attn_{layer}" for side in _SIDES for layer in ("qkv", "proj")),
        *(f"double_blocks.#.{side}_mlp.net.{layer}" for side in _SIDES for layer in ("0.proj", "2")),
        *(f"condition_embedder.{name}_embedder.linear_{n}" for name in ("time", "text") for n in (1, 2)),
        *("condition_embedder.time_proj", "img_in", "proj_out"),
    ),
)
