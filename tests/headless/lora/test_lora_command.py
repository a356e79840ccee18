"""`cvl lora`: file to file, with the sentences of what cannot be."""

import json

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.tensors import open_tensors
from clip_vae_lora.headless.cvl import main
from clip_vae_lora.headless.lora.files import split

from ...support.loras.shop import CONVOLUTION, QUERY, SD1, TEXT, dense, relative
from ...support.loras.shop_files import checkpoint, in_parts, source, written


@pytest.fixture
def files(tmp_path):
    one = written(tmp_path / "a.safetensors", 0, **{"modelspec.trigger_phrase": "cat"})
    two = written(tmp_path / "b.safetensors", 50, "peft", **{"modelspec.trigger_phrase": "dog"})
    return one, two


def run(*arguments, capsys=None):
    code = main(["lora", *map(str, arguments), "--json"])
    said = capsys.readouterr().out if capsys else "{}"
    return code, json.loads(said)


def test_a_merge_is_written_and_equals_its_stack(files, tmp_path, capsys):
    one, two = files
    out = tmp_path / "m.safetensors"
    code, data = run("merge", f"{one}:0.7:0.2", f"{two}:-0.5", "-o", out, "--dialect", "diffusers", capsys=capsys)
    assert code == 0 and data["against_stack"]["equal"] and data["trigger_words"] == ["cat", "dog"]
    stack = [dense(source(one, 0.7, 0.2)), dense(source(two, -0.5, -0.5))]
    for key, change in dense(source(out)).items():
        assert relative(change, stack[0][key] + stack[1][key]) < 1e-6
    header = source(out).metadata
    assert header["modelspec.merged_from"] == "a.safetensors, b.safetensors"
    assert json.loads(header["cvl_merge"])["files"][0]["strength_clip"] == 0.2


def test_a_merge_may_be_cut_and_says_what_it_lost(files, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    code, data = run("merge", *files, "-o", out, "--keep", "rank", "--amount", 2, "--dtype", "fp16", capsys=capsys)
    assert code == 0 and data["ranks"] == [2, 2] and data["error"] > 0.1 and not data["against_stack"]["equal"]
    assert {tensor.dtype for name, tensor in load_file(out).items() if "alpha" not in name} == {torch.float16}


def test_a_comparison_is_told_as_json_and_as_a_picture(files, tmp_path, capsys):
    picture = tmp_path / "p.png"
    code, data = run("compare", *files, "--picture", picture, capsys=capsys)
    assert code == 0 and data["pairs"][0]["kinship"] == "unrelated" and picture.stat().st_size > 5000
    assert data["suggested"]["factor"] == pytest.approx(0.7, abs=0.05) and len(data["pairs"][0]["blocks"]) == 2


def test_copies_in_a_folder_are_found_and_damaged_files_are_said(files, tmp_path, capsys):
    written(tmp_path / "copy.safetensors", 0, "diffusers")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    code, data = run("compare", tmp_path, capsys=capsys)
    (copy,) = data["copies"]
    assert code == 0 and {name.rpartition("/")[2] for name in copy["files"]} == {"a.safetensors", "copy.safetensors"}
    assert copy["kinship"] == "duplicate" and list(data["failed"])[0].endswith("bad.safetensors")


def test_an_edit_of_the_header_leaves_every_tensor_and_an_edit_of_the_strength_does_not(files, tmp_path, capsys):
    one, _ = files
    out = tmp_path / "e.safetensors"
    code, data = run("edit", one, "-o", out, "--words", "bird, fish", "--set", "author=me", capsys=capsys)
    assert code == 0 and data["trigger_words"] == ["bird", "fish"] and source(out).metadata["author"] == "me"
    before, after = load_file(one), load_file(out)
    assert all(torch.equal(before[name], after[name]) for name in before) and before.keys() == after.keys()
    code, _ = run("edit", one, "-o", out, "--overwrite", "--strength", 0.5, "--drop", "text", capsys=capsys)
    found, old = dense(source(out)), dense(source(one))
    assert code == 0 and found.keys() == {QUERY, CONVOLUTION}
    assert all(relative(found[key], old[key] * 0.5) < 1e-6 for key in found)


def test_loras_are_baked_into_a_checkpoint(files, tmp_path, capsys):
    base, out = checkpoint(tmp_path / "base.safetensors"), tmp_path / "baked.safetensors"
    own = {key: SD1[key] for key in (QUERY, CONVOLUTION, TEXT)}  # of so small a part of a UNet its own names are known
    files = [written(tmp_path / f"{n}.safetensors", 50 * n, shapes=own) for n in range(2)]
    code, data = run("bake", base, f"{files[0]}:0.7", files[1], "-o", out, capsys=capsys)
    assert code == 0 and (data["changed"], data["tensors"]) == (3, 4)
    before, after = load_file(base), load_file(out)
    stack = [dense(source(files[0], 0.7, 0.7), own), dense(source(files[1]), own)]
    ends = {key.rpartition("transformer.")[2].removeprefix("diffusion_model."): key for key in own}
    for name, tensor in after.items():
        key = next((key for end, key in ends.items() if name.endswith(end)), None)
        change = 0 if key is None else stack[0][key] + stack[1][key]
        torch.testing.assert_close(tensor.double(), before[name].double() + change, rtol=0, atol=1e-6)


def test_a_checkpoint_in_parts_is_baked_into_parts_and_never_over_itself(files, tmp_path, capsys):
    base = checkpoint(tmp_path / "base.safetensors")
    part = in_parts(tmp_path / "big.safetensors", base)
    whole, out = tmp_path / "whole.safetensors", tmp_path / "baked.safetensors"
    assert run("bake", base, f"{files[0]}:0.7", "-o", whole, capsys=capsys)[0] == 0
    code, data = run("bake", part, f"{files[0]}:0.7", "-o", out, capsys=capsys)
    assert code == 0 and data["file"] == str(tmp_path / "baked.safetensors.index.json") and len(data["parts"]) == 2
    with open_tensors(data["file"]) as file:
        found, expected = file.read(file.shapes), load_file(whole)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    code, said = run("bake", part, files[0], "-o", out, capsys=capsys)
    assert code == 2 and "baked.safetensors.index.json is there already" in said["error"]
    before = part.read_bytes()
    for output in (tmp_path / "big.safetensors", part):
        code, said = run("bake", part, files[0], "-o", output, "--overwrite", capsys=capsys)
        assert code == 2 and "it is the checkpoint itself" in said["error"] and part.read_bytes() == before


def test_a_model_in_parts_is_a_base_and_can_be_extracted_from(files, tmp_path, capsys):
    base = checkpoint(tmp_path / "base.safetensors")
    part, out = in_parts(tmp_path / "big.safetensors", base), tmp_path / "x.safetensors"
    own = {key: SD1[key] for key in (QUERY, CONVOLUTION, TEXT)}  # of so small a part of a UNet its own names are known
    lora = written(tmp_path / "own.safetensors", 0, shapes=own)
    code, data = run("bake", part, lora, "-o", tmp_path / "tuned.safetensors", capsys=capsys)
    code, data = run("extract", data["parts"][0], part, "-o", out, capsys=capsys)
    assert code == 0 and data["ranks"] == [3, 3] and data["weights"] == 3
    code, data = run("compare", lora, out, "--base", part, capsys=capsys)
    assert code == 0 and data["pairs"][0]["cosine"] > 0.999 and data["files"][0]["relative"] < 0.1
    code, data = run("extract", part, base, "-o", part, "--overwrite", capsys=capsys)
    assert code == 2 and "it is one of the files that this is made of" in data["error"]


def test_the_base_gives_names_and_weights(files, tmp_path, capsys):
    base = checkpoint(tmp_path / "base.safetensors")
    code, data = run("compare", *files, "--base", base, capsys=capsys)
    assert code == 0 and data["files"][0]["relative"] < 0.1 and data["names_of"] == "what is connected"


def test_strengths_follow_behind_colons_and_names_may_have_colons(tmp_path):
    path = tmp_path / "a:0.5.safetensors"
    path.write_bytes(b"")
    assert split(f"{path}") == (path, (1.0, 1.0), "")
    assert split(f"{path}:0.7") == (path, (0.7, 0.7), "")
    assert split(f"{path}:0.7:0.2:IN07: 0, text: 1") == (path, (0.7, 0.2), "IN07: 0, text: 1")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["merge", "{gone}", "-o", "{out}"], "there is no file"),
        (["merge", "{a}:nan", "-o", "{out}"], "strength of a.safetensors on the model is nan"),
        (["merge", "{a}:x", "-o", "{out}"], "the strength 'x' of a.safetensors is no number"),
        (["merge", "{a}", "-o", "{a}"], "is there already"),
        (["merge", "{a}", "-o", "{a}", "--overwrite"], "it is one of the files that this is made of"),
        (["merge", "{a}", "-o", "{out}", "--keep", "rank", "--amount", "0"], "the rank is 0"),
        (["merge", "{a}", "-o", "{folder}/no/x.safetensors"], "there is no folder"),
        (["merge", "{a}", "-o", "{folder}/x.pt"], "ends in .safetensors"),
        (["merge", "{a}", "{checkpoint}", "-o", "{out}"], "no LoRA tensors here"),
        (["edit", "{a}", "-o", "{out}"], "nothing is to be changed"),
        (["edit", "{a}", "-o", "{out}", "--strength", "0"], "the strength is 0"),
        (["edit", "{a}", "-o", "{out}", "--keep", "OUT07"], "selects nothing"),
        (["edit", "{a}", "-o", "{out}", "--remove", "gone"], "no entry 'gone'"),
        (["bake", "{a}", "{b}", "-o", "{out}"], "a.safetensors: it is a LoRA and no model"),
        (["bake", "{checkpoint}", "{a}", "-o", "{checkpoint}", "--overwrite"], "it is the checkpoint itself"),
        (["compare", "{empty}"], "0 files that may be LoRAs"),
        (["shrink"], "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_no_file(files, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    names = {
        "a": files[0], "b": files[1], "gone": tmp_path / "gone", "out": tmp_path / "out.safetensors",
        "folder": tmp_path, "checkpoint": checkpoint(tmp_path / "base.safetensors"), "empty": tmp_path / "empty",
    }  # fmt: skip
    before = files[0].read_bytes()
    code = main(["lora", *(one.format(**names) for one in arguments)])
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") <= 2 and "Traceback" not in said
    assert not names["out"].exists() and files[0].read_bytes() == before


def test_a_full_disk_and_a_file_in_use_are_said_and_leave_nothing(files, tmp_path, capsys, monkeypatch):
    for name, error in (
        ("os.fsync", OSError(28, "No space left on device")),
        ("os.replace", PermissionError(13, "in use")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_, error=error: (_ for _ in ()).throw(error))
            code = main(["lora", "merge", str(files[0]), "-o", str(tmp_path / "x.safetensors")])
        assert code == 2 and error.strerror in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
