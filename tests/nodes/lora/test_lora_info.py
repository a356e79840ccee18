"""LoRA Info and Convert LoRA without ComfyUI: what is told of a file, and the same adapters under other names."""

import json
import re

import pytest
import torch

from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.lora.formats import header as lora_header
from clip_vae_lora.nodes.lora import files as lora_files

from ...support import tiny

FIRST, SECOND = (f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj" for n in (0, 1))


@pytest.fixture
def clip_model(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    return place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]


def write(place, metadata, names=(FIRST,), up=None, **extra):
    generator = torch.Generator().manual_seed(3)
    tensors = dict(extra)
    for name in names:
        tensors[f"{name}.lora_up.weight"] = torch.randn(64, 4, generator=generator) if up is None else up
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, 64, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    path = place.models / "loras" / "l.safetensors"
    write_tensors(path, tensors, metadata)
    return path


def look(place):
    answer = place.node("CVL_LoRAInfo").look("l.safetensors")
    return json.loads(answer["result"][0]), answer["result"][1], answer["result"][2]


# the header


def test_a_headers_text_is_cut_and_freed_of_control_and_direction_characters():
    assert lora_header.clean("a\x00b\n\u202ec\x1b[31m \ud800") == "a b c [31m"
    assert lora_header.clean("x" * 600) == "x" * 500 + "…"


def test_trigger_words_are_the_authors_phrase_or_else_the_commonest_tags():
    tags = json.dumps({"1_cat": {"cat": 3, "red": 5}, "2_dog": {"cat": 4, "odd": "many", "true": True}})
    assert lora_header.trigger_words({"ss_tag_frequency": tags}) == ["cat", "red"]
    assert lora_header.trigger_words({"ss_tag_frequency": tags, "modelspec.trigger_phrase": "sks dog"}) == ["sks dog"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[1]", '{"a": [1]}', "3", "None", ""])
def test_a_header_that_is_not_what_it_should_be_has_no_tags(text):
    assert lora_header.trigger_words({"ss_tag_frequency": text}) == []


def test_the_trainers_facts_come_first_and_empty_ones_and_pictures_are_left_out():
    facts = lora_header.training_facts(
        {"zoo": "x", "ss_epoch": "3", "ss_lr": "None", "modelspec.thumbnail": "data:abc", "unet:1:rank": "4"}
    )
    assert list(facts.items()) == [("ss_epoch", "3"), ("zoo", "x")]
    assert len(lora_header.training_facts({f"ss_{n}": "x" for n in range(5000)})) == 200


# LoRA Info


def test_norms_and_directions_are_those_of_the_change(place):
    up = torch.zeros(64, 4)
    up[0, 0] = up[1, 1] = 1.0  # two of the four directions are used
    path = write(place, {"modelspec.trigger_phrase": "sks"}, up=up)
    report, words, picture = look(place)
    change = lora_files.read_lora(path).file.adapters[FIRST].delta((64, 64))
    assert report["strengths"][0]["norm"] == pytest.approx(float(change.norm()), rel=1e-5)  # rounded to six places
    spectrum = report["spectra"][FIRST]
    assert spectrum["rank"] == 4 and spectrum["directions"] == 2
    assert spectrum["values"][:2] == pytest.approx(torch.linalg.svdvals(change)[:2].tolist(), rel=1e-5)
    assert words == "sks" and report["alphas"] == [2.0] and picture.shape[-1] == 3


def test_a_file_without_plain_loras_has_a_picture_of_its_kinds(place):
    path = place.models / "loras" / "l.safetensors"
    write_tensors(path, {f"{FIRST}.diff": torch.ones(64, 64)}, {})
    report, words, picture = look(place)
    assert report["kinds"] == {"full difference": 1} and report["spectra"] == {} and words == ""
    assert picture.ndim == 4


# Convert LoRA


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
def test_a_converted_file_makes_the_same_change(place, clip_model, dialect):
    source = write(place, {"ss_epoch": "3", "sshs_model_hash": "of another file"}, (FIRST, SECOND))
    path, report = place.node("CVL_ConvertLoRA").convert("l.safetensors", dialect, "loras/x", clip_model=clip_model)[
        "result"
    ]
    assert json.loads(report)["modules"] == 2 and json.loads(report)["not_written"] == {}
    assert path.startswith(str(place.base / "output" / "loras"))
    (place.models / "loras" / "new.safetensors").write_bytes(open(path, "rb").read())
    states = [
        place.node("CVL_LoadLoRA")
        .load(name, 1.0, 1.0, clip_model=clip_model, strict=True)["result"][3]
        .network.state_dict()
        for name in (source.name, "new.safetensors")
    ]
    assert all(torch.allclose(tensor, states[1][key], atol=1e-6) for key, tensor in states[0].items())
    with open_tensors(path) as file:
        assert file.metadata["ss_epoch"] == "3" and "sshs_model_hash" not in file.metadata


def test_what_is_not_written_is_told_with_the_reason(place, clip_model):
    write(place, {}, (FIRST, "lora_unet_mid_block_attentions_0_proj_in"))
    report = place.node("CVL_ConvertLoRA").convert("l.safetensors", "kohya", "x", clip_model=clip_model)["result"][1]
    assert json.loads(report)["not_written"] == {
        "lora_unet_mid_block_attentions_0_proj_in": "it has no place in what is connected"
    }


def test_what_a_dialect_cannot_hold_is_an_error_and_no_file(place, clip_model):
    write_tensors(place.models / "loras" / "l.safetensors", {f"{FIRST}.diff": torch.ones(64, 64)}, {})
    with pytest.raises(ValueError, match="diffusers files cannot hold: write it as kohya"):
        place.node("CVL_ConvertLoRA").convert("l.safetensors", "diffusers", "x", clip_model=clip_model)
    assert not list((place.base / "output").rglob("*.safetensors"))


def test_a_file_that_fits_nothing_connected_is_an_error(place, clip_model):
    write(place, {}, ("lora_unet_mid_block_attentions_0_proj_in",))
    with pytest.raises(ValueError, match="none of its modules fits"):
        place.node("CVL_ConvertLoRA").convert("l.safetensors", "kohya", "x", clip_model=clip_model)


def test_without_a_model_the_names_are_those_of_the_published_one_that_the_file_fits(place, shared_data):
    real = shared_data / "lora" / "analog_svd_rank4.safetensors"  # cloneofsimo's numbers, 144 + 48 modules of SD 1
    (place.models / "loras" / "l.safetensors").write_bytes(real.read_bytes())
    path, report = place.node("CVL_ConvertLoRA").convert("l.safetensors", "kohya", "x")["result"]
    assert json.loads(report)["names_of"] == "SD 1, as published" and json.loads(report)["modules"] == 192
    with open_tensors(path) as file:
        assert file.shapes["lora_te_text_model_encoder_layers_11_self_attn_q_proj.lora_up.weight"] == (768, 4)
        assert file.shapes["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"] == (
            4,
            768,
        )


def test_with_nothing_connected_what_cannot_be_converted_is_told_in_red_and_the_rest_goes_on(place):
    write(place, {}, ("lora_unet_nowhere",))
    files = {"l.safetensors": r"names are known here \(SD 1.*connect the MODEL", "gone.safetensors": "there is no"}
    for file, why in files.items():
        node = place.node("CVL_ConvertLoRA")
        assert node.VALIDATE_INPUTS(file)
        answer = node.convert(file, "kohya", "x")
        report = json.loads(answer["result"][1])
        assert report["state"] == "failed" and re.search(why, report["problem"])
        assert answer["ui"]["text"] == [f"✖ {report['problem']}"]
        assert not isinstance(answer["result"][0], str)  # nothing to read for what is connected behind it
    assert not list((place.base / "output").rglob("*.safetensors"))


def test_lora_info_of_a_file_that_is_gone_says_so_and_the_rest_goes_on(place):
    node = place.node("CVL_LoRAInfo")
    assert node.VALIDATE_INPUTS("gone.safetensors")
    report = json.loads(node.look("gone.safetensors")["result"][0])
    assert report == {
        "state": "failed",
        "problem": 'there is no "gone.safetensors" in the model folder loras; put it there, or choose another file',
    }


def test_with_a_model_the_change_is_measured_beside_all_of_its_weights(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    clip_model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    path = tiny.lora_file(place.models / "loras" / "l.safetensors", [FIRST])
    answer = place.node("CVL_LoRAInfo").look(path.name, clip_model=clip_model)
    report = json.loads(answer["result"][0])
    put_on = json.loads(place.node("CVL_LoadLoRA").load(path.name, 1.0, 1.0, clip_model=clip_model)["result"][2])
    assert report["change"] == pytest.approx(put_on["change"], rel=1e-3) and report["change_error"] == 0
    assert report["blocks"].keys() == {"text"} and "at strength 1 the change is" in answer["ui"]["text"][0]


def test_a_model_that_the_file_does_not_fit_is_an_error(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    clip_model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    tiny.lora_file(place.models / "loras" / "l.safetensors", ["lora_unet_mid_block_attentions_0_proj_in"])
    with pytest.raises(ValueError, match=r"l\.safetensors.*has a place in what is connected"):
        place.node("CVL_LoRAInfo").look("l.safetensors", clip_model=clip_model)
