"""What a user says by name becomes a plan, or is refused."""

import pytest

from clip_vae_lora.training.clip.augment import Augmentation
from clip_vae_lora.training.clip.settings import settings_of, size_of


def test_a_recipe_keeps_its_numbers_but_for_those_that_are_said():
    plan = settings_of({"preset": "CLIP-LoRA", "lr": 1, "flip": False, "steps": 7.0}).plan()
    assert (plan.lr, plan.rank, plan.steps, plan.dropout) == (1.0, 2, 7, 0.25)
    assert plan.augmentation == Augmentation(crop=0.08, flip=False)


def test_from_scratch_and_from_a_file_have_recipes_of_their_own():
    assert settings_of({"size": "tiny"}).preset == "from-scratch-small" and settings_of({}).preset == "FLYP"


def test_templates_are_a_text_a_list_or_lines():
    assert settings_of({"template": "a {}\n\nthe {}"}).templates == ("a {}", "the {}")
    assert settings_of({"template": ["a {}", "the {}"]}).templates == ("a {}", "the {}")


def test_a_size_of_ones_own_has_four_times_wider_perceptrons():
    numbers = {
        "width": 128,
        "layers": 2,
        "patch_px": 8,
        "image_px": 32,
        "text_width": 64,
        "text_layers": 1,
        "embed": 16,
    }
    config = size_of(numbers)
    assert (config.vision.mlp, config.vision.heads, config.text.mlp, config.text.heads) == (512, 2, 256, 1)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"lr": "fast"}, "lr is 'fast': expected a number"),
        ({"steps": 1.5}, "steps is 1.5: expected a whole number"),
        ({"steps": True}, "steps is True"),
        ({"flip": 1}, "flip is 1: expected true or false"),
        ({"way": "magic"}, "way is 'magic': expected one of auto"),
        ({"writes": "all"}, "writes is 'all'"),
        ({"share": 2}, "share is 2: expected 0"),
        ({"size": "huge"}, "the size is 'huge': expected one of auto, tiny-16"),
        ({"size": {"width": 3}}, "a size of one's own has width"),
        ({"template": 3}, "template is 3"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"temperature": 1}, "has no 'temperature'"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        settings_of(given)
