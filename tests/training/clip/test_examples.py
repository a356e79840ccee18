"""What is learned from: copies on one side, labels that agree, and a reason for every picture that is left out."""

import shutil

import pytest
import torch

from clip_vae_lora.files.captioned.find import find_pairs
from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.clip.data.examples import prepare_pairs
from clip_vae_lora.training.clip.data.pictures import Pictures, smaller
from clip_vae_lora.training.loop import TrainingError

from .pictures import captioned, class_folder, noisy, prepared


def test_classes_are_said_in_every_template_and_pictures_of_one_class_say_the_same(tmp_path):
    found = prepared(class_folder(tmp_path / "p"), "a photo of a {}", "{label}!")
    assert found.classes == ("blue thing", "green thing", "red thing")
    assert found.texts[0] == ("a photo of a blue thing", "blue thing!")
    assert len({one.text for one in found.examples}) == 3 and len({one.number for one in found.examples}) == 24
    assert all(one.captions == found.texts[one.label] for one in found.examples)


def test_captions_that_differ_in_capitals_alone_say_the_same(tmp_path):
    folder = captioned(tmp_path / "p", 3)
    (folder / "1.txt").write_text("Picture 0  is RED")
    assert [one.text for one in prepared(folder).examples] == [0, 0, 1]


def test_copies_stay_on_one_side_whatever_the_seed(tmp_path):
    folder = class_folder(tmp_path / "p", 6)
    for place in range(3):
        shutil.copy(folder / "red_thing" / f"{place}.png", folder / "red_thing" / f"copy {place}.png")
        alike = (noisy("blue", place) * 254 / 255).clamp(0, 1)
        write_png(folder / "blue_thing" / f"alike {place}.png", alike, {})
        write_png(folder / "blue_thing" / f"again {place}.png", noisy("blue", place), {})
    found = prepared(folder)
    assert found.copies == 6
    for seed in range(8):
        kept, out = found.held_out(0.4, seed)
        assert out and sorted(kept + out) == list(range(len(found.examples)))
        groups = [{found.examples[place].group for place in some} for some in (kept, out)]
        assert not groups[0] & groups[1]


def test_broken_pictures_and_those_without_words_are_named(tmp_path):
    folder = captioned(tmp_path / "p", 4)
    (folder / "1.png").write_bytes(b"no picture at all, but some bytes")
    (folder / "2.txt").unlink()
    found = prepared(folder)
    assert [one.name for one in found.examples] == ["0.png", "3.png"]
    assert found.unused["2.png"] == "it has no caption" and "picture" in found.unused["1.png"]
    assert torch.equal(found.pictures[1], Pictures(found.pictures.pairs, 16)[1])


def test_two_folders_with_the_same_picture_contradict_each_other(tmp_path):
    folder = class_folder(tmp_path / "p")
    shutil.copy(folder / "red_thing" / "3.png", folder / "blue_thing" / "x.png")
    with pytest.raises(TrainingError, match="contradict each other: .*'blue thing' and .*'red thing'.*same picture"):
        prepared(folder)


def test_a_picture_with_two_captions_is_one_picture(tmp_path):
    folder = captioned(tmp_path / "p", 4)
    shutil.copy(folder / "0.png", folder / "9.png")
    (folder / "9.txt").write_text("the same, said otherwise")
    numbers = {one.name: one.number for one in prepared(folder).examples}
    assert numbers["0.png"] == numbers["9.png"] and len(set(numbers.values())) == 4


def test_one_class_one_caption_or_no_caption_is_refused(tmp_path):
    folder = class_folder(tmp_path / "p")
    for colour in ("red", "green"):
        shutil.rmtree(folder / f"{colour}_thing")
    with pytest.raises(TrainingError, match="only one class, 'blue thing'"):
        prepared(folder)
    folder = captioned(tmp_path / "c", 3)
    for path in folder.glob("*.txt"):
        path.write_text("always the same")
    with pytest.raises(TrainingError, match="only one caption, 'always the same'"):
        prepared(folder)
    for path in folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(TrainingError, match=r"none of the pictures has a caption: put cat.txt beside cat.png"):
        prepared(folder)


def test_a_template_needs_a_place_for_the_name(tmp_path):
    folder = class_folder(tmp_path / "p")
    for wrong in (("a photo",), ("a photo of {}", "words")):
        with pytest.raises(TrainingError, match="where the name of a class goes"):
            prepare_pairs(find_pairs(folder), 16, wrong)


def test_large_pictures_are_kept_at_twice_the_side_that_is_looked_at():
    picture = torch.randint(0, 256, (3, 100, 300), dtype=torch.uint8)
    assert smaller(picture, 40).shape == (3, 40, 120) and smaller(picture, 200) is picture
