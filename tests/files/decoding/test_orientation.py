"""The orientation mark of EXIF, read from its bytes, whatever else is in it."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clip_vae_lora.files.decoding.orientation import in_exif
from clip_vae_lora.files.images import read_image
from clip_vae_lora.files.pictures import read_rgb

SHORT, LONG, RATIONAL, ASCII, DOUBLE, SIGNED = 3, 4, 5, 2, 12, 10


def exif_of(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """A block of EXIF with these entries: tag, type, count, bytes (of four or more)."""
    start, later = 10 + 12 * len(entries) + 4, b""
    table = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        table += struct.pack(order + "HHL", tag, kind, count)
        table += value if len(value) == 4 else struct.pack(order + "L", start + len(later))
        later += value if len(value) > 4 else b""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(order + "L", 8) + table + bytes(4) + later


def turn(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return 0x112, SHORT, 1, struct.pack(order + "HH", value, 0)


ODD = {
    "a date that is a number": (0x132, DOUBLE, 1, struct.pack("<d", 1.5)),
    "a maker that is a fraction": (0x10F, RATIONAL, 1, struct.pack("<LL", 3, 2)),
    "a resolution of -1/0": (0x11A, SIGNED, 1, struct.pack("<ll", -1, 0)),
    "a resolution in letters": (0x11A, ASCII, 8, b"seventy\0"),
    "a value far behind the end": (0x8769, LONG, 1, struct.pack("<L", 10**8)),
    "a table of a million": (0x8769, LONG, 10**6, struct.pack("<L", 8)),
    "no such type": (0x110, 99, 1, b"abcd"),
}
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8))
SAVED = {"a.jpg": {"quality": 90}, "a.png": {}, "a.webp": {"lossless": True}}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", SAVED)
def test_a_sound_photo_with_odd_exif_is_read_and_upright(tmp_path, name, odd):
    PHOTO.save(tmp_path / "plain", name[2:].replace("jpg", "jpeg"), **SAVED[name])
    PHOTO.save(tmp_path / name, exif=exif_of(turn(6), ODD[odd]), **SAVED[name])
    plain = Image.open(tmp_path / "plain").convert("RGB")
    expected = torch.from_numpy(np.array(plain.transpose(Image.Transpose.ROTATE_270)))
    assert torch.equal(read_rgb(tmp_path / name), expected)
    assert torch.equal((read_image(tmp_path / name)[0][0] * 255).round().byte(), expected)


@pytest.mark.parametrize("mark", range(10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.avif", "a.tif"])
def test_each_mark_turns_as_pillow_turns(tmp_path, name, mark):
    exif = Image.Exif()
    exif[0x112] = mark
    try:
        PHOTO.save(tmp_path / name, exif=exif)
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"this Pillow does not write it: {error}")
    with Image.open(tmp_path / name) as picture:
        expected = torch.from_numpy(np.array(ImageOps.exif_transpose(picture).convert("RGB")))
    assert torch.equal(read_rgb(tmp_path / name), expected)


@pytest.mark.parametrize("order", "<>")
def test_both_orders_of_bytes_and_whole_numbers_of_other_types_are_read(order):
    assert in_exif(exif_of(turn(8, order), order=order)) == 8
    assert in_exif(exif_of((0x112, LONG, 1, struct.pack(order + "L", 3)), order=order)) == 3
    assert in_exif(exif_of((0x112, ASCII, 1, b"6\0\0\0"), order=order)) == 0
    assert in_exif(exif_of(turn(9, order), order=order)) == 0


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(0, 255))
def test_no_bytes_make_it_raise(data, place, value):
    sound = bytearray(exif_of(turn(6), *ODD.values()))
    sound[place % len(sound)] = value
    for block in (data, b"Exif\0\0II*\0" + data, bytes(sound), bytes(sound[: place % len(sound)])):
        assert in_exif(block) in range(9)


def test_xmp_is_asked_where_exif_has_no_mark(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    PHOTO.save(tmp_path / "a.webp", xmp=xmp, lossless=True)
    assert list(read_rgb(tmp_path / "a.webp").shape) == [40, 20, 3]
