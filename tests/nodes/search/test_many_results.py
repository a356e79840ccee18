"""A search with many results: bounded memory, each file decoded once, names and scores whole; thresholds and order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_vae_lora.nodes.search import found

CLIP = "bundled/tiny_clip.safetensors"
EXAMPLES = Path(__file__).resolve().parents[3] / "example_workflows" / "input"


@pytest.fixture
def clip_model(place):
    return place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]


@pytest.fixture
def folder(place):
    made = place.base / "output" / "many"
    made.mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made / f"noise_{number}.png")
        shutil.copy(made / f"noise_{number}.png", made / f"noise_{number}_copy.png")
    return made


@pytest.fixture
def search(place, clip_model, folder):
    place.node("CVL_IndexFolder").build(clip_model, "output", "many", "many")

    def search(text="", count=6, **options):
        images, names, scores, sheet = place.node("CVL_SearchImages").search(
            clip_model, "many", text, count, **options
        )["result"]
        return images, names.split("\n"), json.loads(scores), sheet

    return search


def test_the_batch_ends_at_the_limit_and_names_and_scores_are_whole(search, monkeypatch):
    lines = "\n".join(f"a picture of number {n}" for n in range(20))
    whole, names, _, _ = search(lines, 6)
    assert len(whole) == len(names) == 120
    monkeypatch.setattr(found, "BATCH_BYTES", 10 * 64 * 64 * 12)
    images, names, data, sheet = search(lines, 6)
    assert torch.equal(images, whole[:10]) and len(names) == 120 and data["batch"] == 10
    assert sum(len(query["pictures"]) for query in data["queries"]) == 120
    assert "the batch has the first 10 of 120 pictures" in " ".join(data["notes"])
    monkeypatch.setattr(found, "BATCH_BYTES", 1)
    assert len(search(lines, 6)[0]) == 1  # one there is in any case


def test_each_file_is_decoded_once_and_a_sheet_has_an_end(search, monkeypatch):
    read, asked = found.read_rgb, []
    monkeypatch.setattr(found, "read_rgb", lambda path, *more: asked.append(path) or read(path, *more))
    monkeypatch.setattr(found, "MAX_SHEET_CELLS", 7)
    *_, sheet = search("\n".join(f"number {n}" for n in range(10)), 12)
    assert sorted(asked) == sorted(set(asked)) and len(asked) == 12
    assert sheet.shape[1] < 2000


def test_a_picture_of_the_folder_scores_one_with_itself_and_its_copy_comes_with_it(search, folder):
    for number in range(6):
        pixels = torch.from_numpy(np.array(Image.open(folder / f"noise_{number}.png"))).float()[None] / 255
        _, names, data, _ = search(image=pixels, min_score=1.0)
        assert [Path(name.split(" ")[0]).name for name in names] == [f"noise_{number}.png", f"noise_{number}_copy.png"]
        assert {hit["score"] for hit in data["queries"][0]["pictures"]} == {1.0}


def test_a_score_taken_from_the_report_is_a_threshold_that_includes_it(search):
    hits = search("a red circle", 12)[2]["queries"][0]["pictures"]
    for place, hit in enumerate(hits):
        kept = search("a red circle", 12, min_score=hit["score"])[2]["queries"][0]["pictures"]
        assert kept[: place + 1] == hits[: place + 1]


def test_the_order_does_not_depend_on_how_many_were_asked_for(search):
    whole = search("a blue star", 12)[1]
    for count in range(1, 12):
        assert search("a blue star", count)[1] == whole[:count]


def test_all_copies_are_found_at_one(place, search):
    groups = json.loads(place.node("CVL_FindDuplicates").group("many", 1.0)["result"][2])["groups"]
    assert len(groups) == 6 and all(len(group) == 2 and group[1]["score"] == 1.0 for group in groups)
