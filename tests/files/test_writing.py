"""Names for new files: each is taken once, whoever writes beside us, and the file under it is whole."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import write_next_png
from clip_vae_lora.files.writing import remove_abandoned, take_name, whole_folder, write_new, write_whole

from ..support.trip import ROOT


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


@pytest.mark.parametrize("name", ["日" * 82 + ".png", "é" * 125 + ".txt", "x" * 255])
def test_a_name_as_long_as_the_disk_takes_it_is_written(tmp_path, name):
    write_whole(tmp_path / name, lambda file: file.write(b"all"))
    assert (tmp_path / name).read_bytes() == b"all" and [path.name for path in tmp_path.iterdir()] == [name]


WRITER = """
import importlib.util, pathlib, sys, time
spec = importlib.util.spec_from_file_location("_cvl_checkout", sys.argv[1] + "/headless/checkout.py")
checkout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkout)
checkout.bind()
from clip_vae_lora.files.writing import write_new
def write(file):
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.readline()
print(write_new([pathlib.Path(sys.argv[2]) / "sub" / "a.bin"], write).name)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind: age tells there")
def test_what_a_killed_process_left_is_removed_and_what_another_one_is_writing_is_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".x.0123abcd.part").write_bytes(b"a stranger's")
    command = [sys.executable, "-c", WRITER, str(ROOT), str(tmp_path)]
    killed, living = (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    for process in (killed, living):
        assert process.stdout.readline() == b"begun\n"
    killed.kill()
    killed.wait()
    assert len(list((tmp_path / "sub").iterdir())) == 2
    assert remove_abandoned(tmp_path) == 1 and len(list((tmp_path / "sub").iterdir())) == 1
    assert living.communicate(b"\n")[0] == b"a.bin\n" and living.returncode == 0
    assert remove_abandoned(tmp_path) == 0
    assert {path.name for path in tmp_path.rglob("*")} == {"sub", "a.bin", ".x.0123abcd.part"}


def test_pictures_saved_side_by_side_have_numbers_of_their_own(tmp_path):
    image = torch.rand(4, 6, 3)
    save = partial(write_next_png, tmp_path, "sub/%width%x%height%", image, preview=True)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(save, [{"prompt": str(number)} for number in range(60)]))
    assert {path.name for path in paths} == {f"6x4_{number:05}_.png" for number in range(1, 61)}
    assert len(list((tmp_path / "sub").iterdir())) == 60


def test_a_disk_that_also_refuses_to_clean_up_does_not_hide_why(tmp_path, monkeypatch):
    def refuse(self, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    def write(file):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FileFormatError, match=f"cannot be written: {os.strerror(errno.EROFS)}"):
        write_whole(tmp_path / "a", write)
    with pytest.raises(FileFormatError, match=f"cannot be written: {os.strerror(errno.EROFS)}"):
        write_new(iter([tmp_path / "b"]), write)


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with whole_folder(tmp_path / "made") as part:
        (part / "one").write_text("1")
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"] and (tmp_path / "made" / "one").read_text() == "1"
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "other") as part:
        (part / "one").write_text("1")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_takes_no_name_that_is_taken_and_says_what_the_disk_refuses(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("kept")
    with pytest.raises(FileFormatError, match="there is something of that name"), whole_folder(tmp_path / "taken"):
        pass
    with pytest.raises(FileFormatError, match="cannot be written"), whole_folder(tmp_path / "new") as part:
        (part / "missing" / "one").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "mine").read_text() == "kept"
