"""Compare LoRAs on the standalone host: the numbers of the pure function, the list of strengths, and the copies."""

import shutil

import pytest

from clip_vae_lora.lora.workshop.comparing.compare import compare, suggest
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.nodes.lora.rows import rows_of

from ...support.loras.shop_files import source, written

BOTH = "a.safetensors : 0.7 : 0.2\nb.safetensors : -0.5"


@pytest.fixture
def run(shop):
    return lambda loras=BOTH, what="those listed", **more: shop.run("CVL_CompareLoRAs", loras=loras, what=what, **more)


def test_the_report_has_the_numbers_of_the_pure_function(run, shop):
    answer, report = run()
    found = compare(
        gather([source(shop.loras / "a.safetensors", 0.7, 0.2), source(shop.loras / "b.safetensors", -0.5, -0.5)])
    )
    (pair,) = report["pairs"]
    met = found.pairs[0, 1]
    assert (pair["cosine"], pair["chance"], pair["outputs"]) == (met.cosine, met.chance, met.mean("outputs"))
    assert pair["blocks"].keys() == found.blocks[0, 1].keys() and len(pair["worst"]) == 3
    assert [one["norm"] for one in report["files"]] == [one.norm for one in found.portraits]
    assert report["suggested"]["factor"] == suggest(found).factor
    assert answer["result"][2].shape[0] == 1 and answer["ui"]["images"]
    text = answer["ui"]["text"][0]
    assert "a.safetensors and b.safetensors have little to do with one another" in text
    assert "together they change the model" in text and "as the strongest of them alone" in text  # the why


def test_the_list_of_suggested_strengths_is_one_that_a_stack_follows(run):
    answer, report = run("a.safetensors : 0.8\nb.safetensors : 0.6 : 0.3 : attn2: 0.5")
    rows = rows_of(answer["result"][1])
    assert not [row.problem for row in rows if row.problem]
    for row, (model, clip) in zip(rows, report["suggested"]["strengths"]):
        assert row.request.strengths == {"model": pytest.approx(model, abs=6e-4), "clip": pytest.approx(clip, abs=6e-4)}
    assert rows[1].request.blocks == "attn2: 0.5"


def test_duplicates_scaled_and_near_copies_are_told_apart_in_the_folder(run, shop):
    shutil.copy(shop.loras / "a.safetensors", shop.loras / "same.safetensors")
    written(shop.loras / "other words.safetensors", 0, "diffusers")
    shop.run(
        "CVL_EditLoRA", file="a.safetensors", words="", strength=0.5, dtype="as the files", dialect="as it is",
        filename_prefix="half",
    )  # fmt: skip
    (half,) = shop.files()
    shutil.move(half, shop.loras / "half.safetensors")
    answer, report = run("", "copies in the folder")
    found = {
        frozenset(name.removesuffix(".safetensors") for name in one["files"]): one["kinship"]
        for one in report["copies"]
    }
    assert found[frozenset(("a", "same"))] == found[frozenset(("a", "other words"))] == "duplicate"
    assert found[frozenset(("a", "half"))] == "scaled" and not any("b" in pair for pair in found)
    assert "are the same change at different strengths" in answer["ui"]["text"][0] and not report["failed"]


def test_files_without_a_common_weight_are_said(run):
    answer, report = run("unet.safetensors\ntext.safetensors")
    assert report["pairs"][0]["kinship"] == "apart" and report["pairs"][0]["cosine"] is None
    assert "⚠ unet.safetensors and text.safetensors have no weight in common" in answer["ui"]["text"][0]
