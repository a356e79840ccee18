"""Zero-shot classification: labels, the points that they become, and scores against transformers on the same pixels."""

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.features.pictures import image_encoder, image_features
from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.features.texts import text_features
from clip_vae_lora.clip_core.judging import zero_shot
from clip_vae_lora.clip_core.judging.zero_shot import (
    NONE,
    Label,
    class_features,
    classify,
    means,
    parse_labels,
    some_of,
    templates_for,
)
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.tokenizer import Tokenizer

LABELS = ["a cat", "two dogs", "nothing at all"]


def quiet(done, total): ...


def names_of(text):
    """The labels' names, and the notes."""
    labels, notes = parse_labels(text)
    return [label.name for label in labels], notes


def words_of(text):
    return [label.words for label in parse_labels(text)[0]]


def test_labels_are_one_a_line():
    assert names_of(" cat \n\ndog, brown\n") == (["cat", "dog, brown"], [])


def test_one_line_is_cut_at_commas():
    assert names_of("cat, dog,, bird,") == (["cat", "dog", "bird"], [])


def test_synonyms_stand_behind_bars():
    assert words_of("cat | kitten |  | kitten | house cat\ndog") == [("cat", "kitten", "house cat"), ("dog",)]
    assert words_of("cat | kitten, dog | puppy") == [("cat", "kitten"), ("dog", "puppy")]


def test_a_label_may_have_templates_of_its_own_in_which_commas_stay():
    ((crane,), notes) = parse_labels("crane | heron => a photo of a {label}, a bird | a {}")
    assert crane == Label(("crane", "heron"), ("a photo of a {label}, a bird", "a {}")) and "one label" in notes[0]
    assert crane.sentences(["my {}"]) == [
        "a photo of a crane, a bird",
        "a crane",
        "a photo of a heron, a bird",
        "a heron",
    ]


def test_a_labels_own_template_without_a_place_is_refused():
    with pytest.raises(ValueError, match="'a bird' has no place for the label"):
        parse_labels("crane => a bird\ncat")


def test_a_label_named_twice_is_counted_once_and_reported():
    assert names_of("cat\ndog\ncat") == (["cat", "dog"], ["named more than once, counted once: cat"])


def test_a_word_of_two_labels_is_reported():
    _, (note,) = parse_labels("cat | pet\ndog | pet")
    assert note.endswith("which makes them alike: pet")


def test_a_label_alone_is_reported_as_always_right():
    _, (note,) = parse_labels("cat")
    assert "look at the cosine" in note


@pytest.mark.parametrize("text", ["", " \n ", ",", "\n,,\n", "|", "=> a {}"])
def test_no_labels_are_refused(text):
    with pytest.raises(ValueError, match="there are no labels"):
        names_of(text)


def test_no_template_is_refused_unless_every_label_has_its_own():
    assert templates_for(parse_labels("a => my {}\nb => your {}")[0], "", "none", "") == []
    with pytest.raises(ValueError, match="no place for the label"):
        templates_for(parse_labels("a => my {}\nb")[0], "", "none", "")


def test_a_mean_is_of_the_rows_that_belong_together_and_of_length_one():
    features = F.normalize(torch.randn(6, 8), dim=-1)
    expected = [F.normalize(part.mean(0), dim=0) for part in features.split([1, 3, 2])]
    torch.testing.assert_close(means(features, [1, 3, 2]), torch.stack(expected))


def features_by_letters(sentences, on_step):
    """A direction for each letter, the lengths one."""
    on_step(len(sentences), len(sentences))
    counts = torch.tensor([[sentence.count(letter) for letter in "abcdefgh"] for sentence in sentences])
    return F.normalize(counts + 0.1, dim=-1)


@pytest.mark.parametrize("at_once", [1, 5, 10_000])
def test_points_are_the_same_however_many_sentences_go_at_once(monkeypatch, at_once):
    labels, _ = parse_labels("abc | bcd | cab\nfed => {} a | {} b | {} c\nhead\nbad | dab")
    templates, steps = ["a {}", "the {}", "{} had"], []
    monkeypatch.setattr(zero_shot, "SENTENCES_AT_ONCE", at_once)
    found = class_features(labels, templates, features_by_letters, lambda done, total: steps.append((done, total)))
    for label, point in zip(labels, found):
        own = features_by_letters(label.sentences(templates), quiet)
        torch.testing.assert_close(point, F.normalize(own.mean(0), dim=0))
    assert steps == sorted(steps) and steps[-1] == (9 + 3 + 3 + 6, 21)


def test_scores_are_those_of_transformers(networks):
    pytest.importorskip("transformers")
    config, tokenizer = networks.tiny("ViT-B-32"), Tokenizer()
    theirs, image = networks.hf_clip(config), torch.rand(2, 70, 90, 3)
    ours = CLIP(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    labels = [Label((name,)) for name in LABELS]
    points = class_features(
        labels, ["a photo of {}"], lambda texts, _: text_features(ours, tokenizer, texts).features, quiet
    )
    seen = image_features(image_encoder(ours), image, on_step=quiet)
    found = classify(seen, points, LABELS, float(ours.logit_scale.detach().exp()))
    ids = tokenizer.batch([f"a photo of {label}" for label in LABELS])[0]
    pixels = preprocess(image, config.vision.image_px, config.mean, config.std)
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels)
    torch.testing.assert_close(found.probabilities, expected.logits_per_image.softmax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.cosine, expected.image_embeds @ expected.text_embeds.T, atol=1e-5, rtol=1e-5)
    assert found.best(1) == LABELS[expected.logits_per_image[1].argmax()]
    ranked = found.ranked(1)
    assert ranked[0][0] == found.best(1)
    assert sum(share for _, share, _ in ranked) == pytest.approx(1, abs=1e-5)
    assert found.margin(1) == pytest.approx(ranked[0][1] - ranked[1][1], abs=1e-6)


PICTURES = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [0.6, 0.5, 0.6]]), dim=-1)
POINTS = torch.eye(3)[:2]


def test_a_lower_scale_is_less_decided():
    sharp, soft = (classify(PICTURES, POINTS, ["x", "y"], scale) for scale in (100.0, 1.0))
    assert sharp.margin(0) > soft.margin(0) > 0
    assert torch.equal(sharp.cosine, soft.cosine)


@pytest.mark.parametrize(
    ("by", "below", "none"),
    [
        ("cosine", 0.0, (False, False)),
        ("cosine", 0.8, (False, True)),
        ("cosine", 1.0, (True, True)),
        ("probability", 0.9, (False, False)),
        ("probability", 0.99999, (False, True)),
    ],
)
def test_what_stays_under_the_threshold_is_none_of_these(by, below, none):
    found = classify(PICTURES, POINTS, ["x", "y"], 100.0, none_below=below, none_by=by)
    assert found.none_of_these == none
    assert [found.best(row) for row in (0, 1)] == [NONE if no else "x" for no in none]
    assert found.ranked(1, 1)[0][0] == "x"  # what was nearest is still told


def test_a_label_alone_leads_by_everything():
    found = classify(PICTURES, POINTS[:1], ["x"], 100.0)
    assert found.margin(0) == 1 and found.probabilities.tolist() == [[1.0], [1.0]]


def test_of_many_notes_the_first_are_given_and_the_rest_counted():
    assert some_of(["a", "b", "c"], 2) == ["a", "b", "and 1 more such notes"] and some_of(["a"]) == ["a"]


def test_labels_may_be_a_json_list():
    labels, notes = parse_labels('["red, round", "cat | kitten", "crane => a photo of a {label}, a bird"]')
    assert [label.name for label in labels] == ["red, round", "cat", "crane"]
    assert labels[1].words == ("cat", "kitten") and labels[2].templates == ("a photo of a {label}, a bird",)
    assert notes == ["read as a JSON list of 3"]
    assert parse_labels('["a","b"]')[0] == parse_labels("a\nb")[0]
    with pytest.raises(ValueError, match="there are no labels"):
        parse_labels("[]")
