"""Load LoRA on a tiny CLIP without ComfyUI: blocks, strictness, families, and what its report tells."""

import gc
import json
import math
import os
import weakref
from functools import partial

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.models.match import Match
from clip_vae_lora.lora.weights.measuring import Size
from clip_vae_lora.nodes.lora import application
from clip_vae_lora.nodes.lora import files as lora_files
from clip_vae_lora.nodes.lora import report as lora_report

from ...support import tiny

BUNDLED = "bundled/tiny_clip_stripes_lora.safetensors"
FIRST, SECOND = (f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj" for n in (0, 1))


@pytest.fixture
def clip_model(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    return place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]


@pytest.fixture
def load(place, clip_model):
    def run(names=(FIRST, SECOND), **options):
        path = place.models / "loras" / "l.safetensors"
        if names is not None:
            tiny.lora_file(path, list(names))
        strength = options.pop("strength", 1.0)
        answer = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, strength, clip_model=clip_model, **options)
        return answer["result"][3].network.state_dict(), json.loads(answer["result"][2]), answer["ui"]

    return run


def changed(network, state) -> list[str]:
    before = network.state_dict()
    return sorted(name for name, tensor in state.items() if not torch.equal(tensor, before[name]))


def test_blocks_multiply_the_strength_and_what_they_set_to_nothing_is_not_touched(load, clip_model):
    plain = load()[0]
    before, keys = clip_model.network.state_dict(), changed(clip_model.network, plain)
    assert len(keys) == 2
    layer = keys[1].split(".q")[0].removesuffix(".self_attn").removesuffix(".attention")
    half, report, _ = load(blocks=f"{layer}: 0.5, {keys[0].removesuffix('.weight')}: 0")
    assert changed(clip_model.network, half) == [keys[1]]
    assert torch.allclose(half[keys[1]] - before[keys[1]], (plain[keys[1]] - before[keys[1]]) / 2, atol=1e-6)
    assert report["blocks"]["text"]["strengths"] == [0.0, 0.5]


def test_blocks_that_select_nothing_are_an_error_that_lists_what_there_is(load):
    with pytest.raises(ValueError, match=r"l\.safetensors.*'IN07' selects nothing.*text"):
        load(blocks="IN07: 0")


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 101.0, "much", None, True])
def test_a_strength_beyond_reason_is_an_error_whoever_sets_it(load, strength):
    with pytest.raises(ValueError, match=r"l\.safetensors on the \w+ is .*expected a number from -100 to 100"):
        load(strength=strength)


def test_a_strength_of_a_block_that_is_no_number_is_an_error(load):
    with pytest.raises(ValueError, match="not a number"):
        load(blocks="text: much")


def test_the_report_tells_kinds_ranks_alphas_blocks_and_the_size_of_the_change(load, clip_model):
    state, report, ui = load(strength=0.5)
    assert report["dialect"] == "kohya" and report["kinds"] == {"LoRA": 2}
    assert report["ranks"] == [2] and report["alphas"] == [2.0]
    assert report["applied"] == 2 and report["blocks"]["text"]["modules"] == 2
    before, keys = clip_model.network.state_dict(), changed(clip_model.network, state)
    size = sum(float((state[key] - before[key]).norm()) ** 2 for key in keys) ** 0.5
    own = sum(float(before[key].norm()) ** 2 for key in keys) ** 0.5
    assert report["change"] == pytest.approx(size / own, rel=1e-4)  # the report rounds to six places
    assert "of the weights it touches" in ui["text"][0] and len(ui["images"]) == 1


def test_what_is_not_read_counts_among_the_modules_of_the_file(place, load):
    pair = {
        f"{FIRST}.lora_up.weight": torch.ones(64, 4),
        f"{FIRST}.lora_down.weight": torch.ones(2, 64),
        f"{SECOND}.lora_up.weight": torch.ones(64, 2),
        f"{SECOND}.lora_down.weight": torch.ones(2, 64),
    }
    write_tensors(place.models / "loras" / "l.safetensors", pair, {})
    report, ui = load(None)[1:]
    assert "CLIP model 1; 1 of its 2 parts used" in ui["text"][0] and "their ranks differ" in report["unread"][FIRST]


def test_strict_makes_any_loss_an_error_and_changes_nothing(load):
    names = (FIRST, "lora_te_text_model_encoder_layers_9_self_attn_q_proj")
    assert list(load(names)[1]["homeless"]) == [names[1]]
    with pytest.raises(ValueError, match=r"strict is on.*layers_9.*nearest.*nothing was changed"):
        load(names, strict=True)
    assert load(strict=True)[1]["applied"] == 2


def test_what_is_for_something_that_is_not_connected_is_no_loss(load):
    report = load((FIRST, "lora_unet_mid_block_attentions_0_proj_in"), strict=True)[1]
    assert report["not_connected"] == ["lora_unet_mid_block_attentions_0_proj_in"]


def test_a_file_overwritten_under_its_name_is_read_again_and_otherwise_kept(place, load):
    load()
    path = place.models / "loras" / "l.safetensors"
    kept = lora_files.read_lora(path)
    load(None)
    assert lora_files.read_lora(path) is kept
    tiny.lora_file(path, [FIRST])
    os.utime(path, ns=(1, 1))
    assert load(None)[1]["applied"] == 1


def test_the_scale_in_an_adapter_config_beside_the_file_is_read_again_too(place):
    folder = place.models / "loras" / "peft"
    folder.mkdir()
    name = "base_model.model.text_model.encoder.layers.0.self_attn.q_proj"
    pair = {f"{name}.lora_A.weight": torch.ones(2, 64), f"{name}.lora_B.weight": torch.ones(64, 2)}
    write_tensors(folder / "adapter_model.safetensors", pair, {})
    for alpha in (4, 16):
        (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": alpha, "peft_type": "LORA"}))
        os.utime(folder / "adapter_config.json", ns=(alpha, alpha))
        adapters = lora_files.read_lora(folder / "adapter_model.safetensors").file.adapters
        assert [adapter.alpha for adapter in adapters.values()] == [alpha]


def test_a_configuration_that_belongs_to_another_file_of_the_folder_is_not_read(place, load):
    beside = place.models / "loras" / "adapter_config.json"
    beside.write_text(json.dumps({"r": 64, "lora_alpha": 1, "peft_type": "LORA"}))
    assert load()[1]["applied"] == 2
    beside.write_text("{")
    assert load()[1]["applied"] == 2
    name = "base_model.model.text_model.encoder.layers.0.self_attn.q_proj"
    pair = {f"{name}.lora_A.weight": torch.ones(2, 64), f"{name}.lora_B.weight": torch.ones(64, 2)}
    write_tensors(place.models / "loras" / "l.safetensors", pair, {})
    with pytest.raises(ValueError, match=r"l\.safetensors: the adapter_config\.json beside it.*not valid JSON"):
        load(None, strict=True)


def test_a_file_is_kept_as_long_as_the_node_that_read_it_and_no_longer(place, clip_model):
    path, node = tiny.lora_file(place.models / "loras" / "l.safetensors", [FIRST]), place.node("CVL_LoadLoRA")
    changed_model = node.load("l.safetensors", 1.0, 1.0, clip_model=clip_model)["result"][3]
    kept = weakref.ref(lora_files.read_lora(path))
    assert lora_files.read_lora(path) is kept()
    factors = [weakref.ref(adapter) for adapter in kept().file.adapters.values()]
    del node  # as ComfyUI does at /free
    gc.collect()
    assert kept() is None and not any(factor() for factor in factors) and not lora_files._alive
    assert changed_model.network is not clip_model.network  # what was merged lives on, without the file


@pytest.mark.parametrize("name", ["CVL_LoadLoRA", "CVL_LoRAStack", "CVL_LoRAInfo"])
def test_a_node_runs_again_when_the_configuration_beside_its_file_changes(place, name):
    tiny.lora_file(place.models / "loras" / "adapter_model.safetensors", [FIRST])
    wanted = {"loras": "adapter_model"} if name == "CVL_LoRAStack" else {"file": "adapter_model.safetensors"}
    seen = []
    for alpha in (None, 2, 16):
        if alpha:
            beside = place.models / "loras" / "adapter_config.json"
            beside.write_text(json.dumps({"r": 2, "lora_alpha": alpha, "peft_type": "LORA"}))
        seen.append(place.node(name).IS_CHANGED(**wanted))
    assert len(set(seen)) == 3 and place.node(name).IS_CHANGED(**wanted) == seen[2]


def test_a_lora_for_another_family_of_models_is_refused_with_both_names(place, monkeypatch):
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    monkeypatch.setattr(application.host, "weights", lambda target: {key: (320, 768)})
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    pair = {f"{name}.lora_down.weight": torch.ones(1, 2048), f"{name}.lora_up.weight": torch.ones(640, 1)}
    write_tensors(place.models / "loras" / "xl.safetensors", pair, {})
    with pytest.raises(ValueError, match=r"xl.safetensors.*SDXL.*SD 1"):
        place.node("CVL_LoadLoRA").load("xl.safetensors", 1.0, 1.0, model=object(), strict=True)


@pytest.mark.parametrize(
    "change, error, unknown, said",
    [
        (0.0313, 0.0021, 0, "the change is about 3.1 % (± 0.2) of the weights it touches"),
        (0.0313, 0.00034, 0, "about 3.13 % (± 0.03)"),
        (1.5, 0.21, 0, "about 150 % (± 21)"),
        (0.0313, 0.0, 0, "the change is 3.13 % of the weights it touches"),
        (0.0313, 0.0, 2, "2 weights are left out"),
        (None, None, 5, "is unknown"),
    ],
)
def test_the_size_of_the_change_is_told_with_what_is_not_sure(change, error, unknown, said):
    line = lora_report.size_line({"change": change, "change_error": error, "not_measured": unknown})
    assert said in line and ("LoRA Info" in line) == bool(unknown)


def test_weights_that_are_not_numbers_are_counted_and_the_others_are_told():
    data = {"change": 0.25, "change_error": 0.0, "not_measured": 0, "not_numbers": 2}
    assert lora_report.size_line(data) == (
        "the change is 25 % of the weights it touches; 2 weights are left out: they have NaN or infinity"
    )
    line = lora_report.size_line({**data, "change": None, "change_error": None})
    assert line == "the size of the change relative to the weights is unknown: 2 of them have NaN or infinity"


def test_a_model_with_nan_in_a_weight_gets_its_report():
    a, b = (LoRA(torch.ones(4, 1), torch.ones(1, 4), 1.0) for _ in "ab")
    found = Match({"diffusion_model.x.weight": a, "diffusion_model.y.weight": b}, {}, {})
    sizes = {"diffusion_model.x.weight": Size(math.nan), "diffusion_model.y.weight": Size(64.0)}
    blocks, together = lora_report.relative_changes(
        {"model": found}, {"model": dict.fromkeys(sizes, 1.0)}, {"model": sizes}, {a: Size(16.0), b: Size(16.0)}
    )
    assert together == {"change": 0.5, "change_error": 0.0, "not_measured": 0, "not_numbers": 1}
    assert blocks["other"]["modules"] == 2


# what a new node does, what is not used, and words


def test_a_new_node_begins_with_the_users_first_file_and_else_with_none(place):
    def menu():
        return place.node("CVL_LoadLoRA").INPUT_TYPES()["required"]["file"]

    assert menu()[0] == ["none", BUNDLED] and menu()[1]["default"] == "none"
    tiny.lora_file(place.models / "loras" / "b.safetensors", [FIRST])
    assert menu()[0] == ["none", "b.safetensors", BUNDLED] and menu()[1]["default"] == "b.safetensors"
    for name in ("CVL_LoRAInfo", "CVL_ConvertLoRA", "CVL_EditLoRA", "CVL_ResizeLoRA"):  # these work alone, at each Run
        choices, words = place.node(name).INPUT_TYPES()["required"]["file"]
        assert choices == ["none", "b.safetensors", BUNDLED] and words["default"] == "none"
    assert place.node("CVL_LoRAStack").INPUT_TYPES()["required"]["loras"][1]["default"] == ""


def test_none_passes_on_what_is_connected(place, clip_model):
    answer = place.node("CVL_LoadLoRA").load("none", 1.0, 1.0, clip_model=clip_model)
    assert answer["result"][3] is clip_model and answer["result"][4] == "" and "passed on" in answer["ui"]["text"][0]


@pytest.mark.parametrize("content", [b"", b"junk" * 9, None])
def test_a_file_that_cannot_be_used_is_told_in_red_and_what_is_connected_goes_on(place, clip_model, content):
    path = place.models / "loras" / "l.safetensors"
    if content is None:
        tiny.lora_file(path, ["lora_unet_mid_block_attentions_0_proj_in"])
    else:
        path.write_bytes(content)
    answer = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip_model=clip_model)
    report = json.loads(answer["result"][2])
    assert answer["result"][3] is clip_model and report["state"] == "failed" and report["applied"] == 0
    assert answer["ui"]["text"][0].startswith("✖ l.safetensors was not used: ") and report["problem"]
    with pytest.raises(ValueError, match="l.safetensors") as raised:
        place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip_model=clip_model, strict=True)
    assert type(raised.value) is ValueError


def test_words_are_the_files_own_or_those_that_are_written(place, clip_model):
    path = tiny.lora_file(place.models / "loras" / "l.safetensors", [FIRST])
    path.with_suffix(".txt").write_text("sks dog")
    run = partial(place.node("CVL_LoadLoRA").load, "l.safetensors", clip_model=clip_model)
    assert run(strength_model=1.0, strength_clip=1.0)["result"][4] == "sks dog"
    assert run(strength_model=1.0, strength_clip=1.0, words=" mine,of course ")["result"][4] == "mine, of course"
    assert run(strength_model=1.0, strength_clip=0.0)["result"][4] == ""  # it changes nothing
    mark = place.node("CVL_LoadLoRA").IS_CHANGED("l.safetensors")
    path.with_suffix(".txt").write_text("sks cat and more")
    assert place.node("CVL_LoadLoRA").IS_CHANGED("l.safetensors") != mark
