"""Pictures as ComfyUI reads, writes and numbers them."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import next_path, read_image, write_next_png, write_png


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


def test_every_8_bit_value_survives_a_round_trip(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    Image.fromarray(values).save(tmp_path / "in.png")
    image, mask = read_image(tmp_path / "in.png")
    assert image.shape == (1, 16, 16, 3) and image.min() == 0 and image.max() == 1 and not mask.any()
    write_png(tmp_path / "out.png", image[0], {"prompt": '{"ä": 1}', "workflow": "w"})
    with Image.open(tmp_path / "out.png") as again:
        assert np.array_equal(np.array(again), values) and again.text == {"prompt": '{"ä": 1}', "workflow": "w"}


def test_transparency_becomes_one_minus_alpha(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.png")
    image, mask = read_image(tmp_path / "a.png")
    assert np.allclose(mask[0].numpy(), 1 - noise[..., 3] / 255.0, atol=1e-7)
    assert np.allclose(image[0].numpy(), noise[..., :3] / 255.0, atol=1e-7)


def test_a_palette_with_a_transparent_colour_has_a_mask(tmp_path):
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "p.png", transparency=0)
    image, mask = read_image(tmp_path / "p.png")
    assert mask[0, 0].tolist() == [1, 0, 0, 0] and image[0, 1, 1].tolist() == [1, 0, 0]


def test_a_photograph_held_sideways_is_turned_upright(tmp_path, noise):
    picture = Image.fromarray(noise[..., :3])
    exif = picture.getexif()
    exif[274] = 6  # the camera was turned; show rotated by 90 degrees clockwise
    picture.save(tmp_path / "r.png", exif=exif)
    image, _ = read_image(tmp_path / "r.png")
    assert np.array_equal((image[0].numpy() * 255).round(), np.rot90(noise[..., :3], -1))


def test_16_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "g.png")
    image, _ = read_image(tmp_path / "g.png")
    assert torch.allclose(image[0, 0, :, 0], torch.tensor([0, 32768 / 65535, 1.0])) and image.shape == (1, 1, 3, 3)


def test_the_frames_of_an_animation_are_rows_of_the_batch(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "f.gif", save_all=True, append_images=frames[1:])
    image, mask = read_image(tmp_path / "f.gif")
    assert image.shape == (3, 3, 4, 3) and mask.shape == (3, 3, 4)
    assert [row[0, 0].argmax().item() for row in image] == [0, 1, 2]


def test_frames_of_another_size_are_left_out_as_in_comfyui(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "t.tiff", save_all=True, append_images=[Image.new("L", (5, 3))])
    assert read_image(tmp_path / "t.tiff")[0].shape == (1, 3, 4, 3)


def test_a_picture_cut_anywhere_or_none_at_all_is_refused(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise[..., :3]).save(tmp_path / "a.jpg")
    for name in ("a.png", "a.jpg"):
        data = (tmp_path / name).read_bytes()
        for length in range(0, len(data) * 3 // 4, 5):
            (tmp_path / f"cut_{name}").write_bytes(data[:length])
            with pytest.raises(FileFormatError, match=f"cut_{name}: "):
                read_image(tmp_path / f"cut_{name}")
    for path, said in ((tmp_path, "folder"), (tmp_path / "no.png", "no such file")):
        with pytest.raises(FileFormatError, match=said):
            read_image(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    def unpack(picture):
        raise AssertionError("unpacked")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", unpack)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, small = (chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)) for side in (60_000, 600))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))))
    with pytest.raises(FileFormatError, match="million pixels"):
        read_image(tmp_path / "bomb.png")
    (tmp_path / "bomb.png").write_bytes((tmp_path / "bomb.png").read_bytes().replace(head, small))
    with pytest.raises(FileFormatError, match="unpacked"):  # the same data of a picture that may be read
        read_image(tmp_path / "bomb.png")


def test_only_whole_pictures_are_written(tmp_path):
    for image in (torch.zeros(0, 4, 3), torch.zeros(1, 4, 4, 3), torch.zeros(4, 4, 1)):
        with pytest.raises(ValueError, match="was expected"):
            write_png(tmp_path / "a.png", image, {})
    with pytest.raises(ValueError, match="NaN"):
        write_png(tmp_path / "a.png", torch.full((1, 1, 3), float("nan")), {})
    assert not list(tmp_path.iterdir())


def test_the_counter_goes_on_after_the_highest_number(tmp_path):
    assert next_path(tmp_path, "cat", ".png") == tmp_path / "cat_00001_.png"
    for name in ("cat_00007_.png", "cat_00009_x.png", "cats_00050_.png", "cat_00060.txt.png", "cat_-3_.png", "cat_"):
        (tmp_path / name).touch()
    assert next_path(tmp_path, "cat", ".png").name == "cat_00010_.png"
    assert (
        next_path(tmp_path, "sub/%width%x%height%_%year%", ".png", width_px=3, height_px=4)
        == tmp_path / "sub" / f"3x4_{time.localtime().tm_year}_00001_.png"
    )


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/etc/x", "..", "..\\x", "a\0b"])
def test_no_prefix_leads_out_of_the_folder(tmp_path, prefix):
    with pytest.raises(ValueError, match="leads out"):
        next_path(tmp_path / "out", prefix, ".png")
    assert not (tmp_path / "x").exists()


def test_no_link_leads_out_of_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    os.symlink("/", tmp_path / "out" / "link")
    with pytest.raises(ValueError, match="leads out"):
        next_path(tmp_path / "out", "link/tmp/x", ".png")


@pytest.mark.parametrize("prefix", ["", ".", "a/..", "./"])
def test_a_prefix_without_a_name_is_said_to_have_none(tmp_path, prefix):
    with pytest.raises(ValueError, match="a name for the files was expected") as caught:
        next_path(tmp_path / "out", prefix, ".png")
    assert repr(prefix) in str(caught.value)


@pytest.mark.parametrize("prefix", ["x" * 300 + "/a", "x" * 300])
def test_a_name_too_long_is_a_sentence(tmp_path, prefix):
    with pytest.raises(FileFormatError, match="(?i)(nothing can be saved there|cannot be written): file name too long"):
        write_next_png(tmp_path, prefix, torch.zeros(4, 4, 3), {})
