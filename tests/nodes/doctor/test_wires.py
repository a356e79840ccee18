"""The Doctor on what wires carry, without a ComfyUI: odd things are said or passed over, and nothing sound is called
wrong.
"""

import json

import pytest
import torch

from clip_vae_lora.nodes.doctor.node import Doctor

WIDTH = 768


def examined(**inputs) -> dict:
    answer = Doctor().examine(**inputs)
    report = json.loads(answer["result"][0])
    assert answer["result"][1] == report["fits"] == (not report["misfits"])
    assert answer["ui"]["text"] and json.loads(answer["ui"]["cvl_report"][0]) == report
    return report


def conditioning(width=WIDTH, **options):
    return [[torch.ones(1, 77, width), options]]


def filled(*shape):
    return {"samples": torch.ones(*shape)}


SOUND = {  # inputs -> nothing of this is wrong
    "nothing": {},
    "an empty latent": {"latent": {"samples": torch.zeros(1, 4, 8, 8)}},
    "an empty video": {"latent": {"samples": torch.zeros(1, 16, 3, 8, 8)}},
    "a latent of sound": {"latent": filled(1, 64, 100)},
    "a latent with a mask and numbers": {
        "latent": {**filled(2, 4, 8, 8), "noise_mask": torch.ones(1, 1, 64, 64), "batch_index": [0, 1]}
    },
    "a latent of half precision": {"latent": {"samples": torch.ones(1, 4, 8, 8, dtype=torch.float16)}},
    "a prompt": {"positive": conditioning(pooled_output=torch.ones(1, WIDTH))},
    "a prompt without a pooled text": {"positive": conditioning()},
    "a prompt whose pooled text is None": {"positive": conditioning(pooled_output=None)},
    "a prompt of zeros": {"negative": [[torch.zeros(1, 77, WIDTH), {"pooled_output": torch.zeros(1, WIDTH)}]]},
    "a prompt without a tensor": {"positive": [[None, {}]]},
    "several areas": {"positive": conditioning(area=(8, 8, 0, 0)) + conditioning(strength=0.5)},
    "one token": {"positive": [[torch.ones(1, WIDTH), {}]]},
    "control": {"positive": conditioning(control=object(), control_apply_to_uncond=False)},
    "guidance": {"positive": conditioning(guidance=3.5)},
    "an inpainting prompt": {
        "positive": conditioning(concat_latent_image=torch.ones(1, 4, 8, 8), concat_mask=torch.ones(1, 1, 64, 64))
    },
    "a reference": {"positive": conditioning(reference_latents=[torch.ones(1, 16, 8, 8)])},
    "a picture": {"image": torch.rand(2, 8, 8, 3)},
    "a picture with alpha": {"image": torch.rand(1, 8, 8, 4)},
    "a grey picture": {"image": torch.rand(1, 8, 8, 1)},
    "a mask": {"mask": torch.ones(1, 8, 8)},
    "a flat mask": {"mask": torch.ones(8, 8)},
    "the mask of a picture without alpha": {"image": torch.rand(1, 300, 200, 3), "mask": torch.zeros(1, 64, 64)},
    "something of another pack": {"anything": object()},
    "a number": {"anything": 3},
    "a text": {"anything": "hello"},
    "an unknown model": {"model": object()},
    "an unknown CLIP": {"clip": object()},
    "an unknown VAE": {"vae": object()},
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_not_called_wrong(name):
    assert examined(**SOUND[name])["misfits"] == []


NAN = float("nan")
BROKEN = {  # inputs -> a word of the sentence
    "a latent with NaN": ({"latent": {"samples": torch.full((1, 4, 8, 8), NAN)}}, "NaN"),
    "an infinite latent": ({"latent": {"samples": torch.full((1, 4, 8, 8), float("inf"))}}, "NaN"),
    "a latent without cells": ({"latent": {"samples": torch.zeros(1, 4, 0, 8)}}, "shape"),
    "a flat latent": ({"latent": {"samples": torch.zeros(4, 8)}}, "shape"),
    "no latent at all": ({"latent": {}}, "expected"),
    "a list for a latent": ({"latent": [1]}, "expected"),
    "an empty conditioning": ({"positive": []}, "empty"),
    "a prompt with NaN": ({"positive": [[torch.full((1, 77, WIDTH), NAN), {}]]}, "NaN"),
    "a prompt whose second part has NaN": (
        {"negative": conditioning() + [[torch.full((1, 77, WIDTH), NAN), {}]]},
        "NaN",
    ),
    "prompts of two encoders": ({"positive": conditioning() + conditioning(1024)}, "different text encoders"),
    "a text for a conditioning": ({"positive": "a cat"}, "expected"),
    "a picture with NaN": ({"image": torch.full((1, 8, 8, 3), NAN)}, "NaN"),
    "a picture without pixels": ({"image": torch.ones(1, 0, 8, 3)}, "shape"),
    "channels first": ({"image": torch.ones(1, 3, 8, 8)}, "shape"),
    "a mask without pixels": ({"mask": torch.ones(1, 0, 8)}, "shape"),
    "a mask with NaN": ({"mask": torch.full((1, 8, 8), NAN)}, "NaN"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name):
    inputs, word = BROKEN[name]
    (misfit,) = examined(**inputs)["misfits"]
    assert word in misfit["problem"]


def test_a_picture_outside_of_0_to_1_is_a_note():
    report = examined(image=torch.full((1, 8, 8, 3), 200.0))
    assert report["fits"] and "200" in report["notes"][0]


def test_a_mask_of_another_shape_is_a_note():
    report = examined(image=torch.rand(1, 300, 200, 3), mask=torch.ones(1, 64, 64))
    assert report["fits"] and "stretched" in report["notes"][0]
    assert not examined(image=torch.rand(1, 300, 200, 3), mask=torch.ones(1, 150, 100))["notes"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (filled(1, 4, 8, 8), "LATENT"),
        (conditioning(), "CONDITIONING"),
        (torch.rand(1, 8, 8, 3), "IMAGE"),
        (torch.rand(1, 8, 8), "MASK"),
        (object(), "other"),
        ([], "CONDITIONING"),
        ({"waveform": torch.zeros(1, 2, 8), "sample_rate": 44100}, "other"),
    ],
)
def test_anything_is_told_for_what_it_is(value, kind):
    assert examined(anything=value)["things"][0]["kind"] == kind


def test_the_table_has_a_row_for_each_thing_with_a_cell_for_each_column():
    text = Doctor().examine(latent=filled(1, 4, 8, 8), image=torch.rand(1, 8, 8, 3))["ui"]["text"][0]
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    assert [len(row) for row in rows] == [6, 6, 6] and [row[0] for row in rows[1:]] == ["LATENT", "IMAGE"]


def test_what_is_connected_is_not_changed():
    given = conditioning(pooled_output=torch.ones(1, WIDTH))
    latent = filled(1, 4, 8, 8)
    examined(positive=given, latent=latent)
    assert list(given[0][1]) == ["pooled_output"] and list(latent) == ["samples"]
