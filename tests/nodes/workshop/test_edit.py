"""Edit LoRA on the standalone host: the header, the strength, the alpha, the type, the dialect and the blocks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.lora.formats.dialects import DIALECTS
from clip_vae_lora.lora.formats.header import title

from ...support.loras.shop import CONVOLUTION, QUERY, TEXT, dense, relative
from ...support.loras.shop_files import source


@pytest.fixture
def run(shop):
    def edited(**more):
        options = {"file": "a.safetensors", "words": "", "strength": 1.0, "dtype": "as the files"}
        options |= {"dialect": "as it is", "filename_prefix": "loras/e"} | more
        answer, report = shop.run("CVL_EditLoRA", **options)
        return answer, report, Path(answer["result"][0])

    return edited


def test_the_header_alone_leaves_every_tensor_as_it_was(run, shop):
    picture = torch.rand(1, 40, 30, 3, generator=torch.Generator().manual_seed(0))
    answer, report, path = run(
        words="bird, fish", title="New", entries="author = me\nmodelspec.title =", thumbnail=picture
    )
    before, after = load_file(shop.loras / "a.safetensors"), load_file(path)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    header = source(path).metadata
    assert report["trigger_words"] == ["bird", "fish"] and header["author"] == "me" and title(header) == "New"
    assert header["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    assert "its tensors are the same, bit by bit" in answer["ui"]["text"][0]


def test_a_strength_a_type_and_blocks_change_what_the_file_does_as_asked(run, shop):
    old = dense(source(shop.loras / "a.safetensors"))
    _, report, path = run(strength=-0.5, drop="text")
    new = dense(source(path))
    assert new.keys() == {QUERY, CONVOLUTION} and all(relative(new[key], old[key] * -0.5) < 1e-6 for key in new)
    assert report["dropped"] == [TEXT]
    _, _, path = run(dtype="bf16", keep="attn2")
    new = dense(source(path))
    assert new.keys() == {QUERY} and 0 < relative(new[QUERY], old[QUERY]) < 0.01
    assert {tensor.dtype for name, tensor in load_file(path).items() if "alpha" not in name} == {torch.bfloat16}


def test_another_alpha_changes_nothing_but_the_number(run, shop):
    _, _, path = run(alpha=12.0)
    alphas = {tensor.item() for name, tensor in load_file(path).items() if name.endswith("alpha")}
    old, new = dense(source(shop.loras / "a.safetensors")), dense(source(path))
    assert alphas == {12.0} and all(relative(new[key], old[key]) < 1e-6 for key in old)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in ("xlabs", "bfl")])  # of Flux alone
def test_every_dialect_says_the_same_change(run, shop, dialect):
    _, report, path = run(dialect=dialect)
    old, new = dense(source(shop.loras / "a.safetensors")), dense(source(path))
    assert len(new) == 3 - len(report["not_written"]) >= 1
    assert all(relative(new[key], old[key]) < 1e-6 for key in new)
