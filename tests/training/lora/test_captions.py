"""Captions as they are said: trigger words, shuffling, dropping, all drawn from the step's own generator."""

from collections import Counter

import pytest
import torch

from clip_vae_lora.training.lora.data.captions import CaptionPlan, said, with_trigger


def _many(caption: str, plan: CaptionPlan, count: int = 2000) -> Counter:
    generator = torch.Generator().manual_seed(0)
    return Counter(said(caption, plan, generator) for _ in range(count))


def test_a_plain_plan_says_the_caption_as_it_stands():
    caption = "A  photo, of (a:1.2) dog ,, x "
    assert _many(caption, CaptionPlan()) == {caption: 2000}


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("a [trigger] dog", "sks", "a sks dog"),
        ("a dog", "sks", "sks, a dog"),
        ("a sks dog", "sks", "a sks dog"),
        ("a party", "art", "art, a party"),
        ("", "sks", "sks"),
        ("[trigger]", "", ""),
        ("one ||| two", "sks", "sks, one , two"),
    ],
)
def test_the_trigger_word_goes_where_it_belongs(caption: str, trigger: str, expected: str):
    assert with_trigger(caption, trigger) == expected


def test_shuffled_tags_are_all_there_and_the_kept_ones_stay_in_front():
    found = _many("1girl, red, blue, green", CaptionPlan(shuffle=True, keep=1))
    assert len(found) == 6
    assert all(text.startswith("1girl, ") for text in found)
    assert all(sorted(text.split(", ")) == ["1girl", "blue", "green", "red"] for text in found)
    assert max(found.values()) < 2 * min(found.values())  # each of the six orders about 333 times
    marked = _many("1girl, solo ||| red, blue", CaptionPlan(shuffle=True))
    assert set(marked) == {"1girl, solo, red, blue", "1girl, solo, blue, red"}


def test_tags_and_captions_are_dropped_as_often_as_asked():
    found = _many("a, b", CaptionPlan(drop_tags=0.25))
    assert found["a, b"] / 2000 == pytest.approx(0.75**2, abs=0.05)  # four deviations
    assert found[""] / 2000 == pytest.approx(0.25**2, abs=0.03)
    whole = _many("a dog", CaptionPlan(trigger="sks", drop_whole=0.1))
    assert set(whole) == {"", "sks, a dog"}
    assert whole[""] / 2000 == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("odd", [{"drop_tags": 1.0}, {"drop_whole": 1.5}, {"keep": -1}, {"drop_tags": float("nan")}])
def test_impossible_plans_are_refused(odd):
    with pytest.raises(ValueError, match="expected"):
        CaptionPlan(**odd)
