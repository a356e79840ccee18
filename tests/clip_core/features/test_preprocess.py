"""Preprocessing against openai/CLIP's `_transform`, which is Pillow and torchvision: equal bits."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from clip_vae_lora.clip_core.config import OPENAI_MEAN, OPENAI_STD
from clip_vae_lora.clip_core.features.preprocess import preprocess, resized

SIDES = st.one_of(st.integers(1, 300), st.integers(1, 1100))


def openai_transform(picture, size, pillow_12=True):
    """The transform of openai/CLIP clip/clip.py, on one uint8 picture [H, W, 3].

    `pillow_12`: one direction at a time, which forces on Pillow 13 the order of passes that all before it had.
    """
    transforms = pytest.importorskip("torchvision").transforms
    image = Image.fromarray(picture.numpy())
    resize = transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC)
    if pillow_12:
        wide, tall = resize(image).size
        image = image.resize((wide, image.height), Image.BICUBIC).resize((wide, tall), Image.BICUBIC)
    return transforms.Compose(
        [
            resize,
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(OPENAI_MEAN, OPENAI_STD),
        ]
    )(image)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, size=st.sampled_from([32, 224, 240, 336]), seed=st.integers(0, 99))
@example(height=224, width=224, size=224, seed=0)
@example(height=1, width=1, size=224, seed=0)
@example(height=3, width=900, size=32, seed=0)
@example(height=225, width=224, size=224, seed=0)
@example(height=333, width=500, size=224, seed=0)
def test_pixels_are_those_of_openai(height, width, size, seed):
    draw = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=draw)
    if seed % 2:
        picture = picture // 128 * 255  # hard edges overshoot and are clipped
    ours = preprocess(picture[None] / 255, size, OPENAI_MEAN, OPENAI_STD)
    assert torch.equal(ours[0], openai_transform(picture, size))


@settings(max_examples=20, deadline=None)
@given(width=st.integers(33, 300), taller=st.floats(0.1, 1.9))
def test_pixels_are_those_of_the_installed_pillow_for_pictures_up_to_twice_as_tall_as_wide(width, taller):
    picture = torch.randint(0, 256, (max(33, int(width * taller)), width, 3), dtype=torch.uint8)
    ours = preprocess(picture[None] / 255, 32, OPENAI_MEAN, OPENAI_STD)
    assert torch.equal(ours[0], openai_transform(picture, 32, pillow_12=False))


@settings(max_examples=20, deadline=None)
@given(height=SIDES, width=SIDES, size=st.sampled_from([32, 378]))
def test_squashed_pixels_are_those_of_open_clip(height, width, size):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(size=size, resize_mode="squash"), is_train=False)
    picture = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    ours = preprocess(picture[None] / 255, size, OPENAI_MEAN, OPENAI_STD, resize="squash")
    across = Image.fromarray(picture.numpy()).resize((size, height), Image.BICUBIC)  # first, as before Pillow 13
    assert torch.equal(ours[0], transform(across))


def test_another_way_of_resizing_is_refused():
    with pytest.raises(ValueError, match="must be one of crop, squash"):
        preprocess(torch.rand(1, 8, 8, 3), 32, OPENAI_MEAN, OPENAI_STD, resize="longest")


def test_photographs_are_those_of_openai(shared_data):
    for path in sorted((shared_data / "photos").iterdir()):
        picture = torch.frombuffer(bytearray(Image.open(path).convert("RGB").tobytes()), dtype=torch.uint8)
        width, height = Image.open(path).size
        picture = picture.view(height, width, 3)
        assert torch.equal(
            preprocess(picture[None] / 255, 224, OPENAI_MEAN, OPENAI_STD)[0], openai_transform(picture, 224)
        )


def test_a_batch_is_its_pictures():
    batch = torch.rand(3, 40, 50, 3)
    whole = preprocess(batch, 32, OPENAI_MEAN, OPENAI_STD)
    assert torch.equal(whole, torch.cat([preprocess(one, 32, OPENAI_MEAN, OPENAI_STD) for one in batch.split(1)]))


def test_values_outside_0_to_1_are_clipped_and_alpha_is_left_out():
    image = torch.cat([torch.rand(1, 20, 20, 3) * 3 - 1, torch.rand(1, 20, 20, 1)], -1)
    inside = image[..., :3].clamp(0, 1)
    assert torch.equal(preprocess(image, 32, OPENAI_MEAN, OPENAI_STD), preprocess(inside, 32, OPENAI_MEAN, OPENAI_STD))


def test_a_very_long_picture_costs_no_more_than_its_square():
    assert preprocess(torch.rand(1, 2, 20_000, 3), 224, OPENAI_MEAN, OPENAI_STD).shape == (1, 3, 224, 224)


def test_the_longer_side_is_rounded_down():
    assert resized(333, 500, 224) == (224, 336)
    assert resized(500, 333, 224) == (336, 224)


@pytest.mark.parametrize("shape", [(1, 0, 4, 3), (0, 4, 4, 3), (4, 4, 3), (1, 4, 4, 1), (1, 3, 4, 4, 3)])
def test_a_picture_without_pixels_or_colours_is_refused(shape):
    with pytest.raises(ValueError, match=r"\[batch, height, width, 3\] were expected"):
        preprocess(torch.zeros(shape), 32, OPENAI_MEAN, OPENAI_STD)
