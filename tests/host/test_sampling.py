"""A whole picture through stock nodes with our objects on the wires: prompt, KSampler, VAEDecode; and unloading."""

import pytest
import torch

from ..support import models


@pytest.fixture(scope="module")
def parts(comfyui):
    """A small random SD1.5 MODEL for CLIP-L's conditioning; CLIP-L and the SD1 VAE in full size, stock and ours."""
    models.text_encoder(comfyui.models / "text_encoders" / "s_l.safetensors", "clip_l", seed=1)
    models.sd1_vae(comfyui.models / "vae" / "s_vae.safetensors", seed=2)
    nodes = comfyui.nodes
    clips = (
        nodes["CLIPLoader"]().load_clip("s_l.safetensors", "stable_diffusion")[0],
        nodes["CVL_LoadTextEncoder"]().load("s_l.safetensors")["result"][0],
    )
    vaes = (
        nodes["VAELoader"]().load_vae("s_vae.safetensors")[0],
        nodes["CVL_LoadVAE"]().load("s_vae.safetensors")["result"][0],
    )
    return models.sd15_model(context_dim=768), clips, vaes


def picture(comfyui, model, clip, vae, text_node):
    nodes = comfyui.nodes

    def encode(text):
        answer = nodes[text_node]().encode(clip=clip, text=text)
        return answer["result"][0] if isinstance(answer, dict) else answer[0]

    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    (sampled,) = nodes["KSampler"]().sample(
        model, 3, 2, 4.0, "euler", "normal", encode("a (red:1.2) fox"), encode("blurry"), latent, denoise=1.0
    )
    (image,) = nodes["VAEDecode"]().decode(vae=vae, samples=sampled)
    return sampled["samples"], image


def test_stock_sampling_with_our_clip_and_vae_gives_the_stock_picture(comfyui, parts):
    model, clips, vaes = parts
    stock = picture(comfyui, model, clips[0], vaes[0], "CLIPTextEncode")
    ours = picture(comfyui, model, clips[1], vaes[1], "CVL_TextEncode")
    for theirs, mine in zip(stock, ours):
        # the conditioning differs by rounding at most, and two steps of a random network do not blow that up
        assert (theirs - mine).abs().max() <= 1e-4 * theirs.abs().max().clamp(min=1)


def test_our_objects_survive_being_unloaded(comfyui, parts):
    import comfy.model_management as management

    _, clips, vaes = parts
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    before = vaes[1].encode(image), clips[1].encode("a cat")
    management.unload_all_models()
    management.soft_empty_cache()
    after = vaes[1].encode(image), clips[1].encode("a cat")
    assert all(torch.equal(one, other) for one, other in zip(before, after))


def test_our_clip_counts_as_one_model_of_its_size(comfyui, parts):
    clip = parts[1][1]
    bytes_of_weights = sum(weight.numel() * weight.element_size() for weight in clip.cond_stage_model.parameters())
    assert clip.patcher.model_size() == bytes_of_weights
