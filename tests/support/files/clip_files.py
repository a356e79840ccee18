"""Tiny CLIP files in every layout, for the tests beside this file."""

import re

import torch

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig, text_heads, vision_heads
from clip_vae_lora.clip_core.networks.clip import CLIP

TEXT = TextConfig(64, 2, text_heads(64), 96, 64)  # square projection: orientation can only come from the name
VISION = VisionConfig(64, 2, vision_heads(64), 96, 8, 24, 64)
OTHERS = {"model.diffusion_model.input_blocks.0.0.bias": (320,), "first_stage_model.quant_conv.bias": (8,)}
FLAT = [
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("encoder.layers", "transformer.resblocks"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token", "token"),
    ("embeddings.class", "class"),
    ("embeddings.patch_embedding", "conv1"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
]


def encoder(kind, config):
    torch.manual_seed(0)
    network = kind(config).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.normal_(0, 0.1)
    return network


def flat(state, half):
    """Our state dict in OpenAI's names, by replacement in the opposite direction."""
    out, block = {}, re.compile(rf"{half}_model.encoder.layers.(\d+).self_attn.q_proj.(weight|bias)")
    for name, tensor in state.items():
        if name.endswith("_projection.weight"):
            out["text_projection" if half == "text" else "proj"] = tensor.T
        elif match := block.fullmatch(name):
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            out[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif "k_proj" not in name and "v_proj" not in name:
            own = name.removeprefix(f"{half}_model.").replace("final_layer_norm", "ln_final")
            for ours, theirs in FLAT:
                own = own.replace(ours, theirs)
            out[own] = tensor
    return out


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def shapes(state, others=()):
    return {name: tuple(tensor.shape) for name, tensor in state.items()} | dict(others)


def assert_same(source, file, network):
    """Only the source's names are needed, and they give the network's tensors."""
    state = source.translate({name: file[name] for name in source.names})
    expected = network.state_dict()
    assert set(state) == set(expected)
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name
    source.build().load_state_dict(state)


def hf_pair():
    return encoder(CLIP, CLIPConfig(TEXT, VISION)).state_dict() | {"logit_scale": torch.ones(())}


def flat_pair(state, prefix="", text=""):
    """A whole CLIP in OpenAI's names; `text` stands before those of the text encoder."""
    halves = {half: {k: v for k, v in state.items() if k.startswith(half)} for half in ("text", "vis")}
    names = under(text, flat(halves["text"], "text")) | under("visual.", flat(halves["vis"], "vision"))
    return under(prefix, names | {"logit_scale": state["logit_scale"]})
