"""Our VAE inside ComfyUI on a pretended card: what ComfyUI is asked for, and what its own nodes and ours then do."""

import copy
import json
import sys

import pytest
import torch

from ...support.cards.pretended_card import pretend_cuda

CUDA = torch.device("cuda")
MB = 1_000_000
ENDS = 2 * (3 * 512 * 512 + 4 * 64 * 64)  # latent and picture of 512 px in half precision


@pytest.fixture
def card(comfyui, monkeypatch):
    """`card(free_mb)`: ComfyUI believes in a card with so much free; gives the list of what it is asked for."""
    import comfy.model_management as management

    def there(free_mb):
        asked = []

        def free(device=None, torch_free_too=False):
            bytes_free = free_mb * MB if device is None or torch.device(device).type == "cuda" else 30_000 * MB
            return (bytes_free, bytes_free) if torch_free_too else bytes_free

        monkeypatch.setattr(management, "get_free_memory", free)
        monkeypatch.setattr(
            management, "load_models_gpu", lambda models, memory_required=0, **_: asked.append(memory_required)
        )
        return asked

    return there


def host_part(comfyui, name):
    return sys.modules[f"{comfyui.ours.__name__}.{name}"]


def on_card(vae):
    there = copy.copy(vae)
    there.device = CUDA
    return there


@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
def test_comfyui_is_asked_for_what_tiles_need_and_not_to_unload_for_the_untiled_picture(comfyui, vaes, card, which):
    memory, running = (
        host_part(comfyui, "nodes.host.comfyui.vaes.memory"),
        host_part(comfyui, "vae_core.tiling.work"),
    )
    vae, shape = on_card(vaes[which]), (1, 4, 256, 256)
    card(2_000)
    tilings = [running.Tiling(mode, 3_000) for mode in ("auto", "off", "budget")]
    asked = {tiling.mode: memory.required(vae, "decode", shape, tiling) for tiling in tilings}
    assert asked["off"] > 10_000 * MB  # fp32, 2048 px
    assert 4_000 * MB < asked["auto"] < 0.6 * asked["off"] and asked["budget"] == 3_000 * MB
    to_encode = memory.required(vae, "encode", (1, 3, 2048, 2048), running.Tiling())
    assert to_encode < memory.required(vae, "encode", (1, 3, 2048, 2048), running.Tiling("off"))


@pytest.fixture
def pretended(comfyui, vaes, card):
    """(Count, our VAE of half precision whose network is on the pretended card)."""
    import comfy.ops

    network_file = host_part(comfyui, "vae_core.networks.kl")
    config = vaes[1].first_stage_model.config
    with pretend_cuda() as count, torch.inference_mode():
        vae = on_card(vaes[1])
        network = network_file.AutoencoderKL(config, comfy.ops.manual_cast, device="cuda", dtype=torch.float16)
        vae.first_stage_model, vae.vae_dtype = network.eval(), torch.float16
        yield count, vae


def test_our_decode_is_untiled_with_the_ends_alone_on_the_bus(comfyui, pretended, card):
    count, vae = pretended
    asked = card(22_000)
    count.reset()
    image, report = comfyui.nodes["CVL_VAEDecode"]().decode({"samples": torch.empty(1, 4, 64, 64)}, vae)["result"]
    assert image.shape == (1, 512, 512, 3) and json.loads(report)["plan"].startswith("untiled: about")
    assert count.moves == 2 and count.moved_bytes == ENDS and not count.waits and count.kernels <= 196
    assert 0 < asked[0] < 1_000 * MB


def test_our_encode_inpainting_and_distribution_are_untiled_too(comfyui, pretended, card):
    count, vae = pretended
    card(22_000)
    image, mask = torch.empty(1, 512, 512, 3), torch.empty(1, 512, 512)
    for call in (
        lambda: comfyui.nodes["CVL_VAEEncode"]().encode(image, vae),
        lambda: comfyui.nodes["CVL_VAEEncodeInpaint"]().encode(image, vae, mask),
        lambda: host_part(comfyui, "nodes.host.comfyui.vae").posterior(
            vae, image
        ),  # of Latent Distribution, which then draws
    ):
        count.reset()
        call()
        assert count.moves == 2 and not count.waits


def test_stock_nodes_on_our_vae_are_untiled_and_tiled_where_they_ask_for_it(comfyui, pretended, card):
    count, vae = pretended
    card(22_000)
    latent = {"samples": torch.empty(2, 4, 64, 64)}
    count.reset()
    (image,) = comfyui.nodes["VAEDecode"]().decode(vae, latent)
    assert image.shape == (2, 512, 512, 3) and count.kernels <= 196 and count.moves <= 3
    count.reset()
    (image,) = comfyui.nodes["VAEDecodeTiled"]().decode(vae, latent, tile_size=256, overlap=64)
    assert image.shape == (2, 512, 512, 3) and not count.waits
    assert count.moved_bytes <= 2 * ENDS + 4 * image.numel()  # nothing waits on the host


def test_a_stock_decode_that_runs_out_of_memory_goes_on_in_our_tiles(comfyui, pretended, card, monkeypatch):
    count, vae = pretended
    card(22_000)

    def full(self, latent):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(vae.first_stage_model), "decode", full)
    (image,) = comfyui.nodes["VAEDecode"]().decode(vae, {"samples": torch.empty(1, 4, 64, 64)})
    assert image.shape == (1, 512, 512, 3) and not count.waits
