"""TripoSplat, which makes objects out of pictures. Source: the names of its published weights."""

from ..family import Family

_STACKS = ("blocks", "noise_refiner", "context_refiner")
TRIPOSPLAT = Family(
    "TripoSplat",
    has=("cam_out_layer", "repo_layers.0.gate_map"),
    same=True,
    stacks=(),
    others=(
        *(f"{stack}.#.{layer}" for stack in _STACKS for layer in ("attn.qkv", "attn.out", "mlp.mlp.0", "mlp.mlp.2")),
        *(
            f"{stack}repo_layers.#.{layer}_map"
            for stack in ("", "noise_", "context_")
            for layer in ("gate", "content", "final")
        ),
        *("t_embedder.mlp.0", "t_embedder.mlp.2", "adaLN_modulation.1", "input_layer", "cond_embedder"),
        *("cond_embedder2", "cam_refiner.mlp.0", "cam_refiner.mlp.2", "out_layer", "cam_out_layer"),
    ),
)
