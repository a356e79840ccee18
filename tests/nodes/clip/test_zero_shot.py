"""Zero-Shot Classify: labels with synonyms and templates, none of these, long lists, and what is kept of texts."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.judging.templates import SETS
from clip_vae_lora.nodes.clip import features
from clip_vae_lora.nodes.host import host

from ...support import tiny


@pytest.fixture
def model(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    features.TEXTS.clear()
    return place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]


@pytest.fixture
def classify(place, model):
    """(answer's results, its JSON), for `labels` and whatever else."""
    image = torch.rand(2, 40, 48, 3, generator=torch.Generator().manual_seed(0))

    def run(labels, template="a photo of a {label}", *, on=model, **more):
        answer = place.node("CVL_ZeroShotClassify").classify(on, image, labels, template, **more)
        return answer["result"], json.loads(answer["result"][1])

    return run


def test_a_label_of_several_words_is_the_mean_of_their_features(classify, model):
    _, report = classify("cat | kitten\ndog")
    seen = features.encode_pictures(model, torch.rand(2, 40, 48, 3, generator=torch.Generator().manual_seed(0)))
    words = features.encode_texts(model, None, ["a photo of a cat", "a photo of a kitten"]).features
    expected = seen @ torch.nn.functional.normalize(words.mean(0), dim=0)
    shown = [picture["cosine"]["cat"] for picture in report["pictures"]]
    assert shown == pytest.approx(expected.tolist(), abs=2e-6)  # printed with six digits
    assert report["synonyms"] == {"cat": ["cat", "kitten"]} and report["labels"] == ["cat", "dog"]


def test_every_template_counts(classify):
    _, alone = classify("cat\ndog", "{}")
    _, several = classify("cat\ndog", "{}", template_set="7 for photographs", more_templates="my {}\n\nyour {}")
    assert several["template_count"] == 10 and several["templates"][-2:] == ["my {}", "your {}"]
    assert alone["pictures"][0]["cosine"] != several["pictures"][0]["cosine"]


def test_the_best_labels_the_lead_and_the_pictures_agree_with_the_report(classify):
    (best, _, chart, table, top, margin), report = classify("cat\ndog\nbus\ntree", top_k=3)
    assert chart.shape[0] == 2 and table.shape[0] == 1
    assert best.split("\n") == [picture["best"] for picture in report["pictures"]]
    assert margin == min(picture["margin"] for picture in report["pictures"])
    for line, picture in zip(top.split("\n"), report["pictures"]):
        ranked = sorted(picture["probabilities"], key=picture["probabilities"].get, reverse=True)[:3]
        assert line.split(", ") == ranked == [entry["label"] for entry in picture["top"]]
        first, second = (picture["probabilities"][label] for label in ranked[:2])
        assert picture["margin"] == pytest.approx(first - second, abs=2e-6)


def test_a_picture_that_fits_no_label_is_none_of_these(classify):
    (best, *_), report = classify("cat\ndog", none_below=1.0)
    assert best == "none of these\nnone of these" and all(picture["none_of_these"] for picture in report["pictures"])


def test_the_scale_is_the_models_own_or_the_one_given(classify, model):
    assert classify("cat\ndog")[1]["scale"] == pytest.approx(float(model.network.logit_scale.exp()))
    _, report = classify("cat\ndog", scale=2.5)
    first, second = (report["pictures"][0]["cosine"][label] for label in ("cat", "dog"))
    expected = torch.tensor([first, second]).mul(2.5).softmax(0)[0]
    assert report["pictures"][0]["probabilities"]["cat"] == pytest.approx(float(expected), abs=1e-5)


def test_one_label_two_names_alike_and_long_ones_are_said(classify):
    assert "look at the cosine" in classify("cat")[1]["notes"][0]
    assert classify("cat\ndog\ncat")[1]["notes"] == ["named more than once, counted once: cat"]
    (note,) = classify("cat\n" + "dog " * 90)[1]["notes"]
    assert note.endswith("tokens too long, the end was cut")


def test_braces_and_bars_in_labels_do_no_harm(classify):
    _, report = classify("{cat}\n{}\n{label} }{\n||x||\n%s {0}")
    assert report["labels"] == ["{cat}", "{}", "{label} }{", "x", "%s {0}"]


def test_ten_thousand_labels_are_classified_and_the_report_stays_readable(classify):
    (best, text, chart, *_), report = classify("\n".join(f"thing {n}" for n in range(10_000)), "{}")
    assert report["label_count"] == 10_000 and "10000 labels" in report["notes"][0]
    assert len(text) < 400_000 and chart.shape[1] < 1000
    for line, picture in zip(best.split("\n"), report["pictures"]):
        assert line == picture["best"] == next(iter(picture["probabilities"]))


def test_only_a_template_without_a_place_is_refused_and_none_at_all(classify):
    with pytest.raises(ValueError, match="'my cat' has no place for the label"):
        classify("cat\ndog", more_templates="my cat")
    with pytest.raises(ValueError, match="no place for the label"):
        classify("cat\ndog", "")
    assert classify("cat\ndog", "", template_set=list(SETS)[1])[1]["template_count"] == 7


def test_a_picture_with_nan_is_refused(place, model):
    with pytest.raises(ValueError, match="NaN"):
        place.node("CVL_ZeroShotClassify").classify(model, torch.full((1, 9, 9, 3), torch.nan), "a, b", "{}")


def test_texts_are_encoded_once_and_anew_for_a_model_with_a_lora(place, model, monkeypatch):
    asked, real = [], host.text_features

    def counted(model, clip, texts, on_step, precision):
        asked.append(list(texts))
        return real(model, clip, texts, on_step, precision)

    monkeypatch.setattr(features.host, "text_features", counted)
    before = features.encode_texts(model, None, ["a cat", "a dog"]).features
    features.encode_texts(model, None, ["a dog"])
    names = ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"]
    tiny.lora_file(place.models / "loras" / "l.safetensors", names)
    changed = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip_model=model)["result"][3]
    after = features.encode_texts(changed, None, ["a cat", "a dog"]).features
    assert asked == [["a cat", "a dog"]] * 2
    assert (before - after).abs().max() > 1e-4
    assert torch.equal(features.encode_texts(model, None, ["a cat", "a dog"]).features, before)
    assert len(asked) == 2


def test_the_clip_vision_of_a_whole_clip_is_as_good_as_the_clip(place, model, classify):
    vision = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][-1]
    assert classify("cat\ndog")[1]["pictures"] == classify("cat\ndog", on=vision)[1]["pictures"]
