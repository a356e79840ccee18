"""PixelDiT, a transformer of patches and one of pixels. Source: the names of its published weights."""

from ..family import Family

_SIDES = ("x", "y")
PIXELDIT = Family(
    "PixelDiT",
    has=("pixel_blocks.0.compress_to_attn", "patch_blocks.0.attn.qkv_x"),
    same=True,
    stacks=(),
    others=(
        *(f"patch_blocks.#.attn.{layer}_{side}" for layer in ("qkv", "proj") for side in _SIDES),
        *(f"patch_blocks.#.mlp_{side}.w{n}" for side in _SIDES for n in (1, 2, 3)),
        *(f"patch_blocks.#.adaLN_modulation_{side}.0" for side in ("img", "txt")),
        *(f"pixel_blocks.#.{layer}" for layer in ("compress_to_attn", "expand_from_attn", "attn.qkv", "attn.proj")),
        *(f"pixel_blocks.#.{layer}" for layer in ("mlp.fc1", "mlp.fc2")),
        *(f"pixel_blocks.#.adaLN_modulation_{layer}" for layer in ("msa", "mlp")),
        *("pixel_embedder.proj", "s_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.proj"),
        "final_layer.linear",
    ),
)
