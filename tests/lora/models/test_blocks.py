"""Selectors and presets to strengths, on the keys of published models."""

import json

import pytest

from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.models.blocks import block_of, count_by_block, select
from clip_vae_lora.lora.models.places import Slice

from ...support.files.lora_layouts import LAYOUTS, flux, sd3, text, vision

SD15, SDXL, FLUX = list(LAYOUTS["SD15"]()), list(LAYOUTS["SDXL"]()), list(flux(64, 3, 4))
U = "diffusion_model."


def at(selection, *parts):
    return {strength for key, strength in selection.strengths.items() if all(part in key for part in parts)}


def test_nothing_selected_is_strength_one_everywhere():
    assert set(select("", SD15).strengths.values()) == {1.0} and select(" , \n", SD15).strengths.keys() == set(SD15)


def test_the_selectors_of_the_issue():
    chosen = select("attn2: 0.5, IN07-IN08: 0, MID: 0.7, OUT03: -1, text: 0.2", SD15)
    assert at(chosen, "input_blocks.7.") == at(chosen, "input_blocks.8.") == {0.0}
    assert at(chosen, "middle_block") == {0.7} and at(chosen, "output_blocks.3.") == {-1.0}
    assert at(chosen, "clip_l.") == {0.2} and at(chosen, "input_blocks.4.1", "attn2") == {0.5}
    assert at(chosen, "input_blocks.4.1", "attn1") == {1.0}
    assert list(chosen.hits) == ["attn2: 0.5", "IN07-IN08: 0", "MID: 0.7", "OUT03: -1", "text: 0.2"]
    assert chosen.hits["attn2: 0.5"] == 64 and chosen.hits["text: 0.2"] == len(at_keys("clip_l."))


def at_keys(part):
    return [key for key in SD15 if part in key]


def test_a_later_selector_overrules_an_earlier_one():
    assert at(select("IN07: 0, attn2: 0.5", SD15), "input_blocks.7.1", "attn2") == {0.5}
    assert at(select("attn2: 0.5, IN07: 0", SD15), "input_blocks.7.1", "attn2") == {0.0}
    assert at(select("*: 0; MID", SD15), "middle_block") == {1.0}


def test_numbered_blocks_of_transformers():
    chosen = select("double.0-1: 0.3, single.3: 0, img_mlp: 2", FLUX)
    assert at(chosen, "double_blocks.0.txt") == at(chosen, "double_blocks.1.txt") == {0.3}
    assert at(chosen, "double_blocks.2.txt") == {1.0} and at(chosen, "single_blocks.3.") == {0.0}
    assert at(select("joint.0-11: 0.5", sd3(64, 24)), "joint_blocks.11.") == {0.5}
    assert at(select("joint.0-11: 0.5", sd3(64, 24)), "joint_blocks.12.") == {1.0}


def test_rows_of_a_weight_are_selected_with_it():
    place = Slice(f"{U}double_blocks.1.img_attn.qkv.weight", (0, 0, 64))
    assert select("double.1: 0.4", [place, *FLUX]).strengths[place] == 0.4 and block_of(place) == "double.1"


def test_our_own_clip_has_a_text_and_a_vision_half():
    chosen = select("vision: 0, text: 0.5", [*text("", 64, 2, 64), *vision(64, 2, 64)])
    assert at(chosen, "vision_model.") == {0.0} and at(chosen, "text_model.") == {0.5}


@pytest.mark.parametrize("layout, count", [("SD15", 17), ("SD15", 26), ("SDXL", 12), ("SDXL", 20), ("SD2", 26)])
def test_presets_are_those_of_the_team_s_table(layout, count, shared_data):
    table = json.loads((shared_data.parent / "formats_tables.json").read_text())["lbw"][str(count)]
    keys = list(LAYOUTS[layout]())
    chosen = select(",".join(str(n / 100 + 0.01) for n in range(count)), keys)
    names = {"MID": "M00"}
    for key, strength in chosen.strengths.items():
        block = names.get(block_of(key), block_of(key))
        if not block.startswith(("IN", "OUT", "M0")):
            block = "BASE"
        assert strength == pytest.approx(table.index(block) / 100 + 0.01 if block in table else 0.0), key
    assert len(chosen.hits) == count and sum(chosen.hits.values()) <= len(keys)


def test_a_preset_on_text_encoders_alone_is_its_first_number():
    keys = [key for key in SDXL if key.startswith("clip_")]
    assert set(select(",".join(["0.3"] + ["1"] * 11), keys).strengths.values()) == {0.3}


@pytest.mark.parametrize(
    "words, keys, message",
    [
        ("attn3: 0.5", SD15, r"did you mean attn"),
        ("IN12: 0", SD15, "IN00-11, OUT00-11, MID, clip_l"),
        ("double.0: 0", SD15, "selects nothing"),
        ("IN09-IN07: 0", SD15, "selects nothing"),
        ("double.9: 1", FLUX, "double.0-2"),
        ("MID: strong", SD15, "not a number"),
        ("MID: nan", SD15, "not a number"),
        ("MID: 1e999", SD15, "not a number"),
        ("MID:", SD15, "not a number"),
        ("MID: 1: 2", SD15, "not a number"),
        (": 1", SD15, "selects nothing"),
        ("1,2,3", SD15, "3 numbers are no preset"),
        (",".join("1" * 12), SD15, "for SDXL"),
        (",".join("1" * 17), SDXL, "for SD 1"),
        (",".join("1" * 17), FLUX, "no such blocks"),
        ("x: 1", [], "nothing to"),
    ],
)
def test_what_cannot_be_selected_is_said_with_what_there_is(words, keys, message):
    with pytest.raises(LoRAError, match=message) as error:
        select(words, keys)
    assert "\n" not in str(error.value)


def test_blocks_are_counted_in_the_order_of_the_data():
    counts = count_by_block(SD15)
    numbered = [[f"{stack}{n:02}" for n in range(12)] for stack in ("IN", "OUT")]
    assert list(counts) == ["clip_l", *numbered[0], "MID", *numbered[1], "other"]
    assert sum(counts.values()) == len(SD15)
    assert list(count_by_block(reversed(FLUX)))[:4] == ["double.0", "double.1", "double.2", "single.0"]


STACKS = {  # a model's keys: its stacks of blocks, which no other table names
    "Wan": (f"{U}blocks.{{}}.self_attn.q.weight", "blocks", 40),
    "Qwen-Image": (f"{U}transformer_blocks.{{}}.attn.to_q.weight", "transformer_blocks", 60),
    "Z-Image": (f"{U}layers.{{}}.attention.qkv.weight", "layers", 30),
    "HiDream": (f"{U}double_stream_blocks.{{}}.block.ff_i.experts.0.w1.weight", "double_stream_blocks", 16),
    "AuraFlow": (f"{U}single_layers.{{}}.attn.w1q.weight", "single_layers", 32),
    "HunyuanVideo": (
        f"{U}txt_in.individual_token_refiner.blocks.{{}}.mlp.0.weight",
        "txt_in.individual_token_refiner.blocks",
        2,
    ),
    "OmniGen 2": (f"{U}noise_refiner.{{}}.attn.to_q.weight", "noise_refiner", 2),
    "ACE-Step 1.5": (f"{U}decoder.layers.{{}}.mlp.up_proj.weight", "decoder.layers", 24),
}


@pytest.mark.parametrize("family", STACKS)
def test_any_numbered_stack_of_a_model_is_selected_by_its_name_and_numbers(family):
    form, stack, count = STACKS[family]
    outside = [f"{U}time_embedding.0.weight", f"{U}t_embedder.mlp.0.weight", f"{U}patch_embedding.weight"]
    keys = [form.format(number) for number in range(count)] + outside
    assert list(count_by_block(reversed(keys))) == [*(f"{stack}.{number}" for number in range(count)), "other"]
    chosen = select(f"{stack}.1-{count - 1}: 0.25, other: 2", keys)
    assert [chosen.strengths[key] for key in keys] == [1.0] + [0.25] * (count - 1) + [2.0] * 3
    assert set(select(f"{stack}.0: 0", keys).strengths.values()) == {0.0, 1.0}
    with pytest.raises(LoRAError, match=f"selects nothing in this model.*there is {stack}.0-{count - 1}, other"):
        select(f"{stack}.{count}-{count + 3}: 0", keys)


def test_a_range_is_of_the_stack_of_that_name_and_not_of_one_inside_another():
    keys = [f"{U}blocks.0.mlp.layer1.weight", f"{U}llm_adapter.blocks.0.mlp.0.weight"]
    assert list(select("blocks.0-3: 0", keys).strengths.values()) == [0.0, 1.0]
    assert list(select("blocks.0: 0", keys).strengths.values()) == [0.0, 1.0]
    assert list(select("llm_adapter.blocks.0-3: 0", keys).strengths.values()) == [1.0, 0.0]


def test_the_model_s_own_name_of_a_stack_is_taken_for_the_short_one():
    assert select("double_blocks.0-1: 0.3", FLUX).strengths == select("double.0-1: 0.3", FLUX).strengths


def test_a_text_encoder_of_any_name_is_a_block_of_that_name():
    key = "qwen25_7b.transformer.model.layers.0.mlp.up_proj.weight"
    assert block_of(key) == "qwen25_7b" and select("text: 0.5", [key, FLUX[0]]).strengths == {key: 0.5, FLUX[0]: 1.0}
