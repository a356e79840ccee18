"""vae_core beside the host's own networks, on the same random weights, without any node between them."""

import pytest
import torch

from clip_vae_lora.vae_core.checkpoint.find import find_vae
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig

ROUNDING = 3e-5  # of the largest number: fp32, in another order of additions (doubling and convolution are one map)


def assert_equal_up_to_rounding(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=0, atol=ROUNDING * max(1.0, wanted.abs().max().item()))


def stock_vae(comfyui, tensors, metadata=None):
    """The host's VAE object made of these tensors."""
    import comfy.sd

    options = {} if metadata is None else {"metadata": metadata}
    vae = comfy.sd.VAE(sd={name: t.clone() for name, t in tensors.items()}, dtype=torch.float32, **options)
    vae.throw_exception_if_invalid()
    return vae


def ours(tensors):
    source = find_vae({name: tuple(t.shape) for name, t in tensors.items()})
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return network.eval()


def a_picture(height, width):
    """An IMAGE in 0..1 and the same as pixels. [1, H, W, 3] and [1, 3, H, W]"""
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(3))
    return image, image.movedim(-1, 1) * 2 - 1


@pytest.mark.parametrize("latent, quant", [(4, True), (16, False)], ids=["SD1", "Flux.1"])
def test_autoencoder_kl_gives_the_hosts_latents_and_pixels(comfyui, latent, quant):
    torch.manual_seed(0)
    tensors = AutoencoderKL(VAEConfig(128, (1, 2, 4, 4), 2, latent, quant)).state_dict()
    stock, network = stock_vae(comfyui, tensors), ours(tensors)
    image, pixels = a_picture(128, 128)
    cells = stock.encode(image)
    assert_equal_up_to_rounding(network.encode(pixels), cells)
    assert_equal_up_to_rounding(network.decode(cells).div(2).add(0.5).clamp(0, 1).movedim(1, -1), stock.decode(cells))


@pytest.mark.parametrize(
    "config", [TinyConfig(4, scale=0.18215), TinyConfig(16, scale=1.5305, shift=0.0609)], ids=["taesd", "taesd3"]
)
def test_a_tiny_autoencoder_gives_the_hosts_raw_latents_and_pixels(comfyui, config):
    torch.manual_seed(0)
    tensors = TinyAutoencoder(config).state_dict()
    compare_tiny(stock_vae(comfyui, tensors), ours(tensors))


def test_taef2_gives_the_hosts_folded_latents_and_pixels(comfyui):
    import comfy.taesd.taesd

    if not hasattr(comfy.taesd.taesd, "EncoderFlux2"):
        pytest.skip("this ComfyUI does not know taef2")
    torch.manual_seed(0)
    tensors = TinyAutoencoder(TinyConfig(128, pooled=True, patch=2)).state_dict()
    compare_tiny(stock_vae(comfyui, tensors, {"tae_latent_channels": 128}), ours(tensors))


def compare_tiny(stock, network):
    image, pixels = a_picture(64, 96)
    cells = stock.encode(image)
    assert_equal_up_to_rounding(network.encode(pixels), cells)
    assert_equal_up_to_rounding(network.decode(cells).div(2).add(0.5).clamp(0, 1).movedim(1, -1), stock.decode(cells))
