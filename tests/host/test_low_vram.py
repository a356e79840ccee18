"""Networks that the host has loaded in part: what is left behind comes, with its patches, when its layer runs."""

import copy
import importlib

import pytest
import torch

from ..support import models
from .vae.test_vae import TILED

PART = 0.1  # of the weights is brought


@pytest.fixture(scope="module")
def clip(comfyui):
    models.text_encoder(comfyui.models / "text_encoders" / "low.safetensors", "clip_l", seed=1)
    return comfyui.nodes["CVL_LoadTextEncoder"]().load("low.safetensors", dtype="fp32")["result"][0]


def in_part(patcher) -> None:
    import comfy.model_management as management

    management.unload_all_models()
    patcher.patch_model(patcher.load_device, lowvram_model_memory=int(patcher.model_size() * PART))
    assert patcher.model.model_lowvram


def test_our_text_encoder_with_a_lora_gives_the_same_loaded_in_part(comfyui, clip):
    change = torch.randn(3072, 768, generator=torch.Generator().manual_seed(4)) * 0.05
    patched = clip.clone()
    layers = [f"clip_l.transformer.text_model.encoder.layers.{n}.mlp.fc1.weight" for n in range(12)]
    assert len(patched.add_patches(dict.fromkeys(layers, ("diff", (change,))))) == 12
    tokens = patched.tokenize("a (red:1.3) fox")
    whole, pooled = patched.encode_from_tokens(tokens, return_pooled=True)
    plain = clip.encode_from_tokens(tokens)
    in_part(patched.patcher)
    try:
        assert patched.patcher.lowvram_patch_counter() > 0
        found, vector = patched.cond_stage_model.encode_token_weights(tokens)
    finally:
        patched.patcher.detach()
    # the same sums, but for patches added to a weight now that were added and kept before
    assert (found - whole).abs().max() <= 1e-5 and (vector - pooled).abs().max() <= 1e-5
    assert (whole - plain).abs().max() > 0.1


def test_a_patched_stock_vae_loaded_in_part_is_run_by_us_with_its_patches(comfyui, vaes):
    """Also in float32 where it is kept in bfloat16: its layers cast."""
    dynamic = importlib.import_module(f"{comfyui.ours.__name__}.nodes.host.comfyui.vaes.layers")
    vae = copy.copy(vaes[0])
    vae.patcher = vae.patcher.clone()
    keys = [name for name in vae.patcher.model_state_dict() if "decoder.mid" in name and name.endswith("conv1.weight")]
    state = vae.patcher.model_state_dict()
    assert vae.patcher.add_patches({name: ("diff", (torch.full_like(state[name], 0.01),)) for name in keys})
    latent = torch.randn(1, 4, 12, 9, generator=torch.Generator().manual_seed(3))
    reference = vae.decode(latent).clone()
    plain = vaes[0].decode(latent)
    in_part(vae.patcher)
    try:
        before = {name: parameter.requires_grad for name, parameter in vae.first_stage_model.named_parameters()}
        network = dynamic.network_over(vae.first_stage_model)
        found = vae.process_output(network.decode(latent)).movedim(1, -1)
        assert network.decoder.conv_in.weight is vae.first_stage_model.decoder.conv_in.weight
        assert before == {name: p.requires_grad for name, p in vae.first_stage_model.named_parameters()}
    finally:
        vae.patcher.detach()
    assert (found - reference).abs().max() <= TILED < (reference - plain).abs().max()
