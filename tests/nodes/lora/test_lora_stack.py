"""LoRA Stack without ComfyUI: the list, and several files on one CLIP."""

import json

import pytest
import torch

from clip_vae_lora.lora.formats import list_text
from clip_vae_lora.lora.formats.list_text import ListError, LoRALine
from clip_vae_lora.nodes.lora import files as lora_files

from ...support import tiny

FIRST, SECOND = (f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj" for n in (0, 1))
Q_PROJECTION = "self_attn.q_proj.weight"


@pytest.fixture
def clip(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    return place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]


@pytest.fixture
def stack(place, clip):
    tiny.lora_file(place.models / "loras" / "both.safetensors", [FIRST, SECOND])
    tiny.lora_file(place.models / "loras" / "one.safetensors", [FIRST], rank=4)

    node = place.node("CVL_LoRAStack")  # one for all runs, as ComfyUI keeps it

    def run(text, **options):
        answer = node.load(text, clip=clip, **options)
        return answer["result"][1], json.loads(answer["result"][2]), answer["ui"]

    return run


def state(clip):
    return clip.towers.state_dict()


# the list


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a", LoRALine(1, "a")),
        ("a.safetensors : 0.5", LoRALine(1, "a.safetensors", 0.5, 0.5)),
        ("a:0.5:-2", LoRALine(1, "a", 0.5, -2.0)),
        ("a : : 0", LoRALine(1, "a", 1.0, 0.0)),
        ("a : 1 : 1 : attn2: 0.5, IN07-IN08: 0", LoRALine(1, "a", 1.0, 1.0, "attn2: 0.5, IN07-IN08: 0")),
        ("off a : 0.5", LoRALine(1, "a", 0.5, 0.5, "", False)),
        ("- a", LoRALine(1, "a", on=False)),
        ("\n# a comment\n  a b # another", LoRALine(3, "a b")),
        ("offset.safetensors", LoRALine(1, "offset.safetensors")),
        ("a#1", LoRALine(1, "a#1")),
    ],
)
def test_a_line_is_name_strengths_and_blocks(text, expected):
    assert list_text.parse(text) == [expected]


@pytest.mark.parametrize(
    "text, said",
    [
        ("a\n: 1", "line 2 .*no name"),
        ("a : much", "line 1 .*'much' is not a number"),
        ("a : 1 : nan", "'nan' is not a number"),
        ("a : 1e9", "not a number from -100 to 100"),
        ("a" * 3000, "3000 characters"),
        ("a\n" * 1001, "more than 1000"),
    ],
)
def test_a_line_that_cannot_be_followed_is_told_with_its_number(text, said):
    with pytest.raises(ListError, match=said):
        list_text.parse(text)


def test_a_name_is_found_without_folder_and_extension_where_it_is_the_only_one():
    menu = ["bundled/x.safetensors", "style.safetensors", "people/anna.safetensors", "old/anna.pt"]
    found = [
        list_text.choice(LoRALine(1, name), menu) for name in ("style", "x", "people/anna", "people\\anna", "anna.pt")
    ]
    assert found == [menu[1], menu[0], menu[2], menu[2], menu[3]]
    with pytest.raises(ListError, match=r"could be people/anna.safetensors or old/anna.pt"):
        list_text.choice(LoRALine(1, "anna"), menu)
    with pytest.raises(ListError, match=r"line 4 .*no LoRA 'stlye'.*did you mean style.safetensors"):
        list_text.choice(LoRALine(4, "stlye"), menu)


# the node


def test_a_stack_is_the_sum_of_its_changes(place, clip, stack):
    both, report, ui = stack("both : 0.5\none : -1 : 2 # turned round on the MODEL alone")
    expected = {key: tensor.clone() for key, tensor in state(clip).items()}
    for name, strength in (("both", 0.5), ("one", 2.0)):
        for module, adapter in lora_files.read_lora(
            place.models / "loras" / f"{name}.safetensors"
        ).file.adapters.items():
            layer = module.split("_layers_")[1][0]
            key = next(k for k in expected if f".{layer}." in k and k.endswith(Q_PROJECTION))
            up, down = adapter.factors(strength)
            expected[key] += up @ down
    assert all(torch.allclose(tensor, expected[key], atol=1e-5) for key, tensor in state(both).items())
    assert [one["applied"] for one in report["files"]] == [2, 1] and len(ui["images"]) == 1


def test_changing_one_strength_makes_only_the_weights_it_touches_again(clip, stack):
    before = stack("both : 0.5\none : 1")[0]
    after = stack("both : 0.5\none : 0.25")[0]
    same = [a is b for a, b in zip(before.towers.parameters(), after.towers.parameters())]
    assert same.count(False) == 1


def test_lines_that_are_off_are_not_read_and_an_empty_list_passes_the_original_on(clip, stack):
    changed, report, ui = stack("off both\n- nowhere : 2")
    assert changed is clip and report == {"files": [], "off": ["both", "nowhere"]}
    assert "no LoRA is on" not in ui["text"][0] and "off: both, nowhere" in ui["text"][0]
    assert "no LoRA is on" in stack("# nothing")[2]["text"][0]


def test_one_bad_file_of_several_changes_nothing(place, stack):
    tiny.lora_file(place.models / "loras" / "unet.safetensors", ["lora_unet_mid_block_attentions_0_proj_in"])
    with pytest.raises(ValueError, match="unet.safetensors: none of its 1 modules fits"):
        stack("both\nunet")


def test_the_mark_of_a_stack_changes_with_its_files_and_never_fails(place, stack):
    mark = place.node("CVL_LoRAStack").IS_CHANGED
    before = mark("both\none")
    tiny.lora_file(place.models / "loras" / "one.safetensors", [FIRST], rank=8)
    assert mark("both\none") != before
    assert "no LoRA" in mark("nowhere") and mark(None) == ""


def test_nothing_connected_is_an_error(place):
    with pytest.raises(ValueError, match="connect a MODEL or a CLIP"):
        place.node("CVL_LoRAStack").load("a")
