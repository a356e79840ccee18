"""The inpainting nodes on the standalone host: a hole, a round trip, and a paste that leaves the rest alone."""

import json

import pytest
import torch

from ...support import tiny

NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture
def vae(place):
    """Cells of 2 px."""
    tiny.vae_file(place.models / "vae" / "tiny.safetensors")
    return place.node("CVL_LoadVAE").load("tiny.safetensors")["result"][0]


@pytest.fixture
def encode(place, vae):
    return lambda pixels, mask, *more: place.node("CVL_VAEEncodeInpaint").encode(pixels, vae, mask, *more)


@pytest.fixture
def paste(place):
    return place.node("CVL_CompositeInpaint").composite


def picture(height=20, width=24, batch=1, seed=0, channels=3):
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


def box(height=20, width=24, batch=1):
    mask = torch.zeros(batch, height, width)
    mask[:, 8:12, 9:15] = 1
    return mask


def report(answer):
    return json.loads(next(value for value in answer["result"] if isinstance(value, str)))


# encoding


def test_the_latent_is_the_encoding_of_the_picture_with_a_grey_hole(place, vae, encode):
    image, mask = picture(), box()
    grey = torch.where(mask[..., None] > 0, 0.5, image)
    latent = encode(image, mask)["result"][0]
    expected = place.node("CVL_VAEEncode").encode(grey, vae)["result"][0]["samples"]
    assert torch.equal(latent["samples"], expected) and set(latent) == {"samples", "noise_mask"}
    assert latent["noise_mask"].shape == (1, 1, 20, 24)
    rows, columns = latent["noise_mask"][0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 7, 17)  # 2 px before, 3 px behind


def test_a_size_that_fills_no_cells_is_padded_and_remembered(encode):
    answer = encode(picture(19, 23), box(19, 23))
    latent = answer["result"][0]
    assert latent["cvl_size_px"] == [19, 23] and latent["noise_mask"].shape == (1, 1, 20, 24)
    assert latent["samples"].shape == (1, 4, 10, 12) and report(answer)["padded_px"] == [1, 1]
    assert "mirrored 1 rows at the bottom and 1 columns at the right" in answer["ui"]["text"][0]


def test_a_mask_of_another_size_is_scaled_and_that_is_said(encode):
    answer = encode(picture(), torch.ones(1, 5, 6))
    assert report(answer)["mask_scaled"] and "the mask of 6 x 5 px was scaled" in answer["ui"]["text"][0]
    assert (answer["result"][0]["noise_mask"] == 1).all() and "covers every pixel" in answer["ui"]["text"][0]


def test_an_empty_mask_and_a_soft_one_are_said(encode):
    assert "the mask is empty" in encode(picture(), torch.zeros(1, 20, 24))["ui"]["text"][0]
    assert "rounded at a half" in encode(picture(), box() * 0.7)["ui"]["text"][0]


@pytest.mark.parametrize("pictures,masks,latents", [(3, 1, 3), (1, 3, 3), (2, 2, 2)])
def test_one_mask_goes_with_many_pictures_and_one_picture_with_many_masks(encode, pictures, masks, latents):
    latent = encode(picture(batch=pictures), box(batch=masks))["result"][0]
    assert len(latent["samples"]) == latents and len(latent["noise_mask"]) == masks


@pytest.mark.parametrize("shape", [(20, 24), (1, 1, 20, 24)])
def test_a_mask_is_taken_in_the_shapes_that_stock_nodes_take(encode, shape):
    expected = encode(picture(), box())["result"][0]
    found = encode(picture(), box().reshape(shape))["result"][0]
    assert torch.equal(found["samples"], expected["samples"])
    assert torch.equal(found["noise_mask"], expected["noise_mask"])


def test_alpha_is_not_used(encode):
    image = picture(channels=4)
    found, expected = (encode(pixels, box())["result"][0] for pixels in (image, image[..., :3]))
    assert torch.equal(found["samples"], expected["samples"])


def test_one_pixel_is_a_picture(place, paste):
    vae = place.node("CVL_LoadVAE").load("bundled/tiny_vae.safetensors")["result"][0]
    latent = place.node("CVL_VAEEncodeInpaint").encode(picture(1, 1), vae, torch.ones(1, 1, 1))["result"][0]
    assert latent["samples"].shape == (1, 4, 1, 1) and latent["cvl_size_px"] == [1, 1]
    assert torch.equal(paste(picture(1, 1), picture(4, 4), torch.ones(1, 1, 1))["result"][0], picture(4, 4)[:, :1, :1])


def test_the_inputs_keep_their_bits(encode, paste):
    image, mask = picture(), box()
    before = image.clone(), mask.clone()
    encode(image, mask)
    paste(image, picture(seed=1), mask)
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])


def test_there_and_back_the_picture_has_its_size_and_what_was_not_masked_its_bits(place, vae, encode, paste):
    image, mask = picture(19, 23), box(19, 23)
    latent = encode(image, mask)["result"][0]
    decoded = vae.network.decode(latent["samples"]).add(1).div(2).clamp(0, 1).movedim(1, -1)  # 20 x 24 px
    answer = paste(image, decoded, mask, 2, 2)
    found, weight, _ = answer["result"]
    assert found.shape == image.shape and "cut at the bottom and right from 24 x 20 px" in answer["ui"]["text"][0]
    assert torch.equal(found[weight == 0], image[weight == 0])
    assert torch.equal(found[mask == 1], decoded[:, :19, :23][mask == 1])


# pasting


def test_pixels_outside_the_grown_mask_keep_every_bit(paste):
    image, other = picture(40, 40), picture(40, 40, seed=1)
    mask = torch.zeros(1, 40, 40)
    mask[:, 18:22, 18:22] = 1
    found, weight, _ = paste(image, other, mask, 4, 4)["result"]
    outside = torch.ones(40, 40, dtype=torch.bool)
    outside[14:26, 14:26] = False
    assert torch.equal(found[0][outside], image[0][outside]) and (weight[0][outside] == 0).all()
    assert (weight[0][~outside] > 0).all() and (weight[0, 18:22, 18:22] == 1).all()


def test_without_feather_and_growth_the_mask_itself_decides(paste):
    image, other, mask = picture(), picture(seed=1), box()
    answer = paste(image, other, mask, 0, 0)
    found, weight, _ = answer["result"]
    assert torch.equal(weight, mask)
    assert torch.equal(found, torch.where(mask[..., None] > 0, other, image))
    assert report(answer)["untouched"] == pytest.approx(1 - 24 / 480, abs=1e-6)


def test_a_picture_of_another_size_is_scaled_and_that_is_said(paste):
    answer = paste(picture(), torch.full((1, 40, 50, 3), 0.25), box(10, 12), 0, 0)
    text = answer["ui"]["text"][0]
    assert "scaled (bicubic, antialiased) from 50 x 40 px" in text and "the mask of 12 x 10 px was scaled" in text
    assert answer["result"][0].shape == (1, 20, 24, 3)


def test_an_empty_mask_gives_the_original(paste):
    answer = paste(picture(), picture(seed=1), torch.zeros(1, 20, 24))
    assert torch.equal(answer["result"][0], picture()) and "the mask is empty" in answer["ui"]["text"][0]


def test_a_mask_thinner_than_its_feather_is_said_because_nothing_of_it_might_show(paste):
    answer = paste(picture(), picture(seed=1), box(), 12, 0)
    assert "the mask is too thin for a feather of 12 px" in answer["ui"]["text"][0] and report(answer)["thinned"]
    assert "too thin" not in paste(picture(), picture(seed=1), box(), 4, 4)["ui"]["text"][0]


def test_alpha_of_the_original_is_kept(paste):
    image = picture(channels=4)
    found = paste(image, picture(seed=1), torch.ones(1, 20, 24))["result"][0]
    assert torch.equal(found[..., 3], image[..., 3]) and torch.equal(found[..., :3], picture(seed=1))


@pytest.mark.parametrize("counts", [(3, 1, 1), (1, 3, 1), (1, 1, 3), (3, 3, 1), (3, 3, 3)])
def test_batches_go_with_one_or_with_as_many(paste, counts):
    originals, others, masks = counts
    found, weight, _ = paste(picture(batch=originals), picture(batch=others, seed=1), box(batch=masks))["result"]
    assert found.shape == (3, 20, 24, 3) and weight.shape == (3, 20, 24)


# bad input

BAD_IMAGES = {
    "one channel": (picture(channels=1), "RGB pictures"), "five dimensions": (picture()[None], "RGB pictures"),
    "no pixels": (torch.zeros(1, 0, 4, 3), "no pixels"), "NaN": (torch.full((1, 20, 24, 3), NAN), "NaN"),
    "infinite": (torch.full((1, 20, 24, 3), INFINITE), "infinite"),
}  # fmt: skip
BAD_MASKS = {
    "a picture": (picture(), r"a MASK of shape \[batch, height, width\]"),
    "five dimensions": (box()[None, None], r"a MASK of shape \[batch, height, width\]"),
    "no pixels": (torch.zeros(1, 0, 4), "no pixels"),
    "NaN": (torch.full((1, 20, 24), NAN), "NaN"),
    "three for two": (box(batch=3), "batches of one size, or of one"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_picture_is_one_sentence(encode, paste, kind):
    image, said = BAD_IMAGES[kind]
    for call in (
        lambda: encode(image, box()),
        lambda: paste(image, picture(), box()),
        lambda: paste(picture(), image, box()),
    ):
        with pytest.raises(ValueError, match=said) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_a_bad_mask_is_one_sentence(encode, paste, kind):
    mask, said = BAD_MASKS[kind]
    for call in (lambda: encode(picture(batch=2), mask), lambda: paste(picture(batch=2), picture(batch=2), mask)):
        with pytest.raises(ValueError, match=said) as error:
            call()
        assert "\n" not in str(error.value)
