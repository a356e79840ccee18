"""A picture that is overwritten by one of the same size, with its time put back, is encoded anew; others are not."""

import json
import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

CLIP = "bundled/tiny_clip.safetensors"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows does not say when a file was last written to")


@pytest.fixture
def folder(place):
    made = place.base / "output" / "ours"
    made.mkdir(parents=True)
    for number in range(3):
        draw(made / f"{number}.bmp", number)
    return made


def draw(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def build(place, folder):
    model = place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]

    def build():
        shown = place.node("CVL_IndexFolder").build(model, "output", "ours", "ours")
        data = json.loads(shown["result"][1])
        return data["new"], data["changed"], data["unchanged"]

    return build


def put_back(path, write):
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    size = path.stat().st_size
    write()
    os.utime(path, ns=times)
    assert path.stat().st_size == size


def test_new_content_of_the_same_size_and_time_is_encoded(place, folder, build):
    mark = place.node("CVL_IndexFolder").IS_CHANGED
    asked = {"folder": "output", "subfolder": "ours", "index": "ours", "recursive": True}
    assert build() == (3, 0, 0) and build() == (0, 0, 3)
    before = mark(**asked)
    put_back(folder / "1.bmp", lambda: draw(folder / "1.bmp", 99))
    assert mark(**asked) != before
    assert build() == (0, 1, 2) and build() == (0, 0, 3)


def test_the_same_content_written_again_is_not(folder, build):
    build()
    for path in folder.iterdir():
        content = path.read_bytes()
        put_back(path, lambda: path.write_bytes(content))  # noqa: B023
    assert build() == (0, 0, 3)
    put_back(folder / "1.bmp", lambda: draw(folder / "1.bmp", 99))
    assert build() == (0, 1, 2)


def test_a_damaged_picture_that_was_mended_is_tried_again(folder, build):
    sound = (folder / "0.bmp").read_bytes()
    (folder / "0.bmp").write_bytes(b"XX" + sound[2:])
    assert build() == (3, 0, 0)
    put_back(folder / "0.bmp", lambda: (folder / "0.bmp").write_bytes(sound))
    assert build() == (0, 1, 2)


def test_an_index_of_an_older_version_is_taken_as_it_is(place, folder, build):
    build()
    table = sqlite3.connect(place.base / "output" / "cvl_index" / "ours" / "index.sqlite")
    with table:
        table.execute("DROP TABLE seen")
    table.close()
    assert build() == (0, 0, 3)
    put_back(folder / "2.bmp", lambda: draw(folder / "2.bmp", 99))
    assert build() == (0, 1, 2)


def search(place, **more):
    model = place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]
    answer = place.node("CVL_SearchImages").search(model, "ours", "a red circle", 3, **more)
    return json.loads(answer["result"][2])["notes"]


@pytest.mark.parametrize("node", ["CVL_SearchImages", "CVL_FindDuplicates"])
@pytest.mark.parametrize("index", ["ours", None], ids=["named", "linked"])
def test_a_search_runs_again_when_a_picture_of_its_index_changes(place, folder, build, node, index):
    build()
    mark = place.node(node).IS_CHANGED
    first = mark(index=index)
    assert mark(index=index) == first
    put_back(folder / "1.bmp", lambda: draw(folder / "1.bmp", 99))
    second = mark(index=index)
    os.unlink(folder / "2.bmp")
    third = mark(index=index)
    draw(folder / "not_indexed.bmp", 4)
    assert len({first, second, third}) == 3 and mark(index=index) == third


def test_a_search_says_which_pictures_were_written_over_since(place, folder, build):
    build()
    for number in (0, 1):
        content = (folder / f"{number}.bmp").read_bytes()
        put_back(folder / f"{number}.bmp", lambda: (folder / f"{number}.bmp").write_bytes(content))  # noqa: B023
    put_back(folder / "1.bmp", lambda: draw(folder / "1.bmp", 99))
    said = [note for note in search(place) if "has changed since it was indexed" in note]
    assert len(said) == 1 and "1.bmp" in said[0]


def test_a_search_of_an_index_of_an_older_version_goes_by_size_and_time(place, folder, build):
    build()
    table = sqlite3.connect(place.base / "output" / "cvl_index" / "ours" / "index.sqlite")
    with table:
        table.execute("DROP TABLE seen")
    table.close()
    put_back(folder / "1.bmp", lambda: draw(folder / "1.bmp", 99))
    assert not [note for note in search(place) if "has changed" in note]


def test_the_mark_of_an_index_that_is_missing_or_damaged_is_a_mark(place, folder, build):
    mark = place.node("CVL_SearchImages").IS_CHANGED
    assert mark(index="none of this name") == mark(index="none of this name")
    build()
    before = mark(index="ours")
    (place.base / "output" / "cvl_index" / "ours" / "index.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert mark(index="ours") != before
