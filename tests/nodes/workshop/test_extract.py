"""Extract LoRA on the standalone host: from files and from what is connected, and what it refuses."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.lora.files import read_lora
from clip_vae_lora.nodes.workshop.extract import ExtractLoRA

from ...support import tiny

_BLOCK = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0."
QUERY, KEY, NORM = f"{_BLOCK}attn1.to_q.weight", f"{_BLOCK}attn2.to_k.weight", f"{_BLOCK}norm1.weight"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def files(place):
    """A base and a fine-tune of rank 3, as checkpoints in fp16; `write` makes others."""
    shapes = {QUERY: (320, 320), KEY: (320, 768), TEXT: (128, 64), NORM: (320,)}
    base = {name: (random(*shape, seed=n) * 0.03).half() for n, (name, shape) in enumerate(shapes.items())}
    tuned = dict(base)
    for n, name in enumerate((QUERY, KEY, TEXT)):
        out, inside = shapes[name]
        change = random(out, 3, seed=10 + n) @ random(3, inside, seed=20 + n) * 0.02
        tuned[name] = (base[name].float() + change).half()
    tuned[NORM] = base[NORM] + 1

    def write(name, tensors, metadata=None):
        save_file(tensors, place.models / "checkpoints" / name, metadata)

    write("base.safetensors", base)
    write("tuned.safetensors", tuned, {"modelspec.architecture": "stable-diffusion-v1", "modelspec.title": "T"})
    return base, tuned, write


@pytest.fixture
def extract(place, files):
    def run(tuned="tuned.safetensors", base="base.safetensors", keep="automatic", amount=4.0, **more):
        options = {"largest_rank": 64, "dialect": "kohya", "dtype": "fp16", "filename_prefix": "x"} | more
        answer = ExtractLoRA().extract(tuned, base, keep, amount, **options)
        return answer, json.loads(answer["ui"]["cvl_report"][0])

    return run


def test_two_files_become_one_lora_that_is_their_difference(extract, files):
    answer, report = extract()
    path, said, picture = answer["result"]
    assert report["ranks"] == [3, 3] and report["weights"] == 3 and len(report["whole"]) == 1
    parts = [layer["part"].rpartition(".")[0].rpartition(".")[2] for layer in report["layers"]]
    assert parts == ["fc1", "to_q", "to_k"]  # as in the model, and not as they were extracted
    assert json.loads(said) == report and report["error"] < 0.01
    assert picture.shape[0] == 1 and answer["ui"]["images"]
    base, tuned, _ = files
    found = read_lora(Path(path)).file.adapters
    name = next(name for name in found if name.endswith("attn1_to_q"))
    change = tuned[QUERY].double() - base[QUERY].double()
    error = (found[name].delta((320, 320)).double() - change).norm() / change.norm()
    layer = next(one for one in report["layers"] if one["part"].endswith("attn1.to_q.weight"))
    assert error.item() == pytest.approx(layer["error"], rel=1e-3) and layer["error"] < 0.01
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["modelspec.architecture"] == "stable-diffusion-v1/lora" and header["modelspec.title"] == "T"
    assert json.loads(header["cvl_extract"])["base"] == "base.safetensors"


def test_a_file_size_is_hit_within_one_percent(extract):
    _, report = extract(keep="size", amount=0.05)
    assert 0.99 * 50_000 - 1300 <= report["size_bytes"] <= 50_000  # 1300: a rank of the smallest layer


def test_what_is_connected_gives_the_lora_on_it_back(place, extract):
    write_tensors(place.models / "text_encoders" / "text.safetensors", tiny.text_state(), {})
    layers = [f"lora_te_text_model_encoder_layers_0_self_attn_{name}_proj" for name in "qk"]
    tiny.lora_file(place.models / "loras" / "l.safetensors", layers)
    clip = place.node("CVL_LoadTextEncoder").load("text.safetensors", family="sd1")
    clip = clip["result"][0] if isinstance(clip, dict) else clip[0]
    changed = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 0.5, clip=clip)["result"][1]
    answer, report = extract("none", "none", dtype="fp32", clip_tuned=changed, clip_base=clip)
    assert report["weights"] == 2 and report["ranks"] == [2, 2]
    assert report["tuned"] == "the tuned model"
    own = read_lora(place.models / "loras" / "l.safetensors").file.adapters
    for name, adapter in read_lora(Path(answer["result"][0])).file.adapters.items():
        torch.testing.assert_close(
            adapter.delta((64, 64)), own[name].delta((64, 64)) * 0.5, rtol=1e-3, atol=1e-4
        )  # weights of fp32 are rounded when a LoRA is put on them, and again in their difference


def problem(answer):
    assert answer["ui"]["text"][0].startswith("✖ ")
    return answer["ui"]["text"][0]


def test_a_node_without_models_says_so_and_stops_nothing(extract):
    assert "the tuned model is missing: choose its file, or connect it" in problem(extract("none", "none")[0])
    assert "the base model is missing" in problem(extract("tuned.safetensors", "none")[0])


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"tuned": "base.safetensors"}, "the two models are equal"),
        ({"tuned": "gone.safetensors"}, 'there is no "gone.safetensors"'),
        ({"tuned": "lora.safetensors"}, "lora.safetensors: it is a LoRA and no model"),
        ({"tuned": "nan.safetensors"}, "NaN"),
        ({"tuned": "other.safetensors"}, "models of different shapes|one family was expected"),
        ({"keep": "rank", "amount": 0.0}, "the rank is 0: expected a whole number of at least 1"),
        ({"keep": "sum", "amount": 0.5}, "the rule is 'sum': expected one of rank, energy"),
        ({"keep": "size", "amount": 0.0001}, "a file of 0.0001 MB is too small"),
        ({"largest_rank": 0}, "the largest rank is 0"),
        ({"dialect": "a1111"}, "the dialect is 'a1111'"),
        ({"dtype": "int4"}, "the type is 'int4'"),
        ({"clip_tuned": object()}, "is chosen as tuned.safetensors and connected too"),
    ],
)
def test_what_cannot_be_extracted_is_refused_and_nothing_is_written(place, extract, files, more, sentence):
    base, tuned, write = files
    write("nan.safetensors", {**tuned, QUERY: tuned[QUERY] * float("nan")})
    write("other.safetensors", {QUERY: torch.ones(640, 640), KEY: torch.ones(640, 2048), TEXT: base[TEXT]})
    tiny.lora_file(place.models / "checkpoints" / "lora.safetensors", ["lora_unet_x"])
    with pytest.raises(ValueError, match=sentence):
        extract(**more)
    output = place.base / "output"
    assert not output.exists() or not [path for path in output.rglob("*") if path.is_file()]


def test_a_rank_above_the_weights_keeps_all_and_says_the_rank_it_has(extract):
    _, report = extract(keep="rank", amount=4000.0, largest_rank=4096)
    ranks = {layer["part"].rpartition(".")[0].rpartition(".")[2]: layer["rank"] for layer in report["layers"]}
    assert ranks["fc1"] == 64 and ranks["to_q"] == 320 and report["error"] < 2e-3  # fp16


@pytest.mark.parametrize(
    "function, error, sentence",
    [
        ("os.fsync", OSError(errno.ENOSPC, "No space left on device"), "cannot be written: No space left on device"),
        ("os.replace", PermissionError(errno.EACCES, "used by another process"), "cannot be written: used by another"),
    ],
)
def test_a_full_disk_and_a_file_in_use_are_said_and_nothing_is_left(place, extract, function, error, sentence):
    def refuse(*_):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, refuse)
        with pytest.raises(ValueError, match=sentence):
            extract()
    assert not [path for path in (place.base / "output").rglob("*") if path.is_file()]


def test_a_stop_leaves_nothing(place, extract):
    from clip_vae_lora.nodes.host import host

    def stop(done, total):
        raise KeyboardInterrupt

    host.set_place(models=place.models, temp=place.temp, on_step=stop, output=place.base / "output", inputs=[])
    with pytest.raises(KeyboardInterrupt):
        extract()
    assert not [path for path in (place.base / "output").rglob("*") if path.is_file()]
