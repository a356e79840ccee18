"""Every family of VAE that ComfyUI builds, tiny, in our nodes: as in the stock nodes, or one true sentence."""

import json
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from ...support.vaes.pictures import PICTURES
from ...support.vaes.refused import SHAPES, SOUND
from ...support.vaes.stock import Family, stock_vae
from ...support.vaes.videos import VIDEOS

AS_STOCK = 1e-5  # of the largest number: fp32, additions in another order
SEEN = [*PICTURES, *VIDEOS]
made = cache(stock_vae)


def families(*needs):
    """Those that can do what a test needs."""
    return pytest.mark.parametrize(
        "family", [family for family in SEEN if all(getattr(family, need) for need in needs)], ids=lambda one: one.name
    )


@pytest.fixture
def nodes(comfyui):
    """`run(id, ...)`: the first output of a node of ours and what it reports; `stock`: the host's nodes."""

    def run(name, function, *inputs, **more):
        result = getattr(comfyui.nodes[name](), function)(*inputs, **more)["result"]
        return result[0], json.loads(result[-1])

    return SimpleNamespace(run=run, stock=comfyui.nodes)


def picture(family: Family, height=None, width=None, count=1, channels=None, seed=0):
    shape = (count, height or family.px, width or family.px, channels or family.image_channels)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def frames(family: Family):
    return family.frames if family.makes == "videos" else 2


def as_stock(got, wanted):
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=0, atol=AS_STOCK * max(1.0, wanted.abs().max().item()))


def a_latent(family: Family, vae, count=1):
    if family.encodes:
        return vae.encode(picture(family, count=count))
    return torch.randn(1, vae.latent_channels, 6, 4, generator=torch.Generator().manual_seed(2))


@families("encodes")
def test_one_picture_and_several_are_encoded_as_by_the_stock_node(nodes, family):
    vae = made(family)
    for count in (1, frames(family)):
        image = picture(family, count=count)
        wanted = nodes.stock["VAEEncode"]().encode(vae=vae, pixels=image)[0]["samples"]
        latent, report = nodes.run("CVL_VAEEncode", "encode", image, vae)
        as_stock(latent["samples"], wanted)
        assert report["loose_px"] == [0, 0] and list(latent) == ["samples"]


@families("decodes")
def test_one_latent_and_several_are_decoded_as_by_the_stock_node(nodes, family):
    vae = made(family)
    for count in (1, frames(family)):
        latent = {"samples": a_latent(family, vae, count)}
        torch.manual_seed(0)  # LTX-Video 0.9.5 and 0.9.7 decode with noise that is drawn anew each time
        wanted = nodes.stock["VAEDecode"]().decode(vae=vae, samples=latent)[0]
        torch.manual_seed(0)
        as_stock(nodes.run("CVL_VAEDecode", "decode", latent, vae)[0], wanted)


@families("encodes")
def test_a_hole_is_encoded_as_by_the_stock_node(nodes, family):
    vae, image = made(family), picture(family)
    mask = torch.zeros(1, family.px, family.px)
    mask[:, 8:30, 20:50] = 1
    latent, _ = nodes.run("CVL_VAEEncodeInpaint", "encode", image, vae, mask)
    wanted = stock_hole(nodes, vae, image, mask)
    as_stock(latent["samples"], wanted["samples"])
    assert torch.equal(latent["noise_mask"], wanted["noise_mask"])


def stock_hole(nodes, vae, image, mask):
    """VAEEncodeForInpaint; 0.3.64's counts with one factor, and so stops at a video VAE, which has three."""
    node = nodes.stock["VAEEncodeForInpaint"]()
    if not isinstance(vae.downscale_ratio, tuple) or hasattr(vae, "vae_output_dtype"):
        return node.encode(vae, image, mask, 6)[0]
    ratio, vae.downscale_ratio = vae.downscale_ratio, vae.downscale_ratio[-1]
    hole = node.encode(SimpleNamespace(downscale_ratio=ratio[-1], encode=lambda pixels: pixels), image, mask, 6)[0]
    vae.downscale_ratio = ratio
    return {**hole, "samples": vae.encode(hole["samples"])}


@families("encodes", "decodes")
def test_a_picture_of_any_size_is_padded_encoded_and_comes_back_at_its_size(nodes, family):
    vae = made(family)
    height, width = family.px + 7, family.px + 2
    image = picture(family, height, width)
    latent, report = nodes.run("CVL_VAEEncode", "encode", image, vae)
    if family.name == "pixel space":
        assert report["loose_px"] == [0, 0]  # its cells are pixels
    else:
        assert latent["cvl_size_px"] == [height, width] and any("padded to" in note for note in report["notes"])
    back, report = nodes.run("CVL_VAEDecode", "decode", latent, vae)
    scale = vae.spacial_compression_decode() / vae.spacial_compression_encode()
    assert back.shape[1:3] == (-(-height * scale // 1), -(-width * scale // 1)), report["notes"]


@families("encodes")
def test_alpha_goes_in_where_the_vae_has_it_and_is_named_where_it_has_not(nodes, family):
    vae, image = made(family), picture(family, channels=4)
    latent, report = nodes.run("CVL_VAEEncode", "encode", image, vae)
    as_stock(latent["samples"], vae.encode(image[..., : family.image_channels]))
    assert ("the alpha channel is not encoded" in report["notes"]) == (family.image_channels == 3)
    if family.image_channels == 4:
        plain, report = nodes.run("CVL_VAEEncode", "encode", image[..., :3], vae)
        as_stock(plain["samples"], vae.encode(torch.cat((image[..., :3], torch.ones_like(image[..., :1])), -1)))
        assert any("opaque" in note for note in report["notes"])


@families("decodes")
def test_the_first_of_several_latents_in_one_is_decoded(comfyui, nodes, family):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this ComfyUI has no nested latents")
    vae = made(family)
    latent = a_latent(family, vae)
    pair = {"samples": nested.NestedTensor([latent, torch.zeros(1, 8, 16, 4)])}
    torch.manual_seed(0)
    image, report = nodes.run("CVL_VAEDecode", "decode", pair, vae)
    torch.manual_seed(0)
    as_stock(image, nodes.stock["VAEDecode"]().decode(vae=vae, samples=pair)[0])
    assert "the first of 2 latents" in report["notes"][0]


@families("decodes")
@pytest.mark.parametrize("wrong", ["channels", "frames", "empty"])
def test_a_latent_of_another_model_is_one_sentence(comfyui, nodes, family, wrong):
    vae = made(family)
    latent = a_latent(family, vae)
    bad = {
        "channels": torch.cat((latent, latent), 1),
        "frames": latent[:, :, 0] if latent.ndim == 5 else latent.unsqueeze(2).repeat(1, 1, 2, 1, 1),
        "empty": latent[..., :0],
    }[wrong]
    with pytest.raises(ValueError, match="this VAE wants|LATENT of shape"):
        nodes.run("CVL_VAEDecode", "decode", {"samples": bad}, vae)


@families("encodes")
def test_its_distribution_has_the_stock_latent_as_mean_or_is_refused_in_words(nodes, family):
    vae, image = made(family), picture(family, count=frames(family))
    try:
        mean, _ = nodes.run("CVL_LatentDistribution", "measure", image, vae)
    except ValueError as error:
        assert "distribution" in str(error) and family.name not in HAVE_DISTRIBUTIONS
        with pytest.raises(ValueError, match="distribution"):
            nodes.run("CVL_VAEEncode", "encode", image, vae, "sample")
        return
    assert family.name in HAVE_DISTRIBUTIONS
    as_stock(mean["samples"], vae.encode(image))
    drawn = [nodes.run("CVL_VAEEncode", "encode", image, vae, "sample", seed)[0]["samples"] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and (drawn[0] - drawn[2]).abs().max() > 1e-3


HAVE_DISTRIBUTIONS = {
    "SD1", "Flux.1", "SD x4 upscaler", "FLUX.2", "wide decoder", "SVD", "HunyuanImage 2.1", "HunyuanImage refiner",
    "Wan 2.1", "Wan 2.1 with alpha", "Wan 2.2", "HunyuanVideo",
}  # fmt: skip


@pytest.mark.parametrize("family", [*SOUND, *SHAPES], ids=lambda one: one.name)
def test_a_vae_for_sound_or_shapes_is_refused_by_name(comfyui, nodes, family):
    vae = made(family)
    image, mask = torch.rand(1, 64, 64, 3), torch.ones(1, 64, 64)
    for name, function, inputs in (
        ("CVL_VAEEncode", "encode", (image, vae)),
        ("CVL_VAEDecode", "decode", ({"samples": torch.zeros(1, 8, 16, 4)}, vae)),
        ("CVL_VAEEncodeInpaint", "encode", (image, vae, mask)),
        ("CVL_LatentDistribution", "measure", (image, vae)),
        ("CVL_SamplePrior", "draw", (64, 64, 1, 0, "standard normal", vae)),
    ):
        with pytest.raises(ValueError, match=f"this one is for {family.makes}"):
            nodes.run(name, function, *inputs)


def test_a_checkpoint_without_a_vae_is_one_sentence(comfyui, nodes):
    import comfy.sd

    vae = comfy.sd.VAE(sd={})
    image = torch.rand(1, 64, 64, 3)
    for name, function, inputs in (
        ("CVL_VAEEncode", "encode", (image, vae)),
        ("CVL_VAEDecode", "decode", ({"samples": torch.zeros(1, 4, 8, 8)}, vae)),
        ("CVL_VAEEncodeInpaint", "encode", (image, vae, torch.ones(1, 64, 64))),
        ("CVL_LatentDistribution", "measure", (image, vae)),
        ("CVL_SamplePrior", "draw", (64, 64, 1, 0, "standard normal", vae)),
    ):
        with pytest.raises(ValueError, match="this output holds none"):
            nodes.run(name, function, *inputs)


@pytest.mark.parametrize("node,inputs", [("LatentFlip", "x-axis: vertically"), ("LatentRotate", "90 degrees")])
def test_the_padding_of_a_latent_that_stock_nodes_flipped_or_turned_is_found(nodes, node, inputs):
    family = next(one for one in PICTURES if one.name == "SD1")
    vae, image = made(family), picture(family, 71, 66)
    latent, _ = nodes.run("CVL_VAEEncode", "encode", image, vae)
    changed = call(nodes.stock[node], latent, inputs)
    whole = nodes.run("CVL_VAEDecode", "decode", {"samples": changed["samples"]}, vae)[0]
    cut, _ = nodes.run("CVL_VAEDecode", "decode", changed, vae)
    wanted = whole[:, 1:, :66] if node == "LatentFlip" else whole[:, :66, 1:]
    assert cut.shape[1:3] == ((71, 66) if node == "LatentFlip" else (66, 71)) and torch.equal(cut, wanted)


def call(node, *inputs):
    """A stock node's output, of the old kind of class or the new."""
    if hasattr(node, "execute") and not hasattr(node, "FUNCTION_OLD"):
        return node.execute(*inputs).result[0]
    return getattr(node(), node.FUNCTION)(*inputs)[0]


BY_THE_HOST = {"HunyuanVideo", "HunyuanVideo 1.5", "LTX-Video", "LTX-Video 0.9.5", "CogVideoX"}


@pytest.mark.parametrize(
    "family", [family for family in VIDEOS if family.name in BY_THE_HOST], ids=lambda family: family.name
)
def test_a_vae_that_comfyui_runs_is_said_on_the_node_with_the_reason(comfyui, nodes, family):
    vae = made(family)
    encoded = comfyui.nodes["CVL_VAEEncode"]().encode(picture(family), vae)
    decoded = comfyui.nodes["CVL_VAEDecode"]().decode(encoded["result"][0], vae, tiling="budget", budget_mb=512)
    for answer in (encoded, decoded):
        text = answer["ui"]["text"][0]
        assert "by ComfyUI itself: our networks do not describe this kind of VAE" in text
        assert "overlap and are blended" in text
    assert "the budget of 512 MB was not kept" in text
