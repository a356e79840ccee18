"""A SigLIP file in the nodes: loaded, compared with texts, each label judged by its own sigmoid."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ...support import siglip

LABELS = "red circle\nblue square\na cat"


@pytest.fixture
def folder(place):
    return place.models / "clip_vision"


@pytest.fixture
def file(folder):
    model = siglip.hugging_face(vocab=600)
    save_file(model.state_dict(), folder / "siglip.safetensors")
    return model


def load(place):
    return place.node("CVL_LoadCLIPModel").load("siglip.safetensors")


def test_without_its_vocabulary_it_looks_at_pictures_and_says_what_is_missing(place, file, shapes):
    loaded = load(place)
    model, report, vision = loaded["result"]
    assert "a SigLIP that looks at pictures at 64 x 64 px" in json.dumps(loaded["ui"])
    assert any("its vocabulary is not beside it" in note for note in json.loads(report)["notes"])
    with pytest.raises(ValueError, match="this SigLIP cannot read texts: its vocabulary is not beside it"):
        place.node("CVL_ZeroShotClassify").classify(model, shapes, LABELS, "{label}")
    assert vision.encode_image(shapes).image_embeds.shape == (len(shapes), 64)


def test_labels_are_judged_one_by_one(place, file, folder, shapes):
    siglip.gemma_json(folder)
    model = load(place)["result"][0]
    found = json.loads(place.node("CVL_ZeroShotClassify").classify(model, shapes[:1], LABELS, "{label}")["result"][1])
    picture = found["pictures"][0]
    for label, cosine in picture["cosine"].items():
        expected = torch.tensor(cosine * torch.tensor(2.0).exp().item() - 3.0).sigmoid()
        assert picture["probabilities"][label] == pytest.approx(float(expected), abs=2e-5)  # JSON has six digits
    assert sum(picture["probabilities"].values()) < 0.9
    assert any("judges each label by itself" in note for note in found["notes"])


def test_one_label_is_no_certainty(place, file, folder, shapes):
    siglip.gemma_json(folder)
    model = load(place)["result"][0]
    found = json.loads(place.node("CVL_ZeroShotClassify").classify(model, shapes[:1], "cat", "{label}")["result"][1])
    assert not any("one label only" in note for note in found["notes"])
    assert found["pictures"][0]["probabilities"]["cat"] < 0.9
