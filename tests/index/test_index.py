"""The index of a folder of pictures: what it holds after changes, crashes and damage, and what it refuses."""

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.index import writing as index_writing
from clip_vae_lora.index.reading import open_index, state
from clip_vae_lora.index.scan import scan
from clip_vae_lora.index.table import LOCK, writers_lock
from clip_vae_lora.index.writing import writing

from ..support.files import index_parts
from ..support.files.index_parts import FACTS, check_equals_folder, embed, make, run


def test_every_picture_has_its_row(places):
    index, pictures = places
    done = run(index, pictures)
    assert (done.new, done.rows, done.embedded, done.unchanged) == (30, 30, 30, 0)
    check_equals_folder(index, pictures)


def test_a_second_run_embeds_nothing_and_writes_nothing(places):
    index, pictures = places
    run(index, pictures)
    before = state(index), sorted(index.iterdir())
    done = run(index, pictures, embed=None)
    assert (done.unchanged, done.embedded, done.rows) == (30, 0, 30)
    assert (state(index), sorted(index.iterdir())) == before


def test_new_changed_deleted_and_moved_pictures_are_found(places):
    index, pictures = places
    run(index, pictures)
    (pictures / "0001.png").unlink()
    (pictures / "0002.png").write_bytes(b"another one")
    (pictures / "sub").mkdir()
    (pictures / "0003.png").rename(pictures / "sub" / "moved.png")
    make(pictures, 2, first=50)
    done = run(index, pictures)
    assert (done.new, done.changed, done.deleted, done.unchanged) == (3, 1, 2, 27)
    check_equals_folder(index, pictures)


def test_a_picture_of_the_same_size_and_another_time_is_read_again(places):
    index, pictures = places
    run(index, pictures)
    path = pictures / "0004.png"
    path.write_bytes(b"picture X")
    os.utime(path, ns=(1, 1))
    assert run(index, pictures).changed == 1
    check_equals_folder(index, pictures)


def test_what_is_no_picture_is_listed_and_not_read_again(places):
    index, pictures = places
    (pictures / "bad.png").write_bytes(b"no picture")
    (pictures / "worse.png").write_bytes(b"nan")
    done = run(index, pictures)
    assert [path for path, _ in done.skipped] == ["bad.png", "worse.png"]
    assert "no picture" in done.skipped[0][1] and "NaN" in done.skipped[1][1]
    again = run(index, pictures, embed=None)
    assert again.skipped == done.skipped and again.embedded == 0 and open_index(index).skipped == 2


def test_a_folder_of_nothing_gives_an_empty_index(tmp_path):
    (tmp_path / "pictures").mkdir()
    assert run(tmp_path / "indexes" / "a", tmp_path / "pictures").rows == 0
    assert open_index(tmp_path / "indexes" / "a").rows == 0


def test_only_the_folder_itself_is_read_when_asked_so_and_what_is_left_out_is_not(places):
    index, pictures = places
    make(pictures / "sub", 2)
    make(pictures / ".hidden", 2)
    make(pictures / "other", 2)
    assert len(scan(pictures, recursive=False).pictures) == 30
    assert len(scan(pictures, recursive=True, left_out=[pictures / "other"]).pictures) == 32


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_link_that_leads_out_is_refused_and_folders_are_not_followed(places, tmp_path):
    index, pictures = places
    make(tmp_path / "away", 1)
    (pictures / "out.png").symlink_to(tmp_path / "away" / "0000.png")
    (pictures / "in.png").symlink_to(pictures / "0000.png")
    (pictures / "folder").symlink_to(tmp_path / "away")
    found = scan(pictures, recursive=True)
    assert sorted(found.refused) == ["folder", "out.png"] and "in.png" in found.pictures and len(found.pictures) == 31


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_loses_no_rows(places):
    index, pictures = places
    make(pictures / "sub", 2)
    run(index, pictures)
    (pictures / "sub").chmod(0)
    try:
        assert run(index, pictures).deleted == 0
    finally:
        (pictures / "sub").chmod(0o755)


def test_a_name_that_is_no_text_is_refused(places):
    index, pictures = places
    try:
        (pictures / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert [why for _, why in run(index, pictures).refused] == ["its name is no text; rename it"]


def test_cancelled_work_is_kept_and_the_rest_is_counted(places):
    index, pictures = places

    def on_step(done, total):
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(index, pictures, on_step=on_step)
    found = open_index(index)
    assert found.rows == 16 and found.facts.remaining == 14
    done = run(index, pictures)
    assert (done.embedded, done.unchanged) == (14, 16) and open_index(index).facts.remaining == 0
    check_equals_folder(index, pictures)


def test_an_index_of_another_model_is_refused_with_both_names(places):
    index, pictures = places
    run(index, pictures)
    with pytest.raises(FileFormatError, match=r"a pretended model \(key-of-the-m.*another one \(other"):
        run(index, pictures, replace(FACTS, model_key="other", model_name="another one"))


def test_an_index_of_another_folder_is_refused(places):
    index, pictures = places
    run(index, pictures)
    with pytest.raises(FileFormatError, match=r"\.\./\.\./pictures.*\.\./elsewhere"):
        run(index, pictures, replace(FACTS, folder="../elsewhere"))


def test_a_second_writer_is_refused_and_readers_are_not(places):
    index, pictures = places
    run(index, pictures)
    with writing(index, FACTS):
        with pytest.raises(FileFormatError, match="written by another process"):
            run(index, pictures)
        assert open_index(index).rows == 30
    assert run(index, pictures).rows == 30


def test_two_threads_are_two_writers(tmp_path):
    said = []

    def other():
        try:
            with writers_lock(tmp_path):
                said.append("in")
        except FileFormatError:
            said.append("refused")

    with writers_lock(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert said == ["refused"] and (tmp_path / LOCK).exists()


def test_small_shards_are_put_together(places):
    index, pictures = places
    for number in range(40):
        make(pictures, 1, first=100 + number)
        run(index, pictures)
        assert len(list(index.glob("shard_*"))) <= 18
    check_equals_folder(index, pictures)


def test_many_dead_rows_are_left_out(places, monkeypatch):
    monkeypatch.setattr(index_writing, "_DEAD_ROWS", 10)
    index, pictures = places
    run(index, pictures)
    for number in range(20):
        (pictures / f"{number:04}.png").unlink()
    run(index, pictures)
    assert sum(len(block) for block in open_index(index).blocks) == 10
    check_equals_folder(index, pictures)


def test_an_old_shard_that_could_not_be_removed_brings_nothing_back(places, monkeypatch):
    monkeypatch.setattr(index_writing, "_DEAD_ROWS", 10)
    monkeypatch.setattr(index_writing, "_remove", lambda path: None)
    index, pictures = places
    run(index, pictures)
    for number in range(20):
        (pictures / f"{number:04}.png").write_bytes(b"new %d" % number)
    run(index, pictures)
    assert len(list(index.glob("shard_*"))) > len(open_index(index).blocks)
    run(index, pictures, embed=None)
    check_equals_folder(index, pictures)


def test_a_row_that_moved_since_the_index_was_opened_is_none(places, monkeypatch):
    monkeypatch.setattr(index_writing, "_DEAD_ROWS", 10)
    index, pictures = places
    run(index, pictures)
    opened = open_index(index)
    for number in range(20):
        (pictures / f"{number:04}.png").unlink()
    run(index, pictures)
    assert opened.pictures([29]) == [None]


def test_rows_are_mapped_and_not_read(places):
    index, pictures = places
    run(index, pictures)
    (block,) = open_index(index).blocks
    (shard,) = index.glob("shard_*")
    assert block.dtype == torch.float32 and shard.stat().st_size > block.nbytes
    block += 1  # private: the file stays
    check_equals_folder(index, pictures)


def test_importing_the_index_does_not_import_sqlite():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='parts'); raise SystemExit('sqlite3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, index_parts.__file__], timeout=600).returncode == 0


def test_batches_come_in_order_whatever_their_size(places):
    index, pictures = places
    run(index, pictures, embed=lambda paths: embed(paths, 7), every=3)
    check_equals_folder(index, pictures)
