"""The VAE of Wan and Qwen-Image beside the host's: networks, stock objects in our nodes, ours in stock nodes."""

import copy
import importlib
import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.checkpoint.find import find_vae

from ...support.cards.dynamic_vram import dynamic_vram

SAME_ARITHMETIC = 1e-5  # of the largest number: fp32, in another order of additions
ROUNDING = 1e-4  # of 0..1


def randomised(network):
    """Every number random, so that no tensor can hide behind ones or zeros; the host's layers start as rubbish."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if name.endswith("gamma"):
                parameter.copy_(1 + 0.1 * drawn)
            else:
                parameter.copy_(drawn * (0.1 if parameter.ndim == 1 else 1.2 * parameter[0].numel() ** -0.5))
    return network.eval().requires_grad_(False)


def host_network(kind, dim=8):
    """A small network of the host's own class; "2.1" has the sizes that the host builds of a file, but its width."""
    from comfy.ldm.wan import vae, vae2_2

    temporal = [False, True, True]
    if kind == "2.1":
        return randomised(vae.WanVAE(dim=dim, z_dim=16, temperal_downsample=temporal))
    return randomised(vae2_2.WanVAE(dim=dim, dec_dim=2 * dim, z_dim=6, num_res_blocks=1, temperal_downsample=temporal))


def ours(tensors):
    source = find_vae({name: tuple(t.shape) for name, t in tensors.items()})
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return network.eval()


def assert_equal_up_to(tolerance, got, wanted):
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max(1.0, wanted.abs().max().item()))


def a_latent(channels, frames, height, width):
    return torch.randn(1, channels, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frames", [1, 5, 9, 17])
@pytest.mark.parametrize("kind", ["2.1", "2.2"])
def test_a_video_is_encoded_and_decoded_as_the_host_does(comfyui, kind, frames):
    theirs = host_network(kind)
    network = ours(theirs.state_dict())
    sides = 3 * network.config.factor, 2 * network.config.factor
    pixels = torch.rand(1, 3, frames, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1
    wanted = theirs.encode(pixels)
    assert_equal_up_to(SAME_ARITHMETIC, network.encode(pixels), wanted)
    assert_equal_up_to(SAME_ARITHMETIC, network.decode(wanted), theirs.decode(wanted))


@pytest.fixture(scope="module")
def tensors(comfyui):
    """A file of Wan 2.1's VAE that this host loads: the old one knows the published width alone."""
    import comfy.sd

    small = {name: t.clone() for name, t in host_network("2.1").state_dict().items()}
    try:
        comfy.sd.VAE(sd=dict(small), dtype=torch.float32).throw_exception_if_invalid()
    except RuntimeError:
        return {name: t.clone() for name, t in host_network("2.1", 96).state_dict().items()}
    return small


@pytest.fixture(scope="module")
def pair(comfyui, tensors):
    """(stock VAE, our VAE) from one file."""
    write_tensors(comfyui.models / "vae" / "wan.safetensors", tensors, {})
    import comfy.sd

    stock = comfy.sd.VAE(sd={name: t.clone() for name, t in tensors.items()}, dtype=torch.float32)
    return stock, comfyui.nodes["CVL_LoadVAE"]().load("wan.safetensors", dtype="fp32")["result"][0]


@pytest.fixture(scope="module")
def video():
    return torch.rand(9, 64, 48, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frames", [1, 3, 9])
@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
def test_our_nodes_give_what_the_stock_nodes_give(comfyui, pair, video, which, frames):
    stock, vae = pair[0], pair[which]
    wanted = comfyui.nodes["VAEEncode"]().encode(vae=stock, pixels=video[:frames])[0]
    got, report = comfyui.nodes["CVL_VAEEncode"]().encode(video[:frames], vae)["result"]
    assert_equal_up_to(SAME_ARITHMETIC, got["samples"], wanted["samples"])
    assert json.loads(report)["plan"].startswith(("all cells at once", "tiles of"))
    image = comfyui.nodes["VAEDecode"]().decode(vae=stock, samples=wanted)[0]
    shown, report = comfyui.nodes["CVL_VAEDecode"]().decode(wanted, vae)["result"]
    torch.testing.assert_close(shown, image, rtol=0, atol=ROUNDING)
    assert json.loads(report)["plan"].startswith(("all cells at once", "tiles of"))


def test_the_stock_nodes_give_the_same_with_our_vae(comfyui, pair, video):
    stock, vae = pair
    wanted = comfyui.nodes["VAEEncode"]().encode(vae=stock, pixels=video)[0]
    got = comfyui.nodes["VAEEncode"]().encode(vae=vae, pixels=video)[0]
    assert_equal_up_to(SAME_ARITHMETIC, got["samples"], wanted["samples"])
    image = comfyui.nodes["VAEDecode"]().decode(vae=stock, samples=wanted)[0]
    torch.testing.assert_close(
        comfyui.nodes["VAEDecode"]().decode(vae=vae, samples=wanted)[0], image, rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("frames", [1, 5])
def test_the_stock_tiled_nodes_are_exact_with_our_vae(comfyui, pair, video, frames):
    stock, vae = pair
    picture = torch.rand(frames, 96, 136, 3, generator=torch.Generator().manual_seed(2))
    whole = comfyui.nodes["VAEEncode"]().encode(vae=stock, pixels=picture)[0]
    options = {"tile_size": 64, "overlap": 16, "temporal_size": 8, "temporal_overlap": 4}
    tiled = comfyui.nodes["VAEEncodeTiled"]().encode(vae=vae, pixels=picture, **options)[0]
    assert_equal_up_to(SAME_ARITHMETIC, tiled["samples"], whole["samples"])
    reference = comfyui.nodes["VAEDecode"]().decode(vae=stock, samples=whole)[0]
    exact = comfyui.nodes["VAEDecodeTiled"]().decode(vae=vae, samples=whole, **options)[0]
    torch.testing.assert_close(exact, reference, rtol=0, atol=ROUNDING)
    theirs = comfyui.nodes["VAEDecodeTiled"]().decode(vae=stock, samples=whole, **options)[0]
    assert (theirs - reference).abs().max() > 10 * ROUNDING  # so that the comparison above says something


@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
def test_under_a_budget_it_goes_in_exact_tiles(comfyui, pair, tensors, which, monkeypatch):
    plans = importlib.import_module(f"{comfyui.ours.__name__}.vae_core.tiling.plans")
    monkeypatch.setattr(plans, "LIBRARY_BYTES", 0)
    wide = tensors["decoder.head.0.gamma"].shape[0] > 8
    latent = {"samples": a_latent(16, 1 if wide else 2, 20, 26)}
    node = comfyui.nodes["CVL_VAEDecode"]()
    reference = comfyui.nodes["VAEDecode"]().decode(pair[0], latent)[0]
    report = node.decode(latent, pair[which], tiling="off")["result"][1]
    whole_mb = int(json.loads(report)["plan"].split("about ")[1].split(" MB")[0].replace(",", ""))
    image, report = node.decode(latent, pair[which], "budget", whole_mb * 3 // 4)["result"]
    assert "tiles of" in json.loads(report)["plan"]
    torch.testing.assert_close(image, reference, rtol=0, atol=ROUNDING)


def test_patches_on_a_stock_vae_are_seen(comfyui, pair):
    stock, latent = pair[0], {"samples": a_latent(16, 1, 6, 5)}
    patched = copy.copy(stock)
    patched.patcher = stock.patcher.clone()
    change = torch.full_like(stock.first_stage_model.decoder.conv1.weight, 0.01)
    assert patched.patcher.add_patches({"decoder.conv1.weight": ("diff", (change,))})
    reference = comfyui.nodes["VAEDecode"]().decode(patched, latent)[0]
    got = comfyui.nodes["CVL_VAEDecode"]().decode(latent, patched)["result"][0]
    torch.testing.assert_close(got, reference, rtol=0, atol=ROUNDING)
    plain = comfyui.nodes["VAEDecode"]().decode(stock, latent)[0]
    assert (reference - plain).abs().max() > 1e-3
    got = comfyui.nodes["CVL_VAEDecode"]().decode(latent, stock)["result"][0]
    torch.testing.assert_close(got, plain, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("fits", [True, False], ids=["it fits", "nothing stays"])
def test_a_stock_vae_whose_weights_are_streamed_is_run_by_us(comfyui, tensors, video, fits):
    import comfy.sd

    with dynamic_vram(fits) as memory:
        vae = comfy.sd.VAE(sd={name: t.clone() for name, t in tensors.items()}, dtype=torch.float32)
        assert vae.patcher.is_dynamic()
        latent = {"samples": vae.encode(video[:5])}
        reference = vae.decode(latent["samples"]).clone()
        before = memory.faults
        got, report = comfyui.nodes["CVL_VAEEncode"]().encode(video[:5], vae)["result"]
        assert "by ComfyUI" not in report
        assert_equal_up_to(SAME_ARITHMETIC, got["samples"], latent["samples"])
        image, report = comfyui.nodes["CVL_VAEDecode"]().decode(latent, vae)["result"]
        assert "by ComfyUI" not in report
        torch.testing.assert_close(image, reference[0], rtol=0, atol=ROUNDING)
        assert memory.faults > before  # the host's own streaming brought the weights


def test_a_patched_stock_vae_loaded_in_part_is_run_by_us_with_its_patches(comfyui, pair):
    import comfy.model_management as management

    dynamic = importlib.import_module(f"{comfyui.ours.__name__}.nodes.host.comfyui.vaes.layers")
    vae = copy.copy(pair[0])
    vae.patcher = vae.patcher.clone()
    change = torch.full_like(vae.first_stage_model.decoder.conv1.weight, 0.01)
    assert vae.patcher.add_patches({"decoder.conv1.weight": ("diff", (change,))})
    latent = a_latent(16, 2, 6, 5)
    reference = vae.decode(latent).clone()
    management.unload_all_models()
    vae.patcher.patch_model(vae.patcher.load_device, lowvram_model_memory=int(vae.patcher.model_size() * 0.1))
    try:
        assert vae.patcher.model.model_lowvram
        found = dynamic.network_over(vae.first_stage_model).decode(latent)
    finally:
        vae.patcher.detach()
    image = found.add(1).div(2).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(image, reference, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("frames", [1, 5])
def test_wan_2_2_as_a_stock_object_goes_through_our_network(comfyui, pair, frames):
    import comfy.model_patcher

    vae = copy.copy(pair[0])
    vae.first_stage_model = host_network("2.2")
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=vae.device
    )
    vae.latent_channels, vae.size = 6, None
    vae.upscale_ratio, vae.downscale_ratio = ((ratio[0], 16, 16) for ratio in (vae.upscale_ratio, vae.downscale_ratio))
    picture = torch.rand(frames, 64, 96, 3, generator=torch.Generator().manual_seed(2))
    wanted = comfyui.nodes["VAEEncode"]().encode(vae=vae, pixels=picture)[0]
    got, report = comfyui.nodes["CVL_VAEEncode"]().encode(picture, vae)["result"]
    assert_equal_up_to(SAME_ARITHMETIC, got["samples"], wanted["samples"])
    assert "by ComfyUI itself" not in report
    image = comfyui.nodes["VAEDecode"]().decode(vae=vae, samples=wanted)[0]
    shown, report = comfyui.nodes["CVL_VAEDecode"]().decode(wanted, vae)["result"]
    torch.testing.assert_close(shown, image, rtol=0, atol=ROUNDING)
    assert "by ComfyUI itself" not in report


@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (1, 4, 8, 8), (1, 4, 1, 8, 8), (1, 48, 3, 8, 8)])
def test_a_latent_of_another_model_is_refused_in_words(comfyui, pair, which, shape):
    with pytest.raises(ValueError, match="this VAE wants"):
        comfyui.nodes["CVL_VAEDecode"]().decode({"samples": torch.zeros(shape)}, pair[which])


def test_the_stock_save_node_writes_a_file_that_both_load_again(comfyui, pair, tensors):
    from clip_vae_lora.files.tensors import open_tensors

    comfyui.nodes["VAESave"]().save(pair[1], "vae/wan")
    (saved,) = (comfyui.base / "output" / "vae").glob("wan_*.safetensors")
    with open_tensors(saved) as file:
        written = file.read(file.shapes)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name].float(), t.float()) for name, t in tensors.items())
