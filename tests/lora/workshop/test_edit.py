"""Editing: strength, alpha, type and blocks against the dense change; headers edited and joined."""

import json
import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.kinds.widening import Widening
from clip_vae_lora.lora.workshop.editing.edit import Edit, cast, edit, strengthened, with_alpha
from clip_vae_lora.lora.workshop.editing.header import HeaderEdit, edit_header, kept_entries, merged_header
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.sources import Source

from ...support.loras.shop import CONVOLUTION, PLACES, TEXT, dense, plain, random, relative

WEIGHT = random(12, 9, seed=7)
KINDS = {
    "LoRA": LoRA(random(12, 3), random(3, 9), 2.0),
    "LoHa": LoHa(random(12, 2), random(2, 9), random(12, 2, seed=1), random(2, 9, seed=1), 3.0),
    "LoKr": LoKr(2.0, w1=random(3, 3), w2_a=random(4, 2), w2_b=random(2, 3)),
    "whole LoKr": LoKr(2.0, w1=random(3, 3), w2=random(4, 3)),
    "GLoRA": GLoRA(random(9, 2), random(2, 9), random(12, 2), random(2, 9), 3.0),
    "difference": Difference(random(12, 9)),
    "ia3": IA3(random(12), False),
    "control": Widening(LoRA(random(12, 3), random(3, 9), 2.0), (12, 9)),
}


@pytest.mark.parametrize("strength", [0.5, -2.0])
@pytest.mark.parametrize("name", KINDS)
def test_a_strength_in_the_file_is_that_strength_in_a_loader(name, strength):
    adapter = KINDS[name]
    found = strengthened(adapter, strength).delta(WEIGHT)
    torch.testing.assert_close(found, adapter.delta(WEIGHT, strength), rtol=1e-5, atol=1e-5)


def test_a_dora_at_another_strength_is_no_dora():
    with pytest.raises(LoRAError, match="DoRA of LoRA at another strength"):
        strengthened(DoRA(KINDS["LoRA"], random(12, 1).abs()), 0.5)


@pytest.mark.parametrize("name", KINDS)
def test_another_alpha_changes_the_number_and_not_the_change(name):
    adapter = KINDS[name]
    found = with_alpha(adapter, 1.0)
    torch.testing.assert_close(found.delta(WEIGHT), adapter.delta(WEIGHT), rtol=1e-5, atol=1e-5)
    assert found.alpha == (1.0 if adapter.rank else adapter.alpha)
    inner = DoRA(KINDS["LoRA"], random(12, 1).abs())
    torch.testing.assert_close(with_alpha(inner, 1.0).delta(WEIGHT), inner.delta(WEIGHT), rtol=1e-5, atol=1e-5)


def test_an_alpha_of_0_stays():
    with pytest.raises(LoRAError, match="its alpha is 0"):
        with_alpha(LoRA(random(12, 3), random(3, 9), 0.0), 4.0)


@pytest.mark.parametrize("name", KINDS)
def test_a_cast_changes_the_type_of_every_number(name):
    found = cast(KINDS[name], torch.bfloat16)
    torch.testing.assert_close(found.delta(WEIGHT), KINDS[name].delta(WEIGHT), rtol=0.1, atol=0.3)
    with pytest.raises(LoRAError, match="float16"):
        cast(LoRA(random(12, 3) * 1e6, random(3, 9), 2.0), torch.float16)


def test_blocks_are_kept_or_dropped():
    gathered = gather([plain(2, 0)])
    assert edit(gathered, Edit(keep="IN01")).dropped == (TEXT,)
    assert set(edit(gathered, Edit(drop="text, attn2")).adapters) == {CONVOLUTION}
    assert set(edit(gathered, Edit(keep="attn2, text", drop="to_k")).adapters) == set(PLACES) - {CONVOLUTION, PLACES[1]}
    with pytest.raises(LoRAError, match="leave nothing"):
        edit(gathered, Edit(drop="*"))
    with pytest.raises(LoRAError, match="selects nothing"):
        edit(gathered, Edit(keep="OUT07"))


def test_an_edited_file_in_another_dialect_is_the_old_change_at_the_strength():
    source = plain(3, 0)
    found = edit(gather([source]), Edit(strength=-0.5, alpha=1.0, dtype=torch.float32))
    adapters, unnamed = named(gather([source]), found.adapters, "peft")
    assert not unnamed and not found.refused
    tensors, header = write(adapters, "peft")
    own, before = dense(Source("x", read(tensors, header), header)), dense(source)
    for key, change in before.items():
        assert relative(own[key], change * -0.5) < 1e-6


@pytest.mark.parametrize("make", [lambda: Edit(strength=0), lambda: Edit(strength=math.nan), lambda: Edit(alpha=0)])
def test_numbers_that_leave_nothing_are_refused(make):
    with pytest.raises(LoRAError, match="strength|alpha"):
        make()


def test_a_header_gets_words_a_title_a_thumbnail_and_any_entry():
    before = {"ss_steps": "100", "modelspec.trigger_phrase": "old", "note": "x"}
    change = HeaderEdit({"author": "me"}, ["note"], ["cat,  dog", "cat"], " Title ", "data:image/jpeg;base64,AAAA")
    assert edit_header(before, change) == {
        "ss_steps": "100",
        "author": "me",
        "modelspec.trigger_phrase": "cat, dog",
        "modelspec.title": "Title",
        "modelspec.thumbnail": "data:image/jpeg;base64,AAAA",
    }
    assert "modelspec.trigger_phrase" not in edit_header(before, HeaderEdit(words=[]))
    assert before["note"] == "x"


@pytest.mark.parametrize(
    "change, message",
    [
        (HeaderEdit(remove=["gone"]), "no entry 'gone' to remove: it has a"),
        (HeaderEdit({"": "x"}), "expected a name"),
        (HeaderEdit({"__metadata__": "x"}), "expected a name"),
        (HeaderEdit(thumbnail="http://x"), "no picture"),
    ],
)
def test_an_edit_of_a_header_that_cannot_be_is_said(change, message):
    with pytest.raises(LoRAError, match=message):
        edit_header({"a": "1"}, change)


def test_hashes_of_the_old_tensors_go_with_them():
    header = {"sshs_model_hash": "1", "ss_network_dim": "4", "ss_steps": "5", "unet:0:rank": "1", "<w>": "<embed>"}
    assert kept_entries(header) == {"ss_steps": "5"}
    assert kept_entries(header, tensors_changed=False) == header


def test_a_merged_header_joins_words_and_tags_and_names_its_files():
    one = {
        "ss_sd_model_name": "sd15",
        "ss_steps": "100",
        "modelspec.trigger_phrase": "cat, red",
        "modelspec.title": "Cats",
        "ss_tag_frequency": json.dumps({"cats": {"cat": 3}}),
        "sshs_model_hash": "1",
    }
    two = one | {
        "ss_steps": "200",
        "modelspec.trigger_phrase": "dog, red",
        "modelspec.title": "Dogs",
        "modelspec.merged_from": "x, y",
        "ss_tag_frequency": json.dumps({"dogs": {"dog": 2}}),
        "ss_comment": "only here",
    }
    sources = [
        Source("a", plain(2, 0).file, one, 0.7, 0.3, "text: 0"),
        Source("b", plain(2, 1).file, two, -1.0, 1.0),
    ]
    found = merged_header(sources, {"method": "sum"})
    recipe = json.loads(found.pop("cvl_merge"))
    assert json.loads(found.pop("ss_tag_frequency")) == {"cats": {"cat": 3}, "dogs": {"dog": 2}}
    assert found == {
        "ss_sd_model_name": "sd15",
        "ss_comment": "only here",
        "modelspec.trigger_phrase": "cat, red, dog",
        "modelspec.merged_from": "a, b (x, y)",
    }
    assert recipe["method"] == "sum" and [one["strength_model"] for one in recipe["files"]] == [0.7, -1.0]
    assert recipe["files"][0]["blocks"] == "text: 0" and recipe["files"][1]["title"] == "Dogs"
    assert [one["header"]["ss_steps"] for one in recipe["files"]] == ["100", "200"]
