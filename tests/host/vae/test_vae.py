"""Our VAE nodes and objects beside ComfyUI's own, on the same files."""

import json

import pytest
import torch

from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig

# both compute in fp32; ours takes the moments of a GroupNorm more exactly than torch does, which shows on flat grey
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 72, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def latent(comfyui, vaes, image):
    return {"samples": vaes[0].encode(image)}


def test_the_stock_nodes_give_the_same_with_our_vae(comfyui, vaes, image, latent):
    stock, ours = vaes
    for_inpainting = {"mask": torch.ones(2, 72, 64), "grow_mask_by": 6}
    for node, call in {
        "VAEEncode": lambda node, vae: node.encode(vae=vae, pixels=image)[0]["samples"],
        "VAEDecode": lambda node, vae: node.decode(vae=vae, samples=latent)[0],
        "VAEEncodeForInpaint": lambda node, vae: node.encode(vae=vae, pixels=image, **for_inpainting)[0]["samples"],
    }.items():
        theirs, mine = call(comfyui.nodes[node](), stock), call(comfyui.nodes[node](), ours)
        assert theirs.shape == mine.shape and (theirs - mine).abs().max() <= ROUNDING, node


TILED = 1e-4  # of the range 0..1: statistics of the whole picture, merged from tiles


def test_the_stock_tiled_nodes_are_exact_with_our_vae(comfyui, vaes):
    stock, ours = vaes
    picture = torch.rand(1, 136, 200, 3, generator=torch.Generator().manual_seed(2))
    whole = comfyui.nodes["VAEEncode"]().encode(vae=stock, pixels=picture)[0]
    tiled = comfyui.nodes["VAEEncodeTiled"]().encode(vae=ours, pixels=picture, tile_size=64, overlap=16)[0]
    assert (whole["samples"] - tiled["samples"]).abs().max() <= TILED
    reference = comfyui.nodes["VAEDecode"]().decode(vae=stock, samples=whole)[0]
    exact = comfyui.nodes["VAEDecodeTiled"]().decode(vae=ours, samples=whole, tile_size=64, overlap=16)[0]
    assert exact.shape == reference.shape and (exact - reference).abs().max() <= TILED
    theirs = comfyui.nodes["VAEDecodeTiled"]().decode(vae=stock, samples=whole, tile_size=64, overlap=16)[0]
    assert (theirs - reference).abs().max() > 100 * TILED  # so that the comparison above says something


def budget_mb(comfyui, vaes, latent) -> int:
    """Nine tenths of what the whole picture needs."""
    report = comfyui.nodes["CVL_VAEDecode"]().decode(latent, vaes[1], tiling="off")["result"][1]
    return int(json.loads(report)["plan"].split("about ")[1].split(" MB")[0].replace(",", "")) * 9 // 10


@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
def test_our_decode_under_a_budget_is_exact_for_stock_objects_too(comfyui, vaes, which):
    latent = {"samples": torch.randn(1, 4, 40, 57, generator=torch.Generator().manual_seed(3))}
    reference = comfyui.nodes["VAEDecode"]().decode(vaes[0], latent)[0]
    answer = comfyui.nodes["CVL_VAEDecode"]().decode(latent, vaes[which], "budget", budget_mb(comfyui, vaes, latent))
    assert (answer["result"][0] - reference).abs().max() <= TILED
    assert "tiles of" in answer["result"][1]


def test_patches_on_a_stock_vae_are_seen_by_our_decode(comfyui, vaes, latent):
    import copy

    patched = copy.copy(vaes[0])
    patched.patcher = vaes[0].patcher.clone()
    change = torch.full_like(vaes[0].first_stage_model.decoder.conv_in.weight, 0.01)
    assert patched.patcher.add_patches({"decoder.conv_in.weight": ("diff", (change,))})
    reference = comfyui.nodes["VAEDecode"]().decode(patched, latent)[0]
    assert (comfyui.nodes["CVL_VAEDecode"]().decode(latent, patched)["result"][0] - reference).abs().max() <= TILED
    plain = comfyui.nodes["VAEDecode"]().decode(vaes[0], latent)[0]
    assert (reference - plain).abs().max() > 1e-3
    assert (comfyui.nodes["CVL_VAEDecode"]().decode(latent, vaes[0])["result"][0] - plain).abs().max() <= TILED


def test_a_cancelled_decode_stops_between_tiles(comfyui, vaes):
    import comfy.model_management as management

    latent = {"samples": torch.randn(1, 4, 40, 57, generator=torch.Generator().manual_seed(3))}
    budget = budget_mb(comfyui, vaes, latent)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        comfyui.nodes["CVL_VAEDecode"]().decode(latent, vaes[1], "budget", budget)


@pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])
def test_our_nodes_equal_the_stock_nodes(comfyui, vaes, image, latent, which):
    vae = vaes[which]
    encoded = comfyui.nodes["CVL_VAEEncode"]().encode(image, vae)["result"][0]["samples"]
    assert (encoded - latent["samples"]).abs().max() <= ROUNDING
    decoded = comfyui.nodes["CVL_VAEDecode"]().decode(latent, vae)["result"][0]
    assert (decoded - comfyui.nodes["VAEDecode"]().decode(vaes[0], latent)[0]).abs().max() <= ROUNDING


def test_a_sample_is_drawn_from_the_same_distribution_on_both(comfyui, vaes, image):
    node = comfyui.nodes["CVL_VAEEncode"]()
    drawn = [node.encode(image, vae, "sample", seed=7)["result"][0]["samples"] for vae in vaes]
    mean = node.encode(image, vaes[1])["result"][0]["samples"]
    assert (drawn[0] - drawn[1]).abs().max() <= ROUNDING
    assert (drawn[0] - mean).abs().max() > 0.1


def test_decoding_leaves_the_latent_as_it_was(comfyui, vaes, latent):
    before = latent["samples"].clone()
    comfyui.nodes["VAEDecode"]().decode(vae=vaes[1], samples=latent)
    comfyui.nodes["CVL_VAEDecode"]().decode(latent, vaes[1])
    assert torch.equal(latent["samples"], before)


def test_the_stock_save_node_writes_a_file_that_both_load_again(comfyui, vaes):
    comfyui.nodes["VAESave"]().save(vaes[1], "vae/cvl")
    (saved,) = (comfyui.base / "output" / "vae").glob("cvl_*.safetensors")
    from clip_vae_lora.files.tensors import open_tensors

    with open_tensors(saved) as file:
        written = file.read(file.shapes)
    assert all(torch.equal(written[k].float(), v.float()) for k, v in vaes[0].get_sd().items())


def test_a_latent_of_another_vae_is_refused_in_words(comfyui, vaes):
    with pytest.raises(ValueError, match="this latent has 16 channels, this VAE wants 4"):
        comfyui.nodes["CVL_VAEDecode"]().decode({"samples": torch.zeros(1, 16, 8, 8)}, vaes[0])


@pytest.mark.parametrize("channels", [4, 16])
def test_a_stock_taesd_goes_through_our_tiles_too(comfyui, channels):
    import comfy.sd

    torch.manual_seed(0)
    tensors = {name: t.clone() for name, t in TinyAutoencoder(TinyConfig(channels, scale=0.5)).state_dict().items()}
    stock = comfy.sd.VAE(sd=tensors, dtype=torch.float32)
    picture = torch.rand(1, 264, 200, 3, generator=torch.Generator().manual_seed(2))
    cells = {"samples": stock.encode(picture)}
    encoded = comfyui.nodes["CVL_VAEEncode"]().encode(picture, stock, tiling="budget", budget_mb=96)["result"]
    decoded = comfyui.nodes["CVL_VAEDecode"]().decode(cells, stock, "budget", 96)["result"]
    assert all("tiles of" in report for _, report in (encoded, decoded))
    assert (encoded[0]["samples"] - cells["samples"]).abs().max() <= ROUNDING
    assert (decoded[0] - stock.decode(cells["samples"])).abs().max() <= ROUNDING
