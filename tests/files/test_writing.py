"""Names for new files: each is taken once, whoever writes beside us, and the file under it is whole."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import write_next_png
from clip_vae_lora.files.writing import take_name, write_new


def numbered(folder: Path):
    return (folder / f"x_{number}" for number in range(10_000))


@pytest.fixture(params=["links", "no links"])
def disk(request, monkeypatch):
    """A disk that knows links, and one that does not."""
    if request.param == "no links":

        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("disk")
def test_writers_side_by_side_lose_nothing(tmp_path):
    def write(number: int) -> Path:
        return write_new(numbered(tmp_path), lambda file: file.write(b"%d" % number), lasting=False)

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(write, range(180)))
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == [b"%d" % number for number in range(180)]


@pytest.mark.usefixtures("disk")
def test_a_name_that_is_taken_keeps_its_file(tmp_path):
    (tmp_path / "x_0").write_bytes(b"old")
    (tmp_path / "part").write_bytes(b"new")
    assert take_name(tmp_path / "part", numbered(tmp_path)).name == "x_1"
    assert (tmp_path / "x_0").read_bytes() == b"old" and (tmp_path / "x_1").read_bytes() == b"new"


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FileFormatError, match="No space left"):
        write_new(numbered(tmp_path), full)
    assert list(tmp_path.iterdir()) == []


def test_pictures_saved_side_by_side_have_numbers_of_their_own(tmp_path):
    image = torch.rand(4, 6, 3)
    save = partial(write_next_png, tmp_path, "sub/%width%x%height%", image, preview=True)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(save, [{"prompt": str(number)} for number in range(60)]))
    assert {path.name for path in paths} == {f"6x4_{number:05}_.png" for number in range(1, 61)}
    assert len(list((tmp_path / "sub").iterdir())) == 60
