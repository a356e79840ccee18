"""A mark of a file changes when the file does, also where size and time are the same."""

import os

import pytest

from clip_vae_lora.files.sniff import content_mark, file_mark

LARGE = 3 << 20


def overwritten(path, place: int) -> None:
    """Change one byte, and put the time back."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("size", "place"), [(1, 0), (1000, 500), (300 << 10, 299 << 10), (LARGE, 0), (LARGE, LARGE - 1)]
)
def test_content_of_the_same_size_and_time_is_told_apart(tmp_path, size, place):
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    before, mark = content_mark(path), file_mark(path)
    assert content_mark(path) == before and file_mark(path) == mark
    overwritten(path, place)
    assert content_mark(path) != before and file_mark(path) != mark


@pytest.mark.skipif(os.name == "nt", reason="Windows does not say when a file was last written to")
def test_a_byte_in_the_middle_of_a_large_file_is_told_by_when_it_was_written(tmp_path):
    (tmp_path / "a").write_bytes(bytes(LARGE))
    mark = file_mark(tmp_path / "a")
    overwritten(tmp_path / "a", LARGE // 2)
    assert file_mark(tmp_path / "a") != mark


def test_what_is_not_there_is_missing_and_a_folder_is_not_opened(tmp_path):
    assert file_mark(tmp_path / "none") == "missing" == file_mark(tmp_path / "a\0b")
    assert file_mark(tmp_path).endswith(":")
