"""An index survives crashes, strays and damage, and says what it lost."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.index import writing as index_writing
from clip_vae_lora.index.reading import open_index, state
from clip_vae_lora.index.shards import Picture, ShardEntry, write_shard
from clip_vae_lora.index.table import TABLE, Table
from clip_vae_lora.index.writing import writing

from ..support.files import index_parts
from ..support.files.index_parts import FACTS, check_equals_folder, feature, make, run


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


def test_a_message_of_sqlite_that_is_no_text_is_a_sentence(places):
    index, pictures = places
    run(index, pictures)
    table = Table(index / TABLE)
    with pytest.raises(FileFormatError, match="the table of this index cannot be used"), table.errors_as_sentences():
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    table.close()
