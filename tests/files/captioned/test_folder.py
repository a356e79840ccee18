"""Folders of pictures with captions: what is found, what is said of the rest."""

from pathlib import Path

import pytest

from clip_vae_lora.files.captioned.folder import captioned_folder
from clip_vae_lora.files.errors import FileFormatError


def _files(folder: Path, names: dict[str, bytes | str]) -> Path:
    for name, content in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_captions_repeats_words_and_masks_are_found(tmp_path: Path):
    _files(
        tmp_path,
        {
            "b.png": b"x",
            "b.txt": "a bee,\n on a flower ",
            "b.caption": "not this one",
            "10_old cat/x10.JPG": b"x",
            "10_old cat/x2.webp": b"x",
            "10_old cat/x2.caption": "a cat",
            "10_old cat/x2-masklabel.png": b"x",
            "nested/deep/c.bmp": b"x",
        },
    )
    found = captioned_folder(tmp_path)
    assert [
        (one.path.relative_to(tmp_path).as_posix(), one.caption, one.source, one.repeats, one.mask is not None)
        for one in found.pictures
    ] == [
        ("10_old cat/x2.webp", "a cat", "file", 10, True),
        ("10_old cat/x10.JPG", "old cat", "folder", 10, False),
        ("b.png", "a bee, on a flower", "file", 1, False),
        ("nested/deep/c.bmp", "", "", 1, False),
    ]
    assert found.unused == {} and found.not_utf8 == ()


def test_everything_that_is_not_used_is_named(tmp_path: Path):
    _files(
        tmp_path,
        {
            "a.png": b"x",
            "lost.txt": "words",
            "lost-masklabel.png": b"x",
            "film.mp4": b"x",
            "0_never/n.png": b"x",
            ".hidden/h.png": b"x",
            "__MACOSX/m.png": b"x",
        },
    )
    found = captioned_folder(tmp_path)
    assert [one.path.name for one in found.pictures] == ["a.png"]
    assert found.unused == {
        "0_never/n.png": "its folder says 0 times",
        "film.mp4": "no picture",
        "lost-masklabel.png": "a mask without a picture",
        "lost.txt": "a caption without a picture",
    }


def test_a_caption_in_another_encoding_is_read_and_said(tmp_path: Path):
    _files(tmp_path, {"a.png": b"x", "a.txt": "caf\xe9".encode("latin-1"), "b.png": b"x", "b.txt": "\ufeffcaf\xe9"})
    found = captioned_folder(tmp_path)
    assert [one.caption for one in found.pictures] == ["caf\xe9", "caf\xe9"]
    assert found.not_utf8 == ("a.txt",)


def test_an_empty_caption_is_none(tmp_path: Path):
    _files(tmp_path, {"3_a_dog/a.png": b"x", "3_a_dog/a.txt": " \n", "b.png": b"x", "b.txt": ""})
    found = captioned_folder(tmp_path)
    assert [(one.caption, one.source) for one in found.pictures] == [("a dog", "folder"), ("", "")]


def test_no_folder_and_no_picture_are_sentences(tmp_path: Path):
    with pytest.raises(FileFormatError, match="there is none"):
        captioned_folder(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match="none in it"):
        captioned_folder(_files(tmp_path, {"a.txt": "words"}))
