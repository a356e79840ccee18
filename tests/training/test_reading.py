"""The independent reading of pictures: right on drawn ones, silent on empty ones."""

from dataclasses import replace

import pytest
import torch

from clip_vae_lora.training.scenes.drawing import draw
from clip_vae_lora.training.scenes.reading import read_picture, shows_stripes
from clip_vae_lora.training.scenes.scene import BACKGROUNDS, COLOURS, PAIRS, SHAPES, TEXTURES, random_scenes


def test_drawn_pictures_are_read_right():
    generator = torch.Generator().manual_seed(11)
    scenes = random_scenes(60, generator, PAIRS)
    pictures = draw(scenes, 64, generator)
    read = [read_picture(picture) for picture in pictures]
    right = [
        one is not None and (one.shape, one.colour) == (int(shape), int(colour))
        for one, shape, colour in zip(read, scenes.shape, scenes.colour)
    ]
    assert sum(right) >= 59  # every one of 150 others was right


@pytest.mark.parametrize("ground", [0.04, 0.5, 0.97])
def test_an_empty_picture_shows_nothing(ground: float):
    slope = torch.linspace(-0.03, 0.03, 64).expand(3, 64, 64)
    assert read_picture(ground + slope) is None


def test_blots_are_read_as_a_poor_fit_and_noise_does_not_stop_the_reading():
    generator = torch.Generator().manual_seed(2)
    picture = torch.full((3, 64, 64), 0.5)
    picture[:, 20:44, 10:20] = torch.tensor([0.86, 0.08, 0.1])[:, None, None]
    picture[:, 28:36, 20:50] = torch.tensor([0.86, 0.08, 0.1])[:, None, None]
    read = read_picture(picture)
    assert read is not None and tuple(COLOURS)[read.colour] == "red" and read.overlap < 0.8
    read_picture(torch.rand(3, 64, 64, generator=generator))
    assert len(SHAPES) == 10


@pytest.mark.parametrize("texture", ["plain", "striped", "dotted"])
def test_stripes_are_told_from_plain_and_dotted_things_on_a_gray_ground(texture: str):
    generator = torch.Generator().manual_seed(5)
    scenes = random_scenes(60, generator, PAIRS, (TEXTURES.index(texture),))
    scenes = replace(
        scenes,
        background=torch.full((60,), list(BACKGROUNDS).index("gray")),
        count=torch.zeros(60, dtype=torch.int64),
        size=torch.full((60,), 2),
    )
    found = sum(shows_stripes(picture) for picture in draw(scenes, 64, generator))
    assert found >= 58 if texture == "striped" else found == 0  # 98 % of 240; an arm of a star can have one colour


def test_an_empty_picture_has_no_stripes():
    assert not shows_stripes(torch.full((3, 64, 64), 0.5))
