"""LoRA Stack without ComfyUI: the list, and several files on one CLIP."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import open_tensors, write_tensors
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
        ("a : 1 # words: red hat,  sks , sks # mine", LoRALine(1, "a", words=("red hat", "sks"))),
        ("a #words:", LoRALine(1, "a", words=())),
        ("a # mine # words: b", LoRALine(1, "a", words=("b",))),
        ("a # my words: b", LoRALine(1, "a")),
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
    assert changed is clip and report["files"] == [] and report["off"] == ["both", "nowhere"]
    assert [row["state"] for row in report["rows"]] == ["off", "off"]
    assert "no LoRA is on" not in ui["text"][0] and "off: both, nowhere" in ui["text"][0]
    assert "no LoRA is on" in stack("# nothing")[2]["text"][0]


def test_with_strict_one_bad_file_of_several_is_an_error_that_tells_its_line(place, stack):
    tiny.lora_file(place.models / "loras" / "unet.safetensors", ["lora_unet_mid_block_attentions_0_proj_in"])
    with pytest.raises(
        ValueError, match="^line 3 of the LoRAs: unet.safetensors: all of its 1 modules are for a diffusion model"
    ) as raised:
        stack("both\n# people\nunet", strict=True)
    assert type(raised.value) is ValueError  # its name is not printed before the sentence
    with pytest.raises(ValueError, match="^line 2 of the LoRAs: there is no LoRA 'nowhere'"):
        stack("both\nnowhere", strict=True)


def test_a_row_that_cannot_be_used_is_marked_and_the_rest_goes_on(place, clip, stack):
    tiny.lora_file(place.models / "loras" / "unet.safetensors", ["lora_unet_mid_block_attentions_0_proj_in"])
    tiny.lora_file(place.models / "loras" / "half.safetensors", [FIRST, FIRST.replace("layers_0", "layers_7")])
    (place.models / "loras" / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    text = "both : 0.5\nunet\nnowhere\ncut\none : much\nhalf : 1\noff one\none : 1 : 1 : IN04: 0\none : 0"
    changed, report, ui = stack(text)
    states = ["used", "failed", "failed", "failed", "failed", "partly", "off", "failed", "unused"]
    assert [row["state"] for row in report["rows"]] == states
    assert [row["text"] for row in report["rows"]] == text.split("\n")
    assert "for a diffusion model (MODEL), which is not connected" in report["rows"][1]["sentence"]
    assert [one["file"] for one in report["files"]] == ["both.safetensors", "half.safetensors", "one.safetensors"]
    lines = ui["text"][0].split("\n")
    assert [line[0] for line in lines[:7]] == ["✖"] * 5 + ["⚠", " "]  # the gravest first
    assert lines[0].startswith("✖ line 2: unet was not used: ")
    alone = stack("both : 0.5\nhalf : 1")[0]
    assert all(torch.equal(tensor, state(alone)[key]) for key, tensor in state(changed).items())
    assert changed is not clip


# trigger words, and other packs' stacks


def with_words(place, name, metadata, names=(FIRST,)):
    path = tiny.lora_file(place.models / "loras" / name, list(names))
    with open_tensors(path) as file:
        tensors = file.read(file.shapes)
    write_tensors(path, tensors, metadata)
    return path


def outputs(place, text, **inputs):
    return dict(
        zip(place.node("CVL_LoRAStack").RETURN_NAMES, place.node("CVL_LoRAStack").load(text, **inputs)["result"])
    )


def test_the_words_of_rows_that_are_on_and_used_are_joined_each_once(place, clip, stack):
    tags = json.dumps({"1_x": {"a tag": 9}})
    with_words(place, "phrase.safetensors", {"modelspec.trigger_phrase": "sks, red hat", "ss_tag_frequency": tags})
    with_words(place, "tags.safetensors", {"ss_tag_frequency": tags})
    with_words(place, "civitai.safetensors", {})
    (place.models / "loras" / "civitai.civitai.info").write_text(json.dumps({"trainedWords": ["ink wash, sks", "b"]}))
    (place.models / "loras" / "one.txt").write_text("hello\nworld, sks\n")
    (place.models / "loras" / "both.txt").write_text("A LoRA of mine. " * 50)  # a description
    every = "phrase\ntags\ncivitai\none\nboth"
    assert outputs(place, every, clip=clip)["trigger_words"] == "sks, red hat, ink wash, b, hello, world"
    some = "off phrase\ntags # words: a tag, mine\ncivitai # words: # none of them\none : 0\nnowhere"
    assert outputs(place, some, clip=clip)["trigger_words"] == "a tag, mine"


def test_a_lora_stack_goes_in_before_the_list_and_comes_out_with_it(place, clip, stack):
    given = [("both.safetensors", 0.3, 0.5), ("None", 1.0, 1.0)]
    found = outputs(place, "one : 1 : 2\noff both\nnowhere", clip=clip, lora_stack=given)
    assert found["lora_stack"] == [("both.safetensors", 0.3, 0.5), ("one.safetensors", 1.0, 2.0)]
    expected = stack("both : 0.3 : 0.5\none : 1 : 2")[0]
    assert all(torch.equal(tensor, state(expected)[key]) for key, tensor in state(found["clip"]).items())


def test_a_lora_stack_has_no_blocks_and_names_that_are_not_there_are_reported(place, clip, stack):
    answer = place.node("CVL_LoRAStack").load(
        "one : 1 : 1 : text: 0.5", clip=clip, lora_stack=[("gone.safetensors", 1.0, 1.0)]
    )
    text = answer["ui"]["text"][0]
    assert text.startswith("✖ entry 1 of lora_stack: gone.safetensors was not used: there is no LoRA")
    assert "has no strengths by block: one" in text
    assert answer["result"][4] == [("one.safetensors", 1.0, 1.0)]


@pytest.mark.parametrize("given", ["style", [("a", "1", 1.0)], [("a", 1.0)], [1], [(1, 1.0, 1.0)]])
def test_what_is_no_lora_stack_is_refused_in_a_sentence(place, clip, given):
    with pytest.raises(ValueError, match=r"a LORA_STACK is a list of \(name, model strength, clip strength\)"):
        outputs(place, "", clip=clip, lora_stack=given)


def test_without_a_model_a_list_is_passed_on_as_a_stack_and_that_is_said(place, stack):
    answer = place.node("CVL_LoRAStack").load("one : 0.5")
    assert answer["result"][4] == [("one.safetensors", 0.5, 0.5)]
    assert answer["ui"]["text"][0].startswith("⚠ nothing is connected to put the LoRAs on")


def test_the_mark_of_a_stack_changes_with_its_files_and_never_fails(place, stack):
    mark = place.node("CVL_LoRAStack").IS_CHANGED
    before = mark("both\none")
    tiny.lora_file(place.models / "loras" / "one.safetensors", [FIRST], rank=8)
    assert mark("both\none") != before
    assert "no LoRA" in mark("nowhere") and mark(None) == ""


def test_nothing_connected_is_an_error_where_it_is_strict(place):
    with pytest.raises(ValueError, match="connect a MODEL or a CLIP"):
        place.node("CVL_LoRAStack").load("a", strict=True)
