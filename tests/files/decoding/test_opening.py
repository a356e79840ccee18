"""Picture files are opened by content and by Pillow alone; whatever is wrong with one is a sentence about it."""

import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from clip_vae_lora.files.decoding import opening
from clip_vae_lora.files.decoding.kinds import KINDS, OTHER_PICTURES, SUFFIXES, known
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import read_image
from clip_vae_lora.files.pictures import read_rgb, read_square, small_jpeg

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
WRITTEN = (
    "AVIF BLP BMP DDS DIB GIF ICNS ICO IM JPEG JPEG2000 MSP PCX PNG PPM QOI SGI SPIDER TGA TIFF WEBP XBM"
).split()
MODES = {"MSP": "1", "XBM": "1", "BLP": "P", "SPIDER": "F"}


def coded(kind: str, **options) -> bytes:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    buffer = io.BytesIO()
    try:
        PICTURE.convert(MODES.get(kind, "RGB")).save(buffer, kind, **options)
    except OSError as error:
        pytest.skip(f"this Pillow does not write {kind}: {error}")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_kind_is_told_by_its_content_whatever_its_name(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(coded(kind))
    expected = np.array(Image.open(path).convert("RGB")) if kind != "SPIDER" else read_rgb(path).numpy()
    assert torch.equal(read_rgb(path), torch.from_numpy(expected))
    assert read_square(path, 16).shape == (3, 16, 16) and small_jpeg(path, 16).startswith(b"\xff\xd8")
    assert read_image(path)[0].shape[-1] == 3


@pytest.mark.skipif(os.name == "nt", reason="a program on the path is a script here")
@pytest.mark.parametrize("name", ["a.png", "a.eps"])
def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch, name):
    for program in ("gs", "gswin64c", "djpeg"):
        stand_in = tmp_path / "bin" / program
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
        stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / name).write_bytes(coded("EPS"))
    for read in (read_rgb, read_image):
        with pytest.raises(FileFormatError, match="PostScript, which needs another program"):
            read(tmp_path / name)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "what wrote or copied it did not finish; expected a picture"),
        (b"\0\0\0\x1cftypheic" + bytes(99), "HEIC or HEIF"),
        (b"\0\0\0\x1cftypisom" + bytes(99), "this is a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "it begins as PNG, but its header is damaged"),
        (b"\0\0\0\x1cftypavif" + bytes(99), "AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"v/1\x01" + bytes(99), "OpenEXR"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"hello, this is a text", "no picture of a kind known here"),
        (
            b"DDS " + struct.pack("<LLLL", 124, 0x1007, 8, 8) + bytes(52) + struct.pack("<LL", 32, 0x99) + bytes(64),
            "DDS|variety|damaged",
        ),
    ],
)
def test_what_is_no_picture_is_said_by_name(tmp_path, content, said):
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_rgb, read_image):
        with pytest.raises(FileFormatError, match=said) as caught:
            read(tmp_path / "a.png")
        assert "weights" not in str(caught.value) and "safetensors" not in str(caught.value)


def test_a_damaged_avif_is_a_sentence(tmp_path):
    data = coded("AVIF")
    place = data.index(b"mdat") + 4
    (tmp_path / "b.jpg").write_bytes(data[:place] + b"\xff" * (len(data) - place))
    with pytest.raises(FileFormatError, match="damaged or was cut short"):
        read_rgb(tmp_path / "b.jpg")


RAISED = [
    ArithmeticError("a"), AssertionError("a"), AttributeError("a"), BufferError("a"), EOFError("a"), IndexError("a"),
    KeyError("a"), MemoryError(), NotImplementedError("a"), OSError("a"), RecursionError("a"), RuntimeError("a"),
    StopIteration(), SystemError("a"), TypeError("a"), UnboundLocalError("a"), UnicodeError("a"),
    ValueError("a"), ZeroDivisionError("a"), struct.error("a"), zlib.error("a"), PermissionError(13, "denied"),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_pillow_raises_is_a_sentence_about_the_file(tmp_path, monkeypatch, error):
    def failing(self):
        raise error

    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", failing)
    for read in (read_rgb, read_image):
        with pytest.raises(FileFormatError, match="^a.png: "):
            read(tmp_path / "a.png")


def test_a_programs_own_end_is_passed_on(tmp_path, monkeypatch):
    def failing(self):
        raise KeyboardInterrupt

    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", failing)
    with pytest.raises(KeyboardInterrupt):
        read_rgb(tmp_path / "a.png")


def test_a_picture_with_a_text_too_large_for_pillow_is_read(tmp_path):
    plain = tmp_path / "plain.png"
    PICTURE.save(plain)
    text = b"zTXt" + b"workflow\0\0" + zlib.compress(bytes(80 << 20))
    data = plain.read_bytes()
    chunk = struct.pack(">L", len(text) - 4) + text + struct.pack(">L", zlib.crc32(text))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    with Image.open(plain) as picture:
        assert torch.equal(read_rgb(tmp_path / "a.png"), torch.from_numpy(np.array(picture)))


def test_a_tiff_whose_marks_are_broken_keeps_its_pixels_and_its_turn(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    PICTURE.save(tmp_path / "a.tif", exif=exif)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    first = struct.unpack_from("<L", data, 4)[0]
    for n in range(struct.unpack_from("<H", data, first)[0]):
        place = first + 2 + 12 * n
        if struct.unpack_from("<H", data, place)[0] == 0x8769:
            struct.pack_into("<L", data, place + 8, len(data) - 1)  # the table of EXIF is said to lie at the very end
    (tmp_path / "a.tif").write_bytes(data)
    expected = torch.from_numpy(np.array(PICTURE.transpose(Image.Transpose.ROTATE_270)))
    assert torch.equal(read_rgb(tmp_path / "a.tif"), expected)


def test_every_ending_that_pillow_gives_to_a_known_kind_is_indexed():
    Image.init()
    theirs = {suffix for suffix, kind in Image.EXTENSION.items() if kind in known()}
    assert theirs <= {*SUFFIXES, ".mpo"} and not OTHER_PICTURES & set(SUFFIXES)
    assert {"EPS", "WMF", "IPTC", "FPX", "MIC", "GRIB", "BUFR", "HDF5", "MPEG"}.isdisjoint(KINDS)
    assert len(known()) >= 32 and opening.MAX_PIXELS == 178_956_970
