"""The index of a folder of pictures: what it holds after changes, crashes and damage, and what it refuses."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.index import writing as index_writing
from clip_vae_lora.index.reading import open_index, state
from clip_vae_lora.index.scan import scan
from clip_vae_lora.index.shards import Picture, ShardEntry, write_shard
from clip_vae_lora.index.table import LOCK, TABLE, Table, writers_lock
from clip_vae_lora.index.writing import writing

from ..support import index_parts
from ..support.index_parts import FACTS, WIDTH, embed, feature, make, run


@pytest.fixture
def places(tmp_path):
    """The index's folder and the pictures' folder."""
    make(tmp_path / "pictures", 30)
    return tmp_path / "indexes" / "a", tmp_path / "pictures"


def held(index) -> dict[str, torch.Tensor]:
    """path -> row of every picture in the index."""
    found = open_index(index)
    rows = torch.cat(found.blocks) if found.blocks else torch.empty(0, WIDTH)
    dead = {int(row) + sum(map(len, found.blocks[:n])) for n, gone in enumerate(found.dead) for row in gone}
    living = [row for row in range(len(rows)) if row not in dead]
    pictures = found.pictures(living)
    assert found.rows == len(living) and None not in pictures
    return {picture.path: rows[row] for picture, row in zip(pictures, living)}


def check_equals_folder(index, pictures):
    """Every picture is there once, with the row that its content now gives; and nothing else."""
    there = held(index)
    wanted = {p.relative_to(pictures).as_posix(): p.read_bytes() for p in pictures.rglob("*.png")}
    wanted = {name: content for name, content in wanted.items() if not content.startswith((b"no", b"nan"))}
    assert there.keys() == wanted.keys()
    assert all(torch.equal(there[name], feature(content)) for name, content in wanted.items())


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
    assert list(found.refused) == ["out.png"] and "in.png" in found.pictures and len(found.pictures) == 31


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


def test_a_shard_that_no_table_knows_is_taken_up_and_not_done_again(places):
    index, pictures = places
    run(index, pictures)
    make(pictures, 1, first=90)
    status = (pictures / "0090.png").stat()
    entry = ShardEntry(Picture("0090.png", status.st_size, status.st_mtime_ns), 0)
    write_shard(index, [entry], feature(b"picture 90")[None], FACTS.model_key)
    done = run(index, pictures, embed=None)
    assert (done.embedded, done.rows) == (0, 31)
    check_equals_folder(index, pictures)


def test_strays_of_another_model_and_parts_are_removed(places):
    index, pictures = places
    run(index, pictures)
    before = set(index.iterdir())
    write_shard(index, [ShardEntry(Picture("x.png", 1, 1), 0)], feature(b"x")[None], "another model")
    (index / ".shard_0.safetensors.12.part").write_bytes(b"half")
    assert run(index, pictures).notes == ()
    assert set(index.iterdir()) == before


def later_version(index):
    tensors, marks = {"features": feature(b"x")[None]}, {"cvl_picture_index": "2", "model_key": FACTS.model_key}
    write_tensors(index / "shard_later.safetensors", tensors, marks)


def rubbish(index):
    (index / "shard_rubbish.safetensors").write_bytes(b"rubbish")


@pytest.mark.parametrize("put, said", [(later_version, "one of a later version"), (rubbish, "no safetensors file")])
def test_a_stray_that_cannot_be_read_is_put_aside_with_every_bit_and_that_is_noted_once(places, put, said):
    index, pictures = places
    run(index, pictures)
    put(index)
    (stray,) = (path for name in ("later", "rubbish") for path in index.glob(f"shard_{name}*"))
    content = stray.read_bytes()
    (note,) = run(index, pictures).notes
    assert said in note and stray.name in note and f"put aside as unread_{stray.name}" in note
    assert not stray.exists() and stray.with_name(f"unread_{stray.name}").read_bytes() == content
    assert run(index, pictures).notes == ()
    check_equals_folder(index, pictures)


def test_a_stray_that_cannot_be_put_aside_stays_and_that_is_noted(places, monkeypatch):
    index, pictures = places
    run(index, pictures)
    rubbish(index)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(index_writing.os, "replace", refuse)
    with writing(index, FACTS) as writer:
        assert "it stays where it is" in writer.notes[0] and "Permission denied" in writer.notes[0]
    assert (index / "shard_rubbish.safetensors").read_bytes() == b"rubbish"


@pytest.mark.parametrize("harm", ["missing", "cut short"])
def test_a_lost_shard_is_said_to_a_reader_and_made_anew_by_a_writer(places, harm):
    index, pictures = places
    run(index, pictures)
    (shard,) = index.glob("shard_*")
    shard.write_bytes(shard.read_bytes()[:100]) if harm == "cut short" else shard.unlink()
    with pytest.raises(FileFormatError, match="damaged.*run Index Folder"):
        open_index(index)
    done = run(index, pictures)
    assert done.new == 30 and "indexed anew" in done.notes[0]
    check_equals_folder(index, pictures)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"this is no database at all, only words" * 40, "cannot be used"),
        (b"", "the index is empty"),
    ],
)
def test_a_broken_table_is_said(places, content, said):
    index, pictures = places
    run(index, pictures)
    (index / TABLE).write_bytes(content)
    with pytest.raises(FileFormatError, match=said):
        open_index(index)


def test_a_table_that_was_deleted_is_made_again_from_the_shards(places):
    index, pictures = places
    run(index, pictures)
    (index / TABLE).unlink()
    with pytest.raises(FileFormatError, match="no index here"):
        open_index(index)
    assert run(index, pictures, embed=None).rows == 30
    check_equals_folder(index, pictures)


def test_a_later_format_and_another_programs_database_are_refused(places):
    index, pictures = places
    run(index, pictures)
    strange = {"PRAGMA user_version = 99": "format 99", "PRAGMA application_id = 7": "another program"}
    for statement, said in strange.items():
        with sqlite3.connect(index / TABLE) as db:
            db.execute(statement)
        with pytest.raises(FileFormatError, match=said):
            run(index, pictures)


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


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_at_any_moment_the_index_is_whole_and_no_row_is_lost(tmp_path):
    index, pictures, draw = tmp_path / "indexes" / "a", tmp_path / "pictures", random.Random(0)
    make(pictures, 2000)
    killed, rows, kills = 0, 0, int(os.environ.get("CVL_KILLS", "2"))
    while killed < kills:
        command = [sys.executable, index_parts.__file__, str(pictures), str(index)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 600
        while not (index / TABLE).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        start = state(index)
        while killed and state(index) == start and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        if process.wait(600) == 0:
            break
        killed += 1
        if Table(index / TABLE, create=True).facts() is None:  # killed before the first transaction
            continue
        now = open_index(index)
        assert now.rows >= rows
        rows = now.rows
    assert killed
    run(index, pictures)
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
