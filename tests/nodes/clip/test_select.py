"""Select Latents follows what was chosen, and refuses what cannot be meant."""

import json

import pytest
import torch

from clip_vae_lora.nodes.clip.selection import PictureSelection


def test_latents_follow_the_selection(place, model, shapes):
    selection = place.node("CVL_RankImages").rank(model, shapes, "a blue star", keep=2)["result"][1]
    latent = {"samples": torch.rand(3, 4, 8, 8), "noise_mask": torch.rand(3, 1, 8, 8)}
    found, report = place.node("CVL_SelectLatents").select(latent, selection=selection)["result"]
    places = list(selection.places)
    assert torch.equal(found["samples"], latent["samples"][places]) and found["batch_index"] == places
    assert torch.equal(found["noise_mask"], latent["noise_mask"][places])
    typed = place.node("CVL_SelectLatents").select(latent, indices=str(places))["result"][0]
    assert torch.equal(typed["samples"], found["samples"]) and json.loads(report)["indices"] == places


@pytest.mark.parametrize(
    "indices, selection, says",
    [
        ("", None, "nothing says which"),
        ("1, x", None, "whole numbers"),
        ("1.5", None, "whole numbers"),
        ("3", None, "the picture at 3, but this batch has 3"),
        ("-1", None, "the picture at -1"),
        ("", PictureSelection((0,), 8), "a batch of 8 pictures, but this LATENT has 3"),
        ("0,1", PictureSelection((1, 0), 3), "keep one of them"),
    ],
)
def test_places_that_cannot_be_meant_are_refused_in_one_sentence(place, indices, selection, says):
    with pytest.raises(ValueError, match=says) as error:
        place.node("CVL_SelectLatents").select({"samples": torch.rand(3, 4, 8, 8)}, indices, selection)
    assert "\n" not in str(error.value)
