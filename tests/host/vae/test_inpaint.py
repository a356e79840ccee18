"""Our inpainting and latent nodes beside ComfyUI's own, with the stock VAE and with ours."""

import pytest
import torch

# both compute in fp32 with the same operations; what is left is the order of additions
ROUNDING = 1e-5
both = pytest.mark.parametrize("which", [0, 1], ids=["stock VAE", "our VAE"])


def picture(height, width, batch=1):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


def blots(height, width, batch=1):
    """Soft and hard spots, some at the border."""
    rough = torch.rand(batch, 1, 6, 5, generator=torch.Generator().manual_seed(1)).pow(3)
    return torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear")[:, 0]


@both
@pytest.mark.parametrize("grow", [0, 1, 5, 6])
def test_a_hole_is_the_stock_nodes_where_the_size_fills_its_cells(comfyui, vaes, which, grow):
    image, mask = picture(64, 48, 2), blots(64, 48)
    (theirs,) = comfyui.nodes["VAEEncodeForInpaint"]().encode(vaes[which], image, mask, grow)
    ours = comfyui.nodes["CVL_VAEEncodeInpaint"]().encode(image, vaes[which], mask, grow)["result"][0]
    assert set(ours) == set(theirs) and torch.equal(ours["noise_mask"], theirs["noise_mask"])
    assert 0 < ours["noise_mask"].mean() < 1
    assert (ours["samples"] - theirs["samples"]).abs().max() <= ROUNDING


@both
def test_a_mask_of_another_size_and_one_for_each_picture_are_the_stock_nodes_too(comfyui, vaes, which):
    image, mask = picture(48, 64, 2), blots(31, 40, 2)
    (theirs,) = comfyui.nodes["VAEEncodeForInpaint"]().encode(vaes[which], image, mask, 6)
    ours = comfyui.nodes["CVL_VAEEncodeInpaint"]().encode(image, vaes[which], mask)["result"][0]
    assert torch.equal(ours["noise_mask"], theirs["noise_mask"])
    assert (ours["samples"] - theirs["samples"]).abs().max() <= ROUNDING


@both
def test_a_size_that_fills_no_cells_is_the_stock_node_on_the_padded_picture(comfyui, vaes, which):
    image, mask = picture(43, 61), blots(43, 61).round()
    pad = torch.nn.functional.pad
    padded = pad(image.movedim(-1, 1), (0, 3, 0, 5), mode="reflect").movedim(1, -1)
    (theirs,) = comfyui.nodes["VAEEncodeForInpaint"]().encode(
        vaes[which], padded, pad(mask, (0, 3, 0, 5), mode="reflect"), 6
    )
    ours = comfyui.nodes["CVL_VAEEncodeInpaint"]().encode(image, vaes[which], mask)["result"][0]
    assert ours["cvl_size_px"] == [43, 61] and torch.equal(ours["noise_mask"], theirs["noise_mask"])
    assert (ours["samples"] - theirs["samples"]).abs().max() <= ROUNDING


def test_the_stock_decoder_and_our_composite_bring_the_picture_back_at_its_size(comfyui, vaes):
    image, mask = picture(43, 61), torch.zeros(1, 43, 61)
    mask[:, 20:30, 20:40] = 1
    latent = comfyui.nodes["CVL_VAEEncodeInpaint"]().encode(image, vaes[1], mask)["result"][0]
    (decoded,) = comfyui.nodes["VAEDecode"]().decode(vaes[1], latent)
    assert decoded.shape == (1, 48, 64, 3)
    found, weight, _ = comfyui.nodes["CVL_CompositeInpaint"]().composite(image, decoded, mask)["result"]
    assert found.shape == image.shape and torch.equal(found[weight == 0], image[weight == 0])
    assert torch.equal(found[mask == 1], decoded[:, :43, :61][mask == 1])


def test_the_distribution_is_the_same_from_both_and_its_mean_is_the_stock_encoders(comfyui, vaes):
    image = picture(48, 64, 2)
    measure = comfyui.nodes["CVL_LatentDistribution"]().measure
    theirs, ours = (measure(image, vae)["result"] for vae in vaes)
    (mean,) = comfyui.nodes["VAEEncode"]().encode(vaes[0], image)
    assert (theirs[0]["samples"] - mean["samples"]).abs().max() <= ROUNDING
    for which in (0, 1):
        assert (theirs[which]["samples"] - ours[which]["samples"]).abs().max() <= ROUNDING


@pytest.mark.parametrize(
    "family,latent_format",
    [
        ("sd1", "SD15"),
        ("sdxl", "SDXL"),
        ("playground", "SDXL_Playground_2_5"),
        ("upscaler", "SD_X4"),
        ("sd3", "SD3"),
        ("flux", "Flux"),
        ("flux2", "Flux2"),
    ],
)
def test_a_familys_prior_is_standard_normal_to_comfyuis_sampler(comfyui, family, latent_format):
    import comfy.latent_formats

    known = getattr(comfy.latent_formats, latent_format, None)
    if known is None:
        pytest.skip(f"this ComfyUI has no latent format {latent_format}")
    latent = comfyui.nodes["CVL_SamplePrior"]().draw(512, 512, 2, 3, family)["result"][0]["samples"]
    assert latent.shape[1] == known.latent_channels
    if hasattr(known, "spacial_downscale_ratio"):  # the newer host knows it; SD_X4 keeps the default there
        assert latent.shape[2] == 512 // known.spacial_downscale_ratio or family == "upscaler"
    normal = known().process_in(latent)
    cells = normal[0, 0].numel() * 2
    assert (normal.mean((0, 2, 3)).abs() < 6 / cells**0.5).all()  # six standard errors
    assert (normal.transpose(0, 1).flatten(1).std(1) - 1).abs().max() < 6 / (2 * cells) ** 0.5


def test_the_vae_of_the_host_gives_the_priors_layout(comfyui, vaes):
    for vae in vaes:
        latent = comfyui.nodes["CVL_SamplePrior"]().draw(60, 40, 1, 3, "sd1", vae)["result"][0]
        assert latent["samples"].shape == (1, 4, 5, 8) and latent["cvl_size_px"] == [40, 60]


def test_mixtures_go_through_the_stock_decoder(comfyui, vaes):
    draw, mix = comfyui.nodes["CVL_SamplePrior"]().draw, comfyui.nodes["CVL_LatentInterpolate"]().interpolate
    first, second = (draw(32, 32, 1, seed, "sd1")["result"][0] for seed in (1, 2))
    latent = mix(first, second, 0.5, "spherical", 3)["result"][0]
    assert comfyui.nodes["VAEDecode"]().decode(vaes[0], latent)[0].shape == (3, 32, 32, 3)
