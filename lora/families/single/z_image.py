"""Z-Image and Lumina 2, which share a network. Sources: Alpha-VLLM's Lumina-Image 2.0 model.py, diffusers' classes."""

from ..family import Family, Stack, parts, same

_FEED = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
_NORMS = ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")


def _z_block(name: str, word: str) -> Stack:
    return Stack(
        name,
        name,
        word,
        layers={
            "attention.out": ("attention.to_out.0", "attention.to_out"),
            "attention.qkv": "attention.to_qkv",
            "attention.q_norm": "attention.norm_q",
            "attention.k_norm": "attention.norm_k",
            **same(*_FEED, *_NORMS, "adaLN_modulation.0"),
        },
        splits={"attention.qkv": parts("attention.to_{}")},
    )


def _lumina_block(name: str, word: str) -> Stack:
    """Its keys and values have fewer heads than its queries, which are as wide as the input."""
    return Stack(
        name,
        name,
        word,
        layers={
            "attention.out": "attn.to_out.0",
            "attention.q_norm": "attn.norm_q",
            "attention.k_norm": "attn.norm_k",
            **{f"feed_forward.w{n}": f"feed_forward.linear_{n}" for n in (1, 2, 3)},
            "adaLN_modulation.1": "norm1.linear",
            "attention_norm1": "norm1.norm" if name != "context_refiner" else "norm1",
            "attention_norm2": "norm2",
            **same("ffn_norm1", "ffn_norm2"),
        },
        splits={"attention.qkv": (("attn.to_q", 1), ("attn.to_k", 0), ("attn.to_v", 0))},
    )


_STACKS = (("layers", "layer"), ("noise_refiner", "noise"), ("context_refiner", "context"))
Z_IMAGE = Family(
    "Z-Image",
    has=("layers.0.attention.qkv", "layers.0.adaLN_modulation.0"),
    depth={"layers": 30},
    stacks=(
        *(_z_block(*names) for names in _STACKS),
        Stack(
            layers={
                "final_layer.linear": "all_final_layer.2-1.linear",
                "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
                "x_embedder": "all_x_embedder.2-1",
                **same("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.0", "cap_embedder.1"),
                **same("x_pad_token", "cap_pad_token"),
            }
        ),
    ),
)
LUMINA2 = Family(
    "Lumina 2",
    has=("layers.0.attention.qkv", "layers.0.adaLN_modulation.1"),
    depth={"layers": 26},
    stacks=(
        *(_lumina_block(*names) for names in _STACKS),
        Stack(
            layers={
                "x_embedder": "x_embedder",
                "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
                "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
                "cap_embedder.0": "time_caption_embed.caption_embedder.0",
                "cap_embedder.1": "time_caption_embed.caption_embedder.1",
                "final_layer.adaLN_modulation.1": "norm_out.linear_1",
                "final_layer.linear": "norm_out.linear_2",
            }
        ),
    ),
)
