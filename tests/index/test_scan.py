"""What a scan of a folder takes for pictures, and what it says about everything else."""

import os

import pytest

from clip_vae_lora.index.scan import scan


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def test_every_known_kind_is_a_picture_and_every_other_is_counted(tmp_path):
    put(tmp_path, "a.png", "b.JFIF", "c.jpe", "d.avif", "e.jp2", "f.tga")
    put(tmp_path, "IMG_1.HEIC", "IMG_2.heic", "x.exr", "notes.txt", "movie.mp4", "none", ".hidden.heic")
    found = scan(tmp_path, recursive=True)
    assert sorted(found.pictures) == ["a.png", "b.JFIF", "c.jpe", "d.avif", "e.jp2", "f.tga"]
    assert found.others == {".heic": 2, ".exr": 1, ".txt": 1, ".mp4": 1, "": 1}
    assert found.unsupported == {".exr": 1, ".heic": 2}


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_linked_folders_are_named_unless_only_the_folder_itself_is_read(tmp_path):
    put(tmp_path / "away", "a.png")
    put(tmp_path / "root" / "inside", "b.png")
    (tmp_path / "root" / "out").symlink_to(tmp_path / "away")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "root" / "inside")
    (tmp_path / "root" / ".cache").symlink_to(tmp_path / "away")
    (tmp_path / "root" / "previews").symlink_to(tmp_path / "temp")
    (tmp_path / "temp").mkdir()
    found = scan(tmp_path / "root", recursive=True, left_out=[tmp_path / "temp"])
    assert sorted(found.refused) == ["again", "out"] and list(found.pictures) == ["inside/b.png"]
    assert all("link to a folder" in why for why in found.refused.values())
    assert not scan(tmp_path / "root", recursive=False).refused


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")
def test_a_pipe_and_a_broken_link_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = scan(tmp_path, recursive=True)
    assert sorted(found.refused) == ["broken.png", "pipe.png"] and not found.pictures
