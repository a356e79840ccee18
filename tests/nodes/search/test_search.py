"""Index, search and duplicates as a user meets them, with the bundled CLIP, which knows coloured shapes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_vae_lora.files.images import read_image
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.host.alone.absence import Absent
from clip_vae_lora.nodes.host.alone.place import HERE

EXAMPLES = Path(__file__).resolve().parents[3] / "example_workflows" / "input"
CLIP = "bundled/tiny_clip.safetensors"


@pytest.fixture
def clip_model(place):
    return place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]


@pytest.fixture
def output(place):
    """output/shapes with three drawn pictures."""
    folder = place.base / "output" / "shapes"
    folder.mkdir(parents=True)
    for name in ("red_circle.png", "blue_star.png", "striped_green_heart.png"):
        shutil.copy(EXAMPLES / name, folder)
    return folder


@pytest.fixture
def build(place, clip_model):
    def build(subfolder="shapes", folder="output", index="pictures", model=None, **options):
        shown = place.node("CVL_IndexFolder").build(model or clip_model, folder, subfolder, index, **options)
        return json.loads(shown["result"][1])

    return build


@pytest.fixture
def search(place, clip_model):
    def search(text="", count=2, index="pictures", model=None, **options):
        return place.node("CVL_SearchImages").search(model or clip_model, index, text, count, **options)["result"]

    return search


def test_duplicates_without_an_index_are_a_red_line_on_the_node_and_stop_nothing(place):
    answer = place.node("CVL_FindDuplicates").group("nowhere", 0.95)
    assert answer["ui"]["text"][0].startswith("✖ there is no index 'nowhere'")
    sheet, names, groups = answer["result"]
    assert isinstance(sheet, Absent) and isinstance(names, Absent)
    assert "make one with Index Folder" in json.loads(groups)["problem"]


def test_a_picture_is_found_by_its_description(output, build, search):
    assert build()["new"] == 3
    images, names, scores, sheet = search("a photo of a blue star\na photo of a red circle", 1)
    assert names.split("\n") == ["shapes/blue_star.png [output]", "shapes/red_circle.png [output]"]
    assert torch.equal(images[0], read_image(output / "blue_star.png")[0][0])
    found = json.loads(scores)
    assert [query["query"] for query in found["queries"]] == ["a photo of a blue star", "a photo of a red circle"]
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3


def test_the_report_says_which_search_found_what(place, clip_model, output, build):
    build()
    search = place.node("CVL_SearchImages").search
    both = search(clip_model, "pictures", "a blue star\na red circle", 1)["ui"]["text"][0]
    first, star, second, circle = both.split("\n")
    assert (first, second) == ("a blue star:", "a red circle:") and "blue_star.png" in star and "red_circle" in circle
    assert search(clip_model, "pictures", "a blue star", 1)["ui"]["text"] == [star]  # one search needs no heading


def test_the_model_is_made_ready_for_pictures_only_where_one_is_searched_for(output, build, search, monkeypatch):
    build()
    made, real = [], host.image_encoder
    monkeypatch.setattr(host, "image_encoder", lambda *arguments: made.append(arguments) or real(*arguments))
    search("a photo of a blue star")
    assert not made


def test_a_picture_finds_itself_first(output, build, search):
    build()
    images, names, scores, _ = search(image=read_image(output / "red_circle.png")[0])
    assert names.split("\n")[0] == "shapes/red_circle.png [output]"
    best = json.loads(scores)["queries"][0]["pictures"][0]
    assert best["score"] == pytest.approx(1, abs=1e-5)  # encoded twice, in batches of other sizes


def test_words_and_picture_are_mixed_by_their_weights(output, build, search):
    build()
    picture = read_image(output / "red_circle.png")[0]
    both = {weight: search("a photo of a blue star", 1, image=picture, image_weight=weight)[1] for weight in (0.0, 2.0)}
    assert both == {0.0: "shapes/blue_star.png [output]", 2.0: "shapes/red_circle.png [output]"}
    away = search("", 3, image=picture)[1].split("\n")
    assert away[0] == "shapes/red_circle.png [output]"
    with pytest.raises(ValueError, match="leave nothing"):
        search("a star", image=picture, text_weight=0.0, image_weight=0.0)


def test_pictures_of_every_kind_are_indexed_or_listed(place, clip_model, output, build, search):
    def save(name, picture, **options):
        picture.save(output / name, **options)

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    save("one.png", Image.new("RGB", (1, 1)))
    save("wide.png", Image.new("RGB", (20_000, 2), (255, 0, 0)))
    save("cmyk.jpg", noise.convert("CMYK"))
    save("deep.png", Image.fromarray(np.full((8, 8), 40_000, np.uint16)))
    save("moving.gif", noise, save_all=True, append_images=[noise.rotate(90)], duration=50)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.jpg", noise, exif=exif)
    (output / "text.png").write_text("no picture")
    (output / "empty.jpg").write_bytes(b"")
    (output / "cut.png").write_bytes((output / "blue_star.png").read_bytes()[:300])
    report = build()
    assert {entry["picture"] for entry in report["skipped"]} == {"text.png", "empty.jpg", "cut.png"}
    assert all(entry["why"] for entry in report["skipped"]) and report["rows"] == 9
    lines = place.node("CVL_IndexFolder").build(clip_model, "output", "shapes", "other")["ui"]["text"][0].split("\n")
    assert lines[:3] == [
        "9 pictures can be searched now",
        "12 new, 0 changed, 0 as before, 0 gone since",
        "3 of these cannot be read and were left out",
    ]
    images, names, scores, _ = search("a photo of a red circle", 9)
    assert len(images) == 9 and "of 9 were scaled to fit" in " ".join(json.loads(scores)["notes"])


def test_a_batch_has_the_size_of_the_first_and_no_more_than_the_limit(output, build, search):
    Image.new("RGB", (3000, 1000), (255, 0, 0)).save(output / "large.png")
    build()
    picture = read_image(output / "large.png")[0]
    padded = search("", 2, image=picture, longest_px=300)[0]
    cropped = search("", 2, image=picture, longest_px=300, fit="crop")[0]
    assert padded.shape == cropped.shape == (2, 100, 300, 3)
    assert (padded[1, :, 0] == 0).all() and (cropped[1, :, 0] > 0).any()


def test_added_pictures_are_there_once_with_their_workflow(place, build, search):
    image = read_image(EXAMPLES / "blue_star.png")[0]
    for _ in range(2):
        report = build("new/ones", image=image, prompt={"1": {}}, extra_pnginfo=None)
    assert report["rows"] == 1 and report["new"] == 0
    (path,) = (place.base / "output" / "new" / "ones").iterdir()
    assert Image.open(path).text["prompt"] == '{"1": {}}'
    assert torch.equal(search("star", 1)[0], image)
    (place.base / "input").mkdir()
    with pytest.raises(ValueError, match="output folder only"):
        build("", folder="input", image=image)


def test_a_deleted_picture_gives_its_place_to_the_next_and_a_changed_one_is_told(output, build, search):
    build()
    (output / "blue_star.png").unlink()
    os.utime(output / "red_circle.png", ns=(1, 1))
    _, names, scores, _ = search("a photo of a blue star", 2)
    assert len(names.split("\n")) == 2 and "blue_star" not in names
    notes = " ".join(json.loads(scores)["notes"])
    assert "blue_star.png [output] is not there any more" in notes and "red_circle.png [output] has changed" in notes
    shutil.rmtree(output)
    with pytest.raises(ValueError, match="nothing was found.*not there any more"):
        search("a photo of a blue star", 2)


def test_a_run_with_nothing_changed_embeds_nothing_and_a_cancelled_one_is_told(output, build, search, monkeypatch):
    build()
    assert build()["embedded"] == 0
    for number in range(4):
        shutil.copy(EXAMPLES / "red_circle.png", output / f"{number}.png")

    def stop(done, total):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HERE, "on_step", stop)
        with pytest.raises(KeyboardInterrupt):
            build(batch=1)
    assert "3 pictures were still to do" in json.loads(search("a star")[2])["notes"][0]
    assert build()["embedded"] == 3


def test_an_index_of_another_model_is_refused_by_all(place, output, build, search):
    from ...support import tiny

    tiny.clip_file(place.models / "clip_vision" / "other.safetensors")
    other = place.node("CVL_LoadCLIPModel").load("other.safetensors")["result"][0]
    build()
    for call in (lambda: build(model=other), lambda: search("a star", model=other)):
        with pytest.raises(ValueError, match=r"made with a CLIP of 48 px.*but the model here is a CLIP of 32 px"):
            call()


@pytest.mark.parametrize(
    "subfolder, said",
    [
        ("..", "leads out"),
        ("shapes/../..", "leads out"),
        ("/etc", "leads out"),
        ("link", "leads out"),
        ("nothing", "there is no folder"),
        ("a\0b", "there is no folder"),
    ],
)
def test_only_folders_below_input_and_output_are_indexed(place, output, build, subfolder, said):
    if subfolder == "link":
        (place.base / "away").mkdir()
        (place.base / "output" / "link").symlink_to(place.base / "away")
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        build(subfolder)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", ".hidden", "x" * 101, "a\0"])
def test_an_index_has_a_plain_name(output, build, name):
    with pytest.raises(ValueError, match="cannot be the name of an index"):
        build(index=name)


def test_what_cannot_be_searched_is_said(place, output, build, search):
    with pytest.raises(ValueError, match="there is no index 'pictures', there are: none"):
        search("a star")
    build()
    with pytest.raises(ValueError, match="nothing to search for"):
        search("  \n")
    with pytest.raises(ValueError, match=r"no index 'b', there are: pictures"):
        search("a star", index="b")
    with pytest.raises(ValueError, match=r"has a score of 0.99 or more, the best has 0\.\d+; lower"):
        search("a star", min_score=0.99)
    with pytest.raises(ValueError, match="batches of one size"):
        search("a\nb\nc", image=torch.zeros(2, 8, 8, 3))
    (place.base / "output" / "none").mkdir()
    build("none", index="empty")
    with pytest.raises(ValueError, match="has no pictures in it"):
        search("a star", index="empty")
    (place.base / "output" / "cvl_index" / "pictures" / "index.sqlite").write_bytes(b"broken" * 500)
    with pytest.raises(ValueError, match="delete the index's folder pictures"):
        search("a star")


def test_duplicates_are_grouped(place, output, build):
    with Image.open(output / "red_circle.png") as picture:
        picture.resize((200, 200)).save(output / "larger.png")
    shutil.copy(output / "blue_star.png", output / "copy.png")
    build()
    answer = place.node("CVL_FindDuplicates").group("pictures", 0.98)
    sheet, copies, groups = answer["result"]
    assert answer["ui"]["text"][0].startswith("2 groups in 5 pictures, 2 more than needed\n")
    found = json.loads(groups)["groups"]
    assert sorted(sorted(entry["name"] for entry in group) for group in found) == [
        ["shapes/blue_star.png [output]", "shapes/copy.png [output]"],
        ["shapes/larger.png [output]", "shapes/red_circle.png [output]"],
    ]
    assert len(copies.split("\n")) == 2 and sheet.shape[0] == 1


def test_no_duplicates_are_no_error(place, output, build):
    build()
    answer = place.node("CVL_FindDuplicates").group("pictures", 1.0)
    sheet, copies, groups = answer["result"]
    assert answer["ui"]["text"] == ["no two of 3 pictures are 100.0% alike or more"]
    assert copies == "" and json.loads(groups)["groups"] == [] and sheet.shape[0] == 1


def test_the_mark_of_change_follows_the_folder_and_the_index(place, output, build):
    index, search = place.node("CVL_IndexFolder"), place.node("CVL_SearchImages")
    asked = {"folder": "output", "subfolder": "shapes", "index": "pictures", "recursive": True}
    build()
    first, searched = index.IS_CHANGED(**asked), search.IS_CHANGED(index="pictures")
    assert index.IS_CHANGED(**asked) == first and search.IS_CHANGED(index=None) == search.IS_CHANGED(index=None)
    shutil.copy(output / "red_circle.png", output / "more.png")
    assert index.IS_CHANGED(**asked) != first and search.IS_CHANGED(index="pictures") == searched
    build()
    assert search.IS_CHANGED(index="pictures") != searched
    linked = index.IS_CHANGED(**{**asked, "subfolder": None, "index": None, "recursive": None})
    assert linked == index.IS_CHANGED(**{**asked, "subfolder": "", "index": None})
    gone = index.IS_CHANGED(**{**asked, "subfolder": "nothing"})
    assert gone != gone


def test_a_wire_of_another_kind_is_refused_and_anything_may_come_before(place):
    ask = place.node("CVL_IndexFolder").VALIDATE_INPUTS
    assert ask({"clip_model": "CVL_CLIP_MODEL", "after": "LATENT"}) is True
    assert ask({"clip_model": "CLIP_VISION", "image": "IMAGE"}) is True
    assert "VAE is linked" in ask({"clip_model": "VAE"}) and "MASK is linked" in ask({"image": "MASK"})
