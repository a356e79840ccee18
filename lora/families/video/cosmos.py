"""Cosmos, Cosmos-Predict2 and Anima, which adds an adapter for its text.

Sources: NVIDIA's minimal_v4_dit.py, diffusers.
"""

from ..family import Family, Stack, same

_BLOCK = {
    **{
        f"{own}.{x}_proj": f"{theirs}.to_{x}"
        for own, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for x in "qkv"
    },
    **{
        f"{own}.{x}_norm": f"{theirs}.norm_{x}"
        for own, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for x in "qk"
    },
    "self_attn.output_proj": "attn1.to_out.0",
    "cross_attn.output_proj": "attn2.to_out.0",
    "mlp.layer1": "ff.net.0.proj",
    "mlp.layer2": "ff.net.2",
    **{
        f"adaln_modulation_{own}.{n}": f"{theirs}.linear_{n}"
        for own, theirs in (("self_attn", "norm1"), ("cross_attn", "norm2"), ("mlp", "norm3"))
        for n in (1, 2)
    },
}
_OUTSIDE = {
    "x_embedder.proj.1": "patch_embed.proj",
    "t_embedder.1.linear_1": "time_embed.t_embedder.linear_1",
    "t_embedder.1.linear_2": "time_embed.t_embedder.linear_2",
    "t_embedding_norm": "time_embed.norm",
    "final_layer.linear": "proj_out",
    "final_layer.adaln_modulation.1": "norm_out.linear_1",
    "final_layer.adaln_modulation.2": "norm_out.linear_2",
}
_OLD = (
    *(f"block.attn.to_{x}.0" for x in ("q", "k", "v", "out")),
    *("adaLN_modulation.1", "adaLN_modulation.2", "block.layer1", "block.layer2"),
)
COSMOS_1 = Family(
    "Cosmos",
    has=("blocks.block0.blocks.0.block.attn.to_q.0",),
    same=True,
    stacks=(),
    others=(
        *(f"blocks.block{n}.blocks.#.{layer}" for n in range(36) for layer in _OLD),
        *("x_embedder.proj.1", "t_embedder.1.linear_1", "t_embedder.1.linear_2", "final_layer.linear"),
        *("final_layer.adaLN_modulation.1", "final_layer.adaLN_modulation.2"),
    ),
)
_STACKS = (Stack("blocks", "transformer_blocks", "block", layers=_BLOCK), Stack(layers=_OUTSIDE))
_MARK = "blocks.0.adaln_modulation_self_attn.1"
COSMOS = Family("Cosmos-Predict2", has=(_MARK,), lacks=("llm_adapter.out_proj",), stacks=_STACKS)
ANIMA = Family(
    "Anima",
    has=(_MARK, "llm_adapter.out_proj"),
    stacks=(
        *_STACKS,
        Stack(
            "llm_adapter.blocks",
            "llm_adapter.blocks",
            "adapter",
            layers=same(
                *(f"{a}.{x}_proj" for a in ("self_attn", "cross_attn") for x in "qkvo"),
                "mlp.0",
                "mlp.2",
            ),
        ),
        Stack(layers=same("llm_adapter.out_proj", "llm_adapter.embed")),
    ),
)
