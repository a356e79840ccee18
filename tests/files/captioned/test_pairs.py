"""Pictures with words, wherever they lie: every one is found, and what is not used is named with a reason."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.captioned.find import find_pairs
from clip_vae_lora.files.captioned.pairs import read_pair
from clip_vae_lora.files.captioned.shards import shard_pairs
from clip_vae_lora.files.captioned.table import table_pairs
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import write_png
from clip_vae_lora.files.pictures import read_rgb


def _picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, torch.rand(6, 5, 3, generator=torch.Generator().manual_seed(seed)), {})
    return path


def _told(found) -> list[tuple[str, str, str]]:
    return [(pair.name, pair.caption, pair.label) for pair in found.pairs]


def test_captions_lie_beside_pictures_and_a_picture_without_one_stays_for_the_report(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        _picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("a  red\ncat")
    (tmp_path / "b.caption").write_text("a dog")
    (tmp_path / "lost.txt").write_text("nothing")
    found = find_pairs(tmp_path)
    assert _told(found) == [("a.png", "a red cat", ""), ("b.png", "a dog", ""), ("c.png", "", "")]
    assert found.unused == {"lost.txt": "a caption without a picture"}


def test_folders_are_classes_and_what_lies_in_none_is_named(tmp_path):
    _picture(tmp_path / "golden_retriever" / "2.png")
    _picture(tmp_path / "golden_retriever" / "deep" / "10.png")
    _picture(tmp_path / "cat" / "1.png")
    _picture(tmp_path / "stray.png")
    (tmp_path / "cat" / "notes.md").write_text("x")
    found = find_pairs(tmp_path)
    assert _told(found) == [
        ("cat/1.png", "", "cat"),
        ("golden_retriever/2.png", "", "golden retriever"),
        ("golden_retriever/deep/10.png", "", "golden retriever"),
    ]
    assert found.unused == {"stray.png": "it lies in no class's folder", "cat/notes.md": "no picture"}


@pytest.mark.parametrize(
    "name, text",
    [
        ("x.csv", 'filepath,title\na.png,"a cat, red"\ngone.png,x\n'),
        ("x.csv", "\ufefffilepath\ttitle\r\na.png\ta cat, red\r\ngone.png\tx\r\n"),
        ("x.tsv", "title\timage\na cat, red\ta.png\nx\tgone.png\n"),
        ("x.csv", "file;caption\na.png;a cat, red\ngone.png;x\n"),
        ("x.jsonl", '{"file_name": "a.png", "text": "a cat, red"}\n\n{"file_name": "gone.png", "text": "x"}\n'),
    ],
)
def test_tables_are_read_by_their_columns_names(tmp_path, name, text):
    _picture(tmp_path / "a.png")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    found = find_pairs(tmp_path / name)
    assert [(pair.path.name, pair.caption) for pair in found.pairs] == [("a.png", "a cat, red")]
    (why,) = found.unused.values()
    assert why == "the picture is not there" and "gone.png" in next(iter(found.unused))


def test_a_table_may_name_classes_and_lies_beside_its_pictures(tmp_path):
    _picture(tmp_path / "sub" / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "sub/a.png", "label": 7}))
    assert [(pair.label, pair.caption) for pair in find_pairs(tmp_path).pairs] == [("7", "")]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("x.csv", "one,two\n1,2\n", "its first line was expected to name a column of files"),
        ("x.csv", "", "its first line was expected"),
        ("x.jsonl", "{}\nnot json\n", "line 2 is no JSON"),
        ("x.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("x.csv", "file,caption\nnone.png,x\n", "none of its rows has one"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_sentence(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=said):
        table_pairs(tmp_path / name)


def _shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_shards_are_read_in_place_and_each_part_is_used_or_named(tmp_path):
    first, second = (_picture(tmp_path / "made" / f"{n}.png", n) for n in range(2))
    _shard(
        tmp_path / "a-0.tar",
        {
            "0001.png": first.read_bytes(),
            "0001.txt": b"a cat",
            "x/0002.jpg": second.read_bytes(),
            "x/0002.json": b'{"caption": " a   dog "}',
            "x/0002.seg.png": b"no picture of ours",
            "0003.txt": b"words alone",
            "0004.cls": b"1",
            "0004.png": first.read_bytes(),
        },
    )
    (tmp_path / "classes.txt").write_text("zebra\nlion\n")
    found = find_pairs(tmp_path)
    assert _told(found) == [
        ("a-0.tar/0001.png", "a cat", ""),
        ("a-0.tar/x/0002.jpg", "a dog", ""),
        ("a-0.tar/0004.png", "", "lion"),
    ]
    assert found.unused == {"a-0.tar/x/0002.seg.png": "no picture", "a-0.tar/0003.txt": "words without a picture"}
    for pair, path in zip(found.pairs, (first, second, first)):
        assert torch.equal(read_pair(pair), read_rgb(path).permute(2, 0, 1))


def test_a_compressed_or_broken_archive_is_refused_and_a_broken_picture_names_itself(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(_picture(tmp_path / "made.png"), "1.png")
    with pytest.raises(FileFormatError, match="not compressed"):
        shard_pairs([tmp_path / "a.tar"])
    shard = _shard(tmp_path / "b.tar", {"1.png": b"nothing like a picture", "1.txt": b"x"})
    (pair,) = shard_pairs([shard]).pairs
    with pytest.raises(FileFormatError):
        read_pair(pair)
    with pytest.raises(FileFormatError, match="none is in it"):
        shard_pairs([_shard(tmp_path / "c.tar", {"1.txt": b"x"})])


@pytest.mark.parametrize("way, said", [("auto", "does not exist"), ("classes", "does not exist")])
def test_a_place_that_is_not_there_is_refused(tmp_path, way, said):
    with pytest.raises(FileFormatError, match=said):
        find_pairs(tmp_path / "no", way)
    with pytest.raises(ValueError, match="expected one of auto"):
        find_pairs(tmp_path, "magic")


def test_a_folder_of_another_kind_than_asked_for_is_refused(tmp_path):
    _picture(tmp_path / "a.png")
    for way, said in (
        ("classes", "a folder for each class"),
        ("table", "a table was expected"),
        ("shards", "tar arch"),
    ):
        with pytest.raises(FileFormatError, match=said):
            find_pairs(tmp_path, way)
