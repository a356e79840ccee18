"""A picture that fills no whole cells comes back at its size, whatever was done to its latent, or nothing is cut."""

import json

import pytest
import torch

from ...support import tiny

ROUNDING = 1e-5


@pytest.fixture
def vae(place):
    tiny.vae_file(place.models / "vae" / "v.safetensors")  # 2 px per cell
    return place.node("CVL_LoadVAE").load("v.safetensors")["result"][0]


def picture(height, width, seed=0):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def encoded(place, vae, image):
    return place.node("CVL_VAEEncode").encode(image, vae)["result"][0]


def decoded(place, vae, latent):
    image, report = place.node("CVL_VAEDecode").decode(latent, vae)["result"]
    return image, json.loads(report)["notes"]


@pytest.mark.parametrize("way", ["mirrored", "upside down", "turned"])
def test_a_latent_that_was_flipped_or_turned_is_cut_where_its_padding_lies_now(place, vae, way):
    latent = encoded(place, vae, picture(21, 31))
    whole = decoded(place, vae, {"samples": latent["samples"]})[0]
    turned = {
        "mirrored": lambda x, rows, columns: x.flip(columns),
        "upside down": lambda x, rows, columns: x.flip(rows),
        "turned": lambda x, rows, columns: torch.rot90(x, 1, (rows, columns)),
    }[way]
    changed = {**latent, "samples": turned(latent["samples"], 2, 3)}
    alone = decoded(place, vae, {"samples": changed["samples"]})[0]
    image, notes = decoded(place, vae, changed)
    wanted = turned(torch.ones(1, 21, 31), 1, 2).shape[1:]
    assert image.shape[1:3] == wanted and any("flipped or turned" in note for note in notes)
    rows = slice(1, None) if way in ("upside down", "turned") else slice(0, 21)
    columns = slice(1, None) if way == "mirrored" else slice(0, wanted[1])
    assert whole.shape[1:3] == (22, 32) and torch.equal(image, alone[:, rows, columns])


def test_a_batch_of_two_sizes_is_not_cut_and_that_is_said(place, vae):
    first, second = (encoded(place, vae, picture(*size, seed)) for size, seed in (((21, 31), 0), ((22, 32), 1)))
    batched = {**first, "samples": torch.cat((first["samples"], second["samples"]))}
    image, notes = decoded(place, vae, batched)
    assert image.shape == (2, 22, 32, 3) and any("batched with others" in note for note in notes)


def test_a_size_that_is_none_is_said_and_nothing_is_cut(place, vae):
    latent = {**encoded(place, vae, picture(21, 31)), "cvl_size_px": [21, -3]}
    image, notes = decoded(place, vae, latent)
    assert image.shape[1:3] == (22, 32) and any("no height and width" in note for note in notes)


def test_a_mixture_of_two_of_one_size_is_cut_and_of_two_sizes_is_not(place, vae):
    mix = place.node("CVL_LatentInterpolate").interpolate
    one, same, other = (encoded(place, vae, picture(*s)) for s in ((21, 31), (21, 31), (22, 31)))
    latent = mix(one, same, 0.5, "linear", 3)["result"][0]
    assert decoded(place, vae, latent)[0].shape == (3, 21, 31, 3)
    answer = mix(one, other, 0.5, "linear", 3)
    assert "keeps no size" in answer["ui"]["text"][0] and "cvl_size_px" not in answer["result"][0]


def test_several_latents_in_one_are_decoded_from_the_first(place, vae):
    class Nested:
        is_nested = True

        def unbind(self):
            return [torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 5)]

    image, notes = decoded(place, vae, {"samples": Nested()})
    assert image.shape == (1, 16, 16, 3) and "the first of 2 latents" in notes[0]
