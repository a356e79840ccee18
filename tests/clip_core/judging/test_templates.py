"""Templates: the sets that come with the pack, and how a list of one's own is read."""

import pytest

from clip_vae_lora.clip_core.judging.templates import PHOTOS_7, PHOTOS_80, SETS, fill, template_list

OF_OPENAI = (  # some of the notebook's, of each kind
    "a photo of a {}.",
    "a photo of many {}.",
    "itap of my {}.",
    "a photo of the hard to see {}.",
    "a origami {}.",
    "the {} in a video game.",
    "a jpeg corrupted photo of the {}.",
    "art of the {}.",
    "graffiti of a {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a close-up photo of a {}.",
    "a photo of one {}.",
)


def test_there_are_eighty_different_sentences_and_seven_of_them():
    assert len(set(PHOTOS_80)) == len(PHOTOS_80) == 80
    assert len(set(PHOTOS_7)) == 7 and set(PHOTOS_7) <= set(PHOTOS_80)
    assert set(OF_OPENAI) <= set(PHOTOS_80)


@pytest.mark.parametrize("template", ["a photo of a {}", "a photo of a {label}"])
def test_the_label_goes_where_the_template_says(template):
    assert fill(template, "{label} {}") == "a photo of a {label} {}"


@pytest.mark.parametrize("template", ["", "a photo", "{name}", "{"])
def test_a_template_without_a_place_is_refused(template):
    with pytest.raises(ValueError, match="has no place for the label"):
        fill(template, "cat")


def test_templates_come_in_order_and_each_once():
    assert template_list("a {}", "none", "the {}\n\n a {} \nmy {label}") == ["a {}", "the {}", "my {label}"]
    assert len(template_list("a photo of a {}.", "80 for photographs", "")) == 80
    assert template_list("", "none", "") == []


def test_ones_own_template_without_a_place_is_refused():
    with pytest.raises(ValueError, match="'a cat' has no place"):
        template_list("a {}", "none", "a cat")


def test_an_unknown_set_is_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match=", ".join(SETS)):
        template_list("a {}", "90", "")
