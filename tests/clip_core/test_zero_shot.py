"""Zero-shot classification: labels, templates, and scores against transformers on the same pixels."""

import pytest
import torch

from clip_vae_lora.clip_core.model import CLIP
from clip_vae_lora.clip_core.preprocess import preprocess
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.clip_core.zero_shot import classify, fill, label_list

LABELS = ["a cat", "two dogs", "nothing at all"]


def test_labels_are_one_a_line():
    assert label_list(" cat \n\ndog, brown\n") == (["cat", "dog, brown"], [])


def test_one_line_is_cut_at_commas():
    assert label_list("cat, dog,, bird,") == (["cat", "dog", "bird"], [])


def test_a_label_named_twice_is_counted_once_and_reported():
    assert label_list("cat\ndog\ncat") == (["cat", "dog"], ["named more than once, counted once: cat"])


@pytest.mark.parametrize("text", ["", " \n ", ",", "\n,,\n"])
def test_no_labels_are_refused(text):
    with pytest.raises(ValueError, match="there are no labels"):
        label_list(text)


@pytest.mark.parametrize("template", ["a photo of a {}", "a photo of a {label}"])
def test_the_label_goes_where_the_template_says(template):
    assert fill(template, "{label} {}") == "a photo of a {label} {}"


@pytest.mark.parametrize("template", ["", "a photo", "{name}", "{"])
def test_a_template_without_a_place_is_refused(template):
    with pytest.raises(ValueError, match="has no place for the label"):
        fill(template, "cat")


def test_scores_are_those_of_transformers(networks):
    pytest.importorskip("transformers")
    config, tokenizer = networks.tiny("ViT-B-32"), Tokenizer()
    theirs, image = networks.hf_clip(config), torch.rand(2, 70, 90, 3)
    ours = CLIP(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    steps = []
    found = classify(
        ours, tokenizer, image, LABELS, "a photo of {}", on_step=lambda done, total: steps.append((done, total))
    )
    ids = tokenizer.batch([f"a photo of {label}" for label in LABELS])[0]
    pixels = preprocess(image, config.vision.image_px, config.mean, config.std)
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels)
    torch.testing.assert_close(found.probabilities, expected.logits_per_image.softmax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.cosine, expected.image_embeds @ expected.text_embeds.T, atol=1e-5, rtol=1e-5)
    assert steps == [(1, 2), (2, 2)]
    assert found.best(1) == LABELS[expected.logits_per_image[1].argmax()]
    ranked = found.ranked(1)
    assert ranked[0][0] == found.best(1)
    assert sum(share for _, share in ranked) == pytest.approx(1, abs=1e-5)


def test_a_label_that_is_too_long_is_reported(networks):
    model = networks.randomise_(CLIP(networks.tiny("ViT-B-32")))
    found = classify(model, Tokenizer(), torch.rand(1, 40, 40, 3), ["cat", "cat " * 80], "{}")
    assert found.cut == (0, 5)
    assert len(found.notes) == 1
    assert found.notes[0].endswith(": 5 tokens too long, the end was cut")


def test_no_labels_in_a_list_are_refused(networks):
    with pytest.raises(ValueError, match="there are no labels"):
        classify(CLIP(networks.tiny("ViT-B-32")), Tokenizer(), torch.rand(1, 40, 40, 3), [], "{}")
