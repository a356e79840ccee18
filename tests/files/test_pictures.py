"""Picture files as an image encoder wants them, beside torchvision's transform and beside our own for tensors."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from clip_vae_lora.clip_core.features.preprocess import square_of
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import read_image
from clip_vae_lora.files.pictures import read_rgb, read_square

SIDES = st.one_of(st.integers(1, 90), st.integers(1, 700))


def random_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(tmp_path, picture: Image.Image, name: str = "a.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def transformed(picture: Image.Image, size: int) -> torch.Tensor:
    """openai/CLIP clip/clip.py `_transform` up to ToTensor, in bytes."""
    transforms = pytest.importorskip("torchvision").transforms
    resize = transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC)
    unit = transforms.Compose([resize, transforms.CenterCrop(size), transforms.ToTensor()])(picture.convert("RGB"))
    return (unit * 255).round().byte()


@settings(max_examples=25, deadline=None)
@given(width=SIDES, times=st.floats(0.05, 1.9), size=st.sampled_from([32, 224]), seed=st.integers(0, 9))
@example(width=1, times=1, size=224, seed=0)
@example(width=224, times=1, size=224, seed=0)
@example(width=500, times=0.66, size=224, seed=0)
def test_the_square_is_openais_for_pictures_up_to_twice_as_tall_as_wide(tmp_path_factory, width, times, size, seed):
    picture = random_picture(width, max(1, int(width * times)), seed)
    path = saved(tmp_path_factory.mktemp("p"), picture)
    assert torch.equal(read_square(path, size), transformed(picture, size))


@settings(max_examples=25, deadline=None)
@given(width=SIDES, height=SIDES, size=st.sampled_from([32, 224]), resize=st.sampled_from(["crop", "squash", "pad"]))
@example(width=1, height=700, size=32, resize="crop")
@example(width=700, height=1, size=224, resize="crop")
@example(width=600, height=31, size=32, resize="crop")
@example(width=3, height=100, size=224, resize="crop")
@example(width=40, height=700, size=32, resize="squash")
def test_the_square_of_a_file_is_that_of_its_pixels(tmp_path_factory, width, height, size, resize):
    picture = random_picture(width, height)
    path = saved(tmp_path_factory.mktemp("p"), picture)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(read_square(path, size, resize), square_of(pixels, size, resize))


def test_photographs_have_the_pixels_of_openai(shared_data, tmp_path):
    for photo in sorted((shared_data / "photos").iterdir()):
        picture = Image.open(photo).convert("RGB")
        assert torch.equal(read_square(photo, 224), transformed(picture, 224))
        jpeg = saved(tmp_path, picture.resize((1600, 1200)), "b.jpg", quality=90)  # where a scaled decoding is tempting
        assert torch.equal(read_square(jpeg, 224), transformed(Image.open(jpeg), 224))


@pytest.mark.parametrize("shape", [(20_000, 3), (3, 20_000), (20_000, 400)])
def test_a_very_long_picture_is_exact_and_costs_no_more_than_its_square(tmp_path, shape):
    picture = random_picture(*shape)
    found = read_square(saved(tmp_path, picture, compress_level=1), 224)
    assert torch.equal(found, square_of(torch.from_numpy(np.array(picture)).permute(2, 0, 1), 224))


def test_a_picture_turned_by_exif_is_upright(tmp_path):
    picture, exif = random_picture(40, 20), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = saved(tmp_path, picture, exif=exif)
    assert torch.equal(read_rgb(path), torch.from_numpy(np.array(picture.rotate(-90, expand=True))))


def grey16() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 65536, (30, 40)).astype(np.uint16))


MODES = {
    "cmyk.jpg": lambda: random_picture(40, 30).convert("CMYK"),
    "cmyk.tif": lambda: random_picture(40, 30).convert("CMYK"),
    "grey.png": lambda: random_picture(40, 30).convert("L"),
    "bits.png": lambda: random_picture(40, 30).convert("1"),
    "opaque.png": lambda: random_picture(40, 30).convert("RGBA"),
    "grey_alpha.png": lambda: random_picture(40, 30).convert("LA"),
    "palette.png": lambda: random_picture(40, 30).convert("P"),
    "sixteen.png": grey16,
    "float.tif": lambda: Image.fromarray(np.random.default_rng(0).random((30, 40), np.float32)),
}


@pytest.mark.parametrize("name", MODES)
def test_colours_are_those_of_the_picture_reader(tmp_path, name):
    path = saved(tmp_path, MODES[name](), name)
    assert torch.equal(read_rgb(path), (read_image(path)[0][0] * 255).round().byte())


def test_a_palette_with_a_transparent_colour_keeps_its_other_colours(tmp_path):
    picture = random_picture(40, 30).convert("P")
    one = int(np.array(picture)[0, 0])
    path, clear = saved(tmp_path, picture, transparency=one), torch.from_numpy(np.array(picture)) == one
    colours = torch.from_numpy(np.array(picture.convert("RGB")))
    colours[clear] = 255
    assert torch.equal(read_rgb(path), colours)


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [random_picture(20, 20, seed) for seed in range(3)]
    for name in ("a.webp", "a.png", "a.gif"):
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
        assert torch.equal(read_rgb(path), (read_image(path)[0][0] * 255).round().byte())


def png_of(width: int, height: int) -> bytes:
    """A small PNG whose header says something else."""
    buffer = io.BytesIO()
    random_picture(10, 10).save(buffer, "PNG")
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return buffer.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + buffer.getvalue()[33:]


def jpeg() -> bytes:
    buffer = io.BytesIO()
    random_picture(60, 60).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not a picture", "no picture of a kind known here"),
        (jpeg()[:900], "damaged or was cut short"),
        (png_of(60_000, 60_000), "million pixels"),
        (png_of(15_000, 12_000), "million pixels"),
        (png_of(10, 10)[:120], "damaged or was cut short"),
    ],
)
def test_a_broken_file_is_told_in_a_sentence(tmp_path, content, said):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_rgb, lambda path: read_square(path, 32)):
        with pytest.raises(FileFormatError, match=said):
            read(path)


def test_a_missing_file_and_a_folder_are_told_in_a_sentence(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileFormatError):
            read_square(path, 32)
