"""Index Folder over a folder of odd pictures: each is indexed, or named with the reason."""

import json
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from clip_vae_lora.tests.support.files.odd_pictures import odd_pictures

CLIP = "bundled/tiny_clip.safetensors"


@pytest.fixture
def clip_model(place):
    return place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]


@pytest.fixture
def build(place, clip_model):
    def build(**options):
        shown = place.node("CVL_IndexFolder").build(clip_model, "output", "odd", "odd", **options)
        return json.loads(shown["result"][1]), shown["ui"]["text"][0]

    return build


def drawing(shape):
    picture = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(picture), shape)((20, 20, 76, 76), outline=(0, 0, 0, 255), width=4)
    return picture


def test_each_of_many_damaged_pictures_is_indexed_or_named(place, build):
    folder = place.base / "output" / "odd"
    folder.mkdir(parents=True)
    made = odd_pictures(folder, 300, seed=1)
    data, _ = build()
    assert data["rows"] + len(data["skipped"]) == made and 0 < data["rows"] < made
    assert all(entry["why"] for entry in data["skipped"])
    assert build()[0]["unchanged"] == made  # the next run tries none of them again


def test_kinds_that_are_not_read_are_counted_in_the_report(place, build):
    folder = place.base / "output" / "odd"
    folder.mkdir(parents=True)
    for n in range(3):
        (folder / f"IMG_{n}.HEIC").write_bytes(struct.pack(">L", 28) + b"ftypheic" + bytes(20))
    Image.new("RGB", (8, 8)).save(folder / "a.jfif", "JPEG")
    (folder / "notes.txt").write_text("x")
    data, text = build()
    assert data["rows"] == 1 and data["not_supported"] == {".heic": 3} and data["no_pictures"] == {".txt": 1}
    assert "3 files .heic not read: this kind is not supported" in text


def test_transparent_pictures_are_told_apart_and_counted(place, build):
    folder = place.base / "output" / "odd"
    folder.mkdir(parents=True)
    for shape in ("ellipse", "rectangle"):
        drawing(shape).save(folder / f"{shape}.png")
    data, text = build()
    assert (data["ground"], data["transparent"]) == ("white", 2)
    assert "2 of the pictures encoded now are transparent in part, and were laid over white" in text
    found = place.node("CVL_FindDuplicates").group("odd", 0.999)
    assert json.loads(found["result"][2])["groups"] == []
    drawing("ellipse").save(folder / "third.png")
    data, text = build(ground="black")
    assert "of this index lie on the ground white, and those that are new in it on black" in text


def test_a_folder_that_is_not_there_yet_or_that_the_disk_refuses_is_a_sentence(place, clip_model, monkeypatch):
    node = place.node("CVL_IndexFolder")
    with pytest.raises(FileNotFoundError, match="there is no output folder yet: ComfyUI makes it"):
        node.build(clip_model, "output", "", "odd")
    (place.base / "output").mkdir()
    with pytest.raises(ValueError, match=r"the subfolder 'x+' of the output folder cannot be used: .*[Nn]ame too long"):
        node.build(clip_model, "output", "x" * 300, "odd")

    def refuse(self, *arguments, **options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match="'new' of the output folder cannot be used: Read-only file system"):
        node.build(clip_model, "output", "new", "odd", image=torch.rand(1, 8, 8, 3))


@pytest.mark.parametrize("ground", ["white", "black"])
def test_a_transparent_picture_finds_itself_and_is_shown_on_the_ground_of_the_index(place, clip_model, build, ground):
    folder = place.base / "output" / "odd"
    folder.mkdir(parents=True)
    ring = drawing("ellipse")
    ring.save(folder / "ring.png")
    Image.new("RGB", (96, 96), (9, 90, 200)).save(folder / "blue.png")
    build(ground=ground)
    query = torch.frombuffer(bytearray(ring.tobytes()), dtype=torch.uint8).view(1, 96, 96, 4) / 255
    answer = place.node("CVL_SearchImages").search(clip_model, "odd", "", 1, query)
    images, _, scores, _ = answer["result"]
    data = json.loads(scores)
    best = data["queries"][0]["pictures"][0]
    assert best["name"].startswith("odd/ring.png") and best["score"] == 1.0
    assert images[0, 0, 0].tolist() == [1.0 if ground == "white" else 0.0] * 3
    assert f"1 of 1 pictures are transparent in part, and were laid over {ground}" in data["notes"]
    assert (
        f"1 of the pictures found are transparent in part, and were laid over {ground}, as in the index"
        in data["notes"]
    )


def test_an_index_on_two_grounds_is_searched_on_its_first(place, clip_model, build):
    folder = place.base / "output" / "odd"
    folder.mkdir(parents=True)
    drawing("ellipse").save(folder / "ring.png")
    build(ground="gray")
    drawing("rectangle").save(folder / "square.png")
    build(ground="black")
    answer = place.node("CVL_SearchImages").search(clip_model, "odd", "a ring", 1)
    assert answer["result"][0][0, 0, 0, 0] == pytest.approx(128 / 255)
