"""Merge LoRAs on the standalone host: what the pure function makes, in a file, with the report that says so."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.lora.formats.dialects import DIALECTS
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.merging.merge import merge
from clip_vae_lora.lora.workshop.merging.methods import METHODS, Recipe
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.ranks import Rule

from ...support.loras.shop import dense, relative
from ...support.loras.shop_files import source

BOTH = "a.safetensors : 0.7 : 0.2\nb.safetensors : -0.5"


@pytest.fixture
def run(shop):
    def merged(loras=BOTH, method="sum", keep="all", amount=0.0, **more):
        options = {"dialect": "kohya", "dtype": "as the files", "filename_prefix": "loras/m"} | more
        return shop.run("CVL_MergeLoRAs", loras=loras, method=method, keep=keep, amount=amount, **options)

    return merged


@pytest.fixture
def sources(shop):
    return [source(shop.loras / "a.safetensors", 0.7, 0.2), source(shop.loras / "b.safetensors", -0.5, -0.5)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_what_the_pure_function_makes(run, sources, method):
    answer, report = run(method=method, seed=3)
    gathered = gather(sources)
    made = merge(gathered, Recipe(method, seed=3))
    expected, _ = write(named(gathered, made.adapters, "kohya")[0], "kohya")
    found = load_file(answer["result"][0])
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert report["method"] == method and report["against_stack"]["equal"] == (method == "sum")


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in ("xlabs", "bfl")])  # of Flux alone
def test_the_stack_itself_is_in_the_file_in_every_dialect(run, sources, dialect):
    answer, report = run(dialect=dialect)
    stack = [dense(one) for one in sources]
    found = dense(source(Path(answer["result"][0])))
    assert len(found) == 3 - len(report["not_written"]) >= 1
    for key, change in found.items():
        assert relative(change, stack[0][key] + stack[1][key]) < 1e-6
    assert answer["result"][1] == "cat, dog" and "cat, dog" in answer["ui"]["text"][0]


def test_strengths_by_block_are_those_of_a_loader(run, sources):
    answer, report = run("a.safetensors : 1 : 1 : attn2: 0.25, text: 0\nb.safetensors : -0.5")
    found, own = dense(source(Path(answer["result"][0]))), [dense(source_) for source_ in sources]
    for key, change in found.items():
        factor = 0.25 / 0.7 if "attn2" in key else 0.0 if key.startswith("clip") else 1 / 0.7
        assert relative(change, own[0][key] * factor + own[1][key]) < 1e-6
    assert report["files"][0]["blocks"] == "attn2: 0.25, text: 0"


@pytest.mark.parametrize(
    "keep, amount", [("rank", 2), ("energy", 0.8), ("frobenius", 0.8), ("sum", 0.8), ("ratio", 1.5), ("size", 0.03)]
)
def test_every_rule_cuts_and_the_error_is_that_of_the_file(run, sources, keep, amount):
    answer, report = run(keep=keep, amount=amount, dtype="fp32")
    lost = whole = 0.0
    found, own = dense(source(Path(answer["result"][0]))), [dense(one) for one in sources]
    for layer in report["layers"]:
        stack = own[0][layer["part"]] + own[1][layer["part"]]
        lost += (found.get(layer["part"], torch.zeros(())) - stack).norm().item() ** 2  # a size may leave a layer out
        whole += stack.norm().item() ** 2
    assert report["ranks"][0] < 6 and report["error"] == pytest.approx((lost / whole) ** 0.5, rel=1e-3)
    if keep == "rank":
        made = merge(gather(sources), rule=Rule("rank", 2), dtype=torch.float32)
        assert report["error"] == made.error and report["ranks"] == [2, 2]
    if keep == "size":
        assert report["size_bytes"] <= 30_000


def test_a_stack_comes_before_the_list_and_words_may_be_given(run, shop):
    answer, report = run("b.safetensors", lora_stack=[("a.safetensors", 0.5, 1.0)], words="one, two")
    assert [(one["name"], one["strength_model"], one["strength_clip"]) for one in report["files"]] == [
        ("a.safetensors", 0.5, 1.0),
        ("b.safetensors", 1.0, 1.0),
    ]
    assert answer["result"][1] == "one, two"


def test_a_text_encoder_beside_a_unet_is_a_legal_merge_and_said(run):
    answer, report = run("unet.safetensors\ntext.safetensors : 0.5")
    assert report["weights"] == 3 and not report["common"] and report["against_stack"]["equal"]
    (line,) = [line for line in answer["ui"]["text"][0].splitlines() if "in common" in line]
    assert line == "they have no weight in common: the file holds them side by side"
    answer, _ = run("unet.safetensors\ntext.safetensors", method="slerp")
    assert "⚠ they have no weight in common, so that slerp" in answer["ui"]["text"][0]


def test_a_rank_above_that_of_the_changes_cuts_nothing_and_is_said(run):
    answer, report = run(keep="rank", amount=4000)
    assert report["ranks"] == [6, 6] and report["against_stack"]["equal"]
    assert "3 weights have less than rank 4000 and keep all they have, rank 6 at most" in answer["ui"]["text"][0]
