"""What the workshop's nodes refuse: one sentence each, that says what came and what to do, and nothing written."""

import errno

import pytest

from clip_vae_lora.files.tensors import open_tensors, write_tensors

from ...support import tiny

DEFAULTS = {
    "CVL_MergeLoRAs": {
        "loras": "a.safetensors\nb.safetensors", "method": "sum", "keep": "all", "amount": 32.0, "dialect": "kohya",
        "dtype": "as the files", "filename_prefix": "x",
    },
    "CVL_CompareLoRAs": {"loras": "a.safetensors\nb.safetensors", "what": "those listed"},
    "CVL_EditLoRA": {
        "file": "a.safetensors", "words": "", "strength": 0.5, "dtype": "as the files", "dialect": "as it is",
        "filename_prefix": "x",
    },
    "CVL_ResizeLoRA": {
        "file": "a.safetensors", "keep": "rank", "amount": 2.0, "dialect": "as it is", "dtype": "as the files",
        "filename_prefix": "x",
    },
    "CVL_BakeLoRA": {"checkpoint": "base.safetensors", "loras": "a.safetensors", "filename_prefix": "x"},
}  # fmt: skip
MERGE, COMPARE, EDIT, RESIZE, BAKE = DEFAULTS


@pytest.fixture
def refusal(shop):
    """The sentence with which a node refuses: as an error, or on the node where nothing is connected to it."""

    def refused(node, **inputs):
        try:
            answer, report = shop.run(node, **DEFAULTS[node] | inputs)
        except ValueError as error:
            return str(error)
        assert report.get("state") == "failed", answer["ui"]["text"][0]
        return report["problem"]

    return refused


@pytest.mark.parametrize(
    "node, inputs, sentences",
    [
        (
            MERGE,
            {"loras": "key.safetensors\nsdxl.safetensors"},
            ["made for SD 1", "for SDXL", "take files of one family"],
        ),
        (COMPARE, {"loras": "key.safetensors\nsdxl.safetensors"}, ["made for SD 1", "for SDXL", "of one family"]),
        (BAKE, {"loras": "sdxl.safetensors"}, ["no module of sdxl.safetensors can be used", "it has no place in what"]),
        (MERGE, {"loras": "a.safetensors : nan"}, ["nan"]),
        (COMPARE, {"loras": "a.safetensors : 1 : nan\nb.safetensors"}, ["nan"]),
        (MERGE, {"loras": "", "lora_stack": [("a.safetensors", float("nan"), 1.0)]}, ["is nan", "expected a number"]),
        (COMPARE, {"loras": "", "lora_stack": [("a.safetensors", float("inf"), 1.0)]}, ["is inf", "expected a number"]),
        (BAKE, {"loras": "", "lora_stack": [("a.safetensors", 1.0, float("nan"))]}, ["is nan", "expected a number"]),
        (EDIT, {"strength": float("nan")}, ["the strength is nan: expected a number from -100 to 100 that is not 0"]),
        (EDIT, {"alpha": float("nan")}, ["the alpha is nan: expected a number above 0"]),
        (MERGE, {"keep": "rank", "amount": 0.0}, ["the rank is 0: expected a whole number of at least 1"]),
        (RESIZE, {"amount": 0.0}, ["the rank is 0: expected a whole number of at least 1"]),
        (
            BAKE,
            {"checkpoint": "lora.safetensors"},
            ["lora.safetensors: it is a LoRA and no model: choose a checkpoint"],
        ),
        (BAKE, {"checkpoint": "gone.safetensors"}, ['there is no "gone.safetensors"', "choose another file"]),
        (BAKE, {"loras": "a.safetensors : 0"}, ["every strength is 0: the checkpoint would stay as it is"]),
        (MERGE, {"loras": "model.safetensors"}, ["model.safetensors", "no LoRA tensors here"]),
        (RESIZE, {"file": "model.safetensors"}, ["model.safetensors", "no LoRA tensors here"]),
        (EDIT, {"file": "model.safetensors"}, ["model.safetensors", "no LoRA tensors here"]),
        (MERGE, {"loras": "a.safetensors\nb.safetensors\nunet.safetensors", "method": "slerp"}, ["here are 3"]),
        (MERGE, {"loras": "a.safetensors : 1\nb.safetensors : -1", "method": "average"}, ["whose sum is not 0"]),
        (MERGE, {"loras": "a.safetensors : 1 : 1 : double.0: 1"}, ["the blocks for a.safetensors", "selects nothing"]),
        (MERGE, {"dialect": "bfl"}, ["none of the 3 changes has a name in bfl files"]),
        (EDIT, {"dialect": "xlabs"}, ["none of the 3 changes has a name in xlabs files"]),
        (MERGE, {"density": 0.0, "method": "ties"}, ["the density is 0.0: expected a share"]),
        (EDIT, {"strength": 1.0}, ["nothing is to be changed: set a word"]),
        (EDIT, {"drop": "*"}, ["leave nothing of the file: keep more"]),
        (EDIT, {"entries": "no mark"}, ["written name = text, but 'no mark' came"]),
        (COMPARE, {"loras": ""}, ["no LoRA is chosen"]),
        (BAKE, {"checkpoint": "none"}, ["no checkpoint is chosen"]),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_nothing_is_written(shop, refusal, node, inputs, sentences):
    (shop.loras / "model.safetensors").write_bytes((shop.checkpoints / "base.safetensors").read_bytes())
    sentence = refusal(node, **inputs)
    assert all(part in sentence for part in sentences) and "\n" not in sentence
    assert not shop.files()


@pytest.mark.parametrize("node", [MERGE, EDIT, RESIZE, BAKE])
@pytest.mark.parametrize(
    "function, error, sentence",
    [
        ("os.fsync", OSError(errno.ENOSPC, "No space left on device"), "cannot be written: No space left on device"),
        ("os.replace", PermissionError(errno.EACCES, "used by another process"), "cannot be written: used by another"),
    ],
)
def test_a_full_disk_and_a_file_in_use_are_said_and_nothing_is_left(shop, refusal, node, function, error, sentence):
    def refuse(*_):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, refuse)
        assert sentence in refusal(node)
    assert not shop.files()


@pytest.mark.parametrize("node", [MERGE, COMPARE])
def test_files_of_one_unknown_family_and_two_sizes_of_model_are_refused_with_both_shapes(shop, refusal, node):
    for name, width in (("one", 64), ("two", 32)):
        tiny.lora_file(shop.loras / f"{name}.safetensors", [f"blocks_{n}_own_layer" for n in range(2)], width)
    sentence = refusal(node, loras="one.safetensors\ntwo.safetensors")
    assert "two.safetensors was made for another model than one.safetensors: 2 of its 2 modules" in sentence
    assert "[32, 32]" in sentence and "[64, 64]" in sentence and "take files for one model" in sentence
    assert not shop.files()


def test_a_few_weights_of_one_name_and_other_shapes_are_left_out_by_name(shop):
    names = [f"blocks_{n}_own_layer" for n in range(3)]
    tiny.lora_file(shop.loras / "one.safetensors", names)
    with open_tensors(tiny.lora_file(shop.loras / "two.safetensors", names)) as file:
        tensors = file.read(file.shapes)
    narrow = tiny.lora_file(shop.loras / "narrow.safetensors", names[:1], 32)
    with open_tensors(narrow) as file:
        write_tensors(shop.loras / "two.safetensors", tensors | file.read(file.shapes), {})
    answer, report = shop.run(MERGE, **DEFAULTS[MERGE] | {"loras": "one.safetensors\ntwo.safetensors"})
    assert list(report["left_out"]) == ["two.safetensors"] and len(report["left_out"]["two.safetensors"]) == 1
    assert "⚠ two.safetensors: left out: 1 of its parts" in answer["ui"]["text"][0]
