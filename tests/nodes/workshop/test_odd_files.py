"""Files as people have them, and worse: each ends in the exact result or in one sentence."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ...support.loras.shop import QUERY, agree, dense
from ...support.loras.shop_files import source

MERGE = {"method": "sum", "keep": "all", "amount": 4.0, "dialect": "kohya", "dtype": "fp32", "filename_prefix": "m"}
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"


@pytest.fixture
def lora(shop):
    """Writes a file of one module, with its tensors changed."""

    def made(name="odd.safetensors", **tensors):
        random = torch.Generator().manual_seed(3)
        own = {
            "lora_up.weight": torch.randn(320, 3, generator=random) * 0.1,
            "lora_down.weight": torch.randn(3, 320, generator=random) * 0.1,
            "alpha": torch.tensor(1.5),
        }
        own = {part: tensor for part, tensor in (own | tensors).items() if tensor is not None}
        save_file({f"{Q}.{part}": tensor for part, tensor in own.items()}, shop.loras / name)
        return own

    return made


def merged(shop, lines, **inputs):
    answer, report = shop.run("CVL_MergeLoRAs", loras=lines, **MERGE | inputs)
    return answer["result"][0], report


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16])
def test_every_stored_type_is_merged_as_its_numbers_say(shop, lora, dtype):
    own = lora()
    lora(**{part: own[part].to(dtype) for part in ("lora_up.weight", "lora_down.weight")})
    path, report = merged(shop, "odd.safetensors : 0.5\na.safetensors", dtype="fp32")
    one, other = dense(source(shop.loras / "odd.safetensors")), dense(source(shop.loras / "a.safetensors"))
    agree(dense(source(Path(path))), other | {QUERY: other[QUERY] + 0.5 * one[QUERY]})
    assert report["against_stack"]["equal"]
    path, report = merged(shop, "odd.safetensors", dtype="as the files")
    kinds = {one.dtype for name, one in load_file(path).items() if not name.endswith("alpha")}
    assert kinds == {dtype if dtype.itemsize == 2 else torch.float16}


def test_without_an_alpha_the_factors_count_as_they_are(shop, lora):
    own = lora(alpha=None)
    path, _ = merged(shop, "odd.safetensors")
    expected = own["lora_up.weight"].double() @ own["lora_down.weight"].double()
    agree(dense(source(Path(path))), {QUERY: expected})


def test_an_alpha_of_0_changes_nothing_and_that_is_said(shop, lora):
    lora(alpha=torch.tensor(0.0))
    answer, report = shop.run("CVL_MergeLoRAs", loras="odd.safetensors", **MERGE)
    assert "nothing is left to be written" in report["problem"] and not shop.files()
    path, report = merged(shop, "odd.safetensors\na.safetensors")
    agree(dense(source(Path(path))), dense(source(shop.loras / "a.safetensors")))
    for node, more in (("CVL_ResizeLoRA", {"keep": "rank", "amount": 2.0}), ("CVL_ResizeLoRA", {"keep": "automatic"})):
        inputs = {"file": "odd.safetensors", "dialect": "as it is", "dtype": "fp32", "filename_prefix": "r"}
        answer, report = shop.run(node, **{"amount": 2.0, **inputs, **more})
        assert report["state"] == "failed" and "nothing" in report["problem"] and "\n" not in report["problem"]


@pytest.mark.parametrize(
    "tensors, sentence",
    [
        ({"lora_up.weight": torch.zeros(320, 0), "lora_down.weight": torch.zeros(0, 320)}, ""),
        ({"lora_up.weight": torch.full((320, 3), float("nan"))}, "NaN"),
        ({"lora_down.weight": torch.full((3, 320), float("inf"))}, "infinite"),
        ({"lora_down.weight": torch.zeros(4, 320)}, ""),
        ({"alpha": torch.tensor(float("nan"))}, "NaN"),
        ({"lora_up.weight": torch.full((320, 3), 3e38)}, ""),
    ],
)
def test_broken_numbers_end_in_one_sentence_and_no_file(shop, lora, tensors, sentence):
    lora(**tensors)
    for node, inputs in (
        ("CVL_MergeLoRAs", {"loras": "odd.safetensors", **MERGE}),
        ("CVL_CompareLoRAs", {"loras": "odd.safetensors\na.safetensors", "what": "those listed"}),
        ("CVL_BakeLoRA", {"loras": "odd.safetensors", "checkpoint": "base.safetensors", "filename_prefix": "b"}),
    ):
        answer, report = shop.run(node, **inputs)
        said = report.get("problem") or "\n".join(report["left_out"]["odd.safetensors"].values())
        assert said and sentence in said and "\n" not in said and "Error" not in said, node
        assert Q in said or "odd.safetensors" in said or report["left_out"]["odd.safetensors"], said
    assert not shop.files()


def test_a_file_twice_is_its_change_at_both_strengths_and_its_names_are_told_apart(shop, lora):
    lora()
    path, report = merged(shop, "odd.safetensors : 0.75\nodd.safetensors : -2")
    change = dense(source(shop.loras / "odd.safetensors"))[QUERY]
    agree(dense(source(Path(path))), {QUERY: change * -1.25})
    assert [one["name"] for one in report["files"]] == ["odd.safetensors (1)", "odd.safetensors (2)"]


def test_names_of_any_script_are_kept_in_reports_headers_and_files(shop, lora):
    name = "水彩 ümlaut’s ✿.safetensors"
    lora(name)
    path, report = merged(shop, f"{name}\na.safetensors", filename_prefix="画/合 ✿", words="水彩, äöü")
    assert Path(path).name == "合 ✿_00001_.safetensors" and report["files"][0]["name"] == name
    found = source(Path(path))
    assert found.metadata["modelspec.trigger_phrase"] == "水彩, äöü" and name in found.metadata["modelspec.merged_from"]


@pytest.mark.parametrize("strength", ["100", "-100"])
def test_the_largest_strengths_are_followed_and_larger_ones_refused(shop, lora, strength):
    lora()
    path, _ = merged(shop, f"odd.safetensors : {strength}")
    change = dense(source(shop.loras / "odd.safetensors"))[QUERY]
    agree(dense(source(Path(path))), {QUERY: change * float(strength)})
    answer, report = shop.run("CVL_MergeLoRAs", loras=f"odd.safetensors : {strength}.5", **MERGE)
    assert "100" in report["problem"] and "\n" not in report["problem"]


def test_numbers_that_the_type_cannot_hold_are_said_and_a_wider_one_holds_them(shop, lora):
    lora(**{"lora_up.weight": torch.full((320, 3), 3e4), "lora_down.weight": torch.full((3, 320), 3e4)})
    answer, report = shop.run("CVL_MergeLoRAs", loras="odd.safetensors : 100", **MERGE | {"dtype": "fp16"})
    assert "float16 cannot: write the file as bf16 or fp32" in report["problem"] and not shop.files()
    path, _ = merged(shop, "odd.safetensors : 100", dtype="bf16")
    assert dense(source(Path(path)))[QUERY].isfinite().all()


def test_a_place_where_nothing_can_be_saved_is_said(shop, lora):
    lora()
    output = shop.place.base / "output"
    output.mkdir(exist_ok=True)
    (output / "taken").write_bytes(b"a file")
    answer, report = shop.run("CVL_MergeLoRAs", loras="odd.safetensors", **MERGE | {"filename_prefix": "taken/m"})
    assert "nothing can be saved there" in report["problem"] and "\n" not in report["problem"]
