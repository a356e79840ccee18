"""What the editor of LoRA Stack's list asks the server: the menu, what lines mean, what a header says."""

import json

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.lora.formats import header as lora_header
from clip_vae_lora.lora.formats import list_text
from clip_vae_lora.nodes.lora.editor import check, header

BUNDLED = "bundled/tiny_clip_stripes_lora.safetensors"


def write(place, name: str, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    path = place.models / "loras" / name
    path.parent.mkdir(exist_ok=True)
    save_file(tensors or {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path, metadata)


@pytest.fixture
def loras(place):
    for name in ("style.safetensors", "people/anna.safetensors", "old/anna.safetensors"):
        write(place, name)
    return place


def test_each_line_is_told_its_file_or_its_problem_lines_that_are_off_too(loras):
    text = "# a comment\nstyle : 0.5\n\noff anna\nstlye\npeople/anna : much\n: 1\nold/anna.safetensors : 1 : 1 : a: 0"
    assert check({"text": text})["lines"] == [
        {"number": 2, "file": "style.safetensors"},
        {"number": 4, "problem": "'anna' could be old/anna.safetensors or people/anna.safetensors; write which"},
        {"number": 5, "problem": "there is no LoRA 'stlye' in the folder loras; did you mean style.safetensors?"},
        {"number": 6, "problem": "the strength 'much' is not a number from -100 to 100"},
        {"number": 7, "problem": "it has no name: expected `name : strength_model : strength_clip : blocks`"},
        {"number": 8, "file": "old/anna.safetensors"},
    ]


def test_the_menu_is_the_loaders_and_comes_when_it_is_asked_for(loras):
    names = ["old/anna.safetensors", "people/anna.safetensors", "style.safetensors", BUNDLED]
    assert check({"menu": True}) == {"menu": names}
    assert check({}) == {} and "menu" not in check({"text": "style"})


def test_of_a_long_list_of_unknown_names_few_are_compared_with_the_menu(place, monkeypatch):
    menu = [f"some folder/a style number {n}.safetensors" for n in range(5000)]
    monkeypatch.setattr("clip_vae_lora.nodes.catalog.choices", lambda use: menu)
    compared, nearest = [], list_text._nearest  # 0.1 s each
    monkeypatch.setattr(list_text, "_nearest", lambda *arguments: compared.append(1) or nearest(*arguments))
    lines = check({"text": "\n".join(f"a stile namber {n}" for n in range(1000))})["lines"]
    assert len(lines) == 1000 and "did you mean" in lines[0]["problem"] and "5000 others" in lines[-1]["problem"]
    assert 0 < len(compared) <= 5


@pytest.mark.parametrize("text", ["\ud800 : 1", "\0", "a" * 60_000, "\n" * 60_000, ":" * 5000, "../../etc/passwd", "#"])
def test_hostile_lists_are_answered_and_the_answer_is_json(loras, text):
    assert "lines" in json.loads(json.dumps(check({"text": text})))


@pytest.mark.parametrize("question", [7, [], None, {"text": 5}, {"text": None}, {"menu": 1}, {"menu": "yes"}])
def test_a_question_that_is_none_is_refused_in_a_sentence(loras, question):
    with pytest.raises(ValueError, match="expected"):
        check(question)


def test_a_header_is_told_as_title_base_model_and_trigger_words(loras):
    write(
        loras,
        "a.safetensors",
        {
            "modelspec.title": "Ink\u202e wash",
            "modelspec.architecture": "stable-diffusion-v1/lora",
            "ss_output_name": "x",
            "ss_base_model_version": "sd_v1",
            "ss_tag_frequency": json.dumps({"10_ink": {"inkwash": 9, "tree": 4}}),
        },
    )
    assert header({"name": "a.safetensors"}) == {
        "name": "a.safetensors",
        "title": "Ink wash",
        "base_model": "stable-diffusion-v1/lora",
        "family": "",
        "trigger_words": [],
        "tags": ["inkwash", "tree"],
        "text": "",
        "preview": "",
    }


def test_learned_words_are_trigger_words_too(loras):
    write(loras, "b.safetensors", {"<s1>": "<embed>"}, **{"<s1>": torch.ones(4), "up": torch.ones(2, 2)})
    assert header({"name": "b.safetensors"})["trigger_words"] == ["<s1>"]


def test_a_file_without_a_header_says_nothing(loras):
    assert header({"name": "style.safetensors"}) == {
        "name": "style.safetensors",
        "title": "",
        "base_model": "",
        "family": "",
        "trigger_words": [],
        "tags": [],
        "text": "",
        "preview": "",
    }
    assert header({"name": BUNDLED})["name"] == BUNDLED


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0{}"])
def test_a_file_that_cannot_be_read_is_an_answer_too(loras, content):
    (loras.models / "loras" / "broken.safetensors").write_bytes(content)
    found = header({"name": "broken.safetensors"})
    assert set(found) == {"name", "error"} and len(found["error"]) > 20


def test_only_names_of_the_menu_are_read(loras, tmp_path):
    (tmp_path / "secret.safetensors").write_bytes((loras.models / "loras" / "style.safetensors").read_bytes())
    outside = [
        "style",
        "../secret.safetensors",
        str(tmp_path / "secret.safetensors"),
        "",
        "loras/style.safetensors",
        "./style.safetensors",
        "people\\anna.safetensors",
        "people/../style.safetensors",
    ]
    for name in [*outside, None, 3, ["style.safetensors"]]:
        with pytest.raises(ValueError, match="in the menu was expected"):
            header({"name": name})
    with pytest.raises(ValueError, match="in the menu was expected"):
        header("style.safetensors")


def test_title_and_base_model_skip_what_trainers_write_for_nothing():
    assert lora_header.title({"modelspec.title": "None", "ss_output_name": "  ink "}) == "ink"
    assert lora_header.base_model({"ss_base_model_version": "", "ss_sd_model_name": "v1-5.pt"}) == "v1-5.pt"
    assert lora_header.title({}) == lora_header.base_model({}) == ""


def test_the_family_is_told_by_the_names_of_the_modules_whatever_the_header_says(loras):
    tensors = {}
    for module in ("transformer_blocks.0.img_mod.1", "transformer_blocks.0.attn.add_q_proj"):
        tensors |= {f"{module}.lora_A.weight": torch.ones(2, 8), f"{module}.lora_B.weight": torch.ones(48, 2)}
    write(loras, "q.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"}, **tensors)
    found = header({"name": "q.safetensors"})
    assert (found["family"], found["base_model"]) == ("Qwen-Image", "sdxl_base_v1-0")
