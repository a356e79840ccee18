"""Every kind of LoRA through every node of the workshop: what adds gives its exact change, what depends on the weight
is refused by name without it, and with it, as `cvl lora --base`, is as exact.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.headless.cvl import main
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.orthogonal import OFT
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.conversion import rename

from ...support.loras.shop import agree, dense, lora_of, random, relative
from ...support.loras.shop_files import source, written

QUERY, CONVOLUTION = "diffusion_model.own_blocks.0.to_q.weight", "diffusion_model.own_blocks.1.conv.weight"
OWN = {QUERY: (24, 20), CONVOLUTION: (24, 10, 3, 3)}  # of a model that is not known, so that its sizes may be small
EXACT = 1e-5  # fp32 sums of a whole weight


def small(*shape, seed=0):
    return random(*shape, seed=seed) * 0.1


ADDING = {
    "LoRA": {QUERY: lora_of(OWN[QUERY], seed=1)},
    "LoCon": {QUERY: lora_of(OWN[QUERY], seed=2), CONVOLUTION: lora_of(OWN[CONVOLUTION], seed=3)},
    "Tucker": {CONVOLUTION: LoRA(small(24, 3, 1, 1), small(3, 10, 1, 1), 1.0, random(3, 3, 3, 3))},
    "LoHa": {
        QUERY: LoHa(small(24, 2), small(2, 20), random(24, 2, seed=4), random(2, 20, seed=5), 2.0),
        CONVOLUTION: LoHa(
            small(2, 24), small(2, 10), random(2, 24), random(2, 10), 1.0, random(2, 2, 3, 3), small(2, 2, 3, 3, seed=1)
        ),
    },
    "LoKr": {
        QUERY: LoKr(2.0, w1=small(3, 2), w2_a=random(8, 2), w2_b=random(2, 10)),
        CONVOLUTION: LoKr(1.0, w1=small(3, 2), w2_a=random(2, 8), w2_b=random(2, 5), t2=random(2, 2, 3, 3)),
    },
    "full difference": {QUERY: Difference(small(24, 20))},
}  # fmt: skip
BASED = {  # with what a sentence calls it
    "DoRA": ({QUERY: DoRA(lora_of(OWN[QUERY]), random(24, 1).abs())}, "DoRA of LoRA"),
    "DoRA of LoHa": ({QUERY: DoRA(ADDING["LoHa"][QUERY], random(24, 1).abs())}, "DoRA of LoHa"),
    "GLoRA": ({QUERY: GLoRA(small(20, 2), small(2, 20), small(24, 2), small(2, 20, seed=1), 2.0)}, "GLoRA"),
    "OFT": ({QUERY: OFT(small(6, 4, 4))}, "OFT"),
    "(IA)^3": ({QUERY: IA3(small(24), False)}, "(IA)^3"),
}
EVERY = ADDING | {name: adapters for name, (adapters, _) in BASED.items()}


@pytest.fixture
def base(shop):
    """The checkpoint's weights by key."""
    weights = {key: random(*shape, seed=9) for key, shape in OWN.items()}
    write_tensors(shop.checkpoints / "own.safetensors", {f"model.{key}": own for key, own in weights.items()}, {})
    return weights


@pytest.fixture
def kind(shop, base):
    """Writes the file of a kind: its path, and what it does to each weight."""

    def made(name):
        path = shop.loras / "kind.safetensors"
        tensors, header = write(rename(EVERY[name], OWN, "kohya").named, "kohya")
        write_tensors(path, tensors, header)
        return path, dense(source(path), OWN, base)

    return made


@pytest.fixture
def plain(shop):
    return written(shop.loras / "plain.safetensors", 20, places=tuple(OWN), shapes=OWN)


def run(shop, node, **inputs):
    answer, report = shop.run(node, **inputs)
    assert report.get("state") != "failed", report
    return Path(answer["result"][0]), report


MERGE = {"method": "sum", "keep": "all", "amount": 4.0, "dialect": "kohya", "dtype": "fp32", "filename_prefix": "m"}
RESIZE = {"keep": "rank", "amount": 20.0, "dialect": "as it is", "dtype": "fp32", "filename_prefix": "r"}
EDIT = {"words": "", "strength": 0.5, "dtype": "as the files", "dialect": "as it is", "filename_prefix": "e"}


@pytest.mark.parametrize("name", ADDING)
def test_what_adds_goes_through_every_node_exactly(shop, kind, plain, name):
    file, change = kind(name)
    path, report = run(shop, "CVL_MergeLoRAs", loras=f"{file.name} : 0.7\n{plain.name} : -0.5", **MERGE)
    other = dense(source(plain), OWN)
    wanted = {key: change.get(key, 0) * 0.7 - other[key] * 0.5 for key in other}
    agree(dense(source(path), OWN), wanted, EXACT)
    assert report["against_stack"]["equal"] and not report["left_out"]
    path, report = run(shop, "CVL_ResizeLoRA", file=file.name, **RESIZE)
    agree(dense(source(path), OWN), change, EXACT)
    assert report["error"] < EXACT and not report["left_out"]
    path, _ = run(shop, "CVL_EditLoRA", file=file.name, **EDIT)
    agree(dense(source(path), OWN), {key: own * 0.5 for key, own in change.items()}, EXACT)
    answer, report = shop.run("CVL_CompareLoRAs", loras=f"{file.name}\n{plain.name}", what="those listed")
    norm = sum(own.norm() ** 2 for own in change.values()).sqrt().item()
    assert report["files"][0]["norm"] == pytest.approx(norm, rel=EXACT) and not report["left_out"]


@pytest.mark.parametrize("name", BASED)
def test_what_depends_on_the_weight_is_refused_by_name_without_it(shop, kind, plain, name):
    file, _ = kind(name)
    sentence = f"{BASED[name][1]} depends on the weight itself: connect the model"
    answer, report = shop.run("CVL_ResizeLoRA", file=file.name, **RESIZE)
    assert sentence in report["problem"] and file.name in report["problem"] and "\n" not in report["problem"]
    for node, inputs in (("CVL_MergeLoRAs", MERGE), ("CVL_CompareLoRAs", {"what": "those listed"})):
        answer, report = shop.run(node, loras=f"{file.name}\n{plain.name}", **inputs)
        (why,) = report["left_out"][file.name].values()
        assert sentence in why and f"⚠ {file.name}: left out" in answer["ui"]["text"][0]


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_is_baked_and_taken_out_again_as_a_lora(shop, kind, name):
    file, change = kind(name)
    before = load_file(shop.checkpoints / "own.safetensors")
    path, report = run(shop, "CVL_BakeLoRA", checkpoint="own.safetensors", loras=file.name, filename_prefix="b")
    after = load_file(path)
    for key, own in change.items():
        assert relative(after[f"model.{key}"].double() - before[f"model.{key}"].double(), own) < 1e-4  # rounded to fp32
    assert report["changed"] == len(change) and not report["left_out"]
    (shop.checkpoints / "baked.safetensors").write_bytes(path.read_bytes())
    settings = {"keep": "rank", "amount": 20.0, "largest_rank": 64, "dialect": "kohya", "dtype": "fp32"}
    path, report = run(
        shop, "CVL_ExtractLoRA", tuned="baked.safetensors", base="own.safetensors", filename_prefix="x", **settings
    )
    agree(dense(source(path), OWN), change, 1e-4)
    assert all(type(one) is LoRA for one in source(path).file.adapters.values())


@pytest.mark.parametrize("name", BASED)
def test_with_the_base_what_depends_on_the_weight_becomes_a_lora(shop, kind, plain, tmp_path, capsys, name):
    file, change = kind(name)
    more = ["--base", str(shop.checkpoints / "own.safetensors"), "--json", "--dtype", "fp32"]
    out = tmp_path / "out.safetensors"
    assert main(["lora", "resize", str(file), "-o", str(out), "--keep", "rank", "--amount", "20", *more]) == 0
    agree(dense(source(out), OWN), change, EXACT)
    capsys.readouterr()
    assert main(["lora", "merge", str(file), f"{plain}:0.5", "-o", str(out), "--overwrite", *more]) == 0
    assert json.loads(capsys.readouterr().out)["against_stack"]["equal"]
    other = dense(source(plain), OWN)
    agree(dense(source(out), OWN), {key: other[key] * 0.5 + change.get(key, 0) for key in other}, EXACT)
    assert main(["lora", "compare", str(file), str(plain), *more[:3]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"][0]["norm"] == pytest.approx(change[QUERY].norm().item(), rel=EXACT)


def test_every_kind_stays_what_it_is_through_an_edit_of_its_type(shop, kind):
    for name in EVERY:
        file, change = kind(name)
        path, _ = run(shop, "CVL_EditLoRA", file=file.name, **EDIT | {"strength": 1.0, "dtype": "bf16"})
        before, after = source(file).file.adapters, source(path).file.adapters
        assert {module: one.kind for module, one in after.items()} == {
            module: one.kind for module, one in before.items()
        }
        numbers = [
            one for part, one in load_file(path).items() if one.is_floating_point() and not part.endswith("alpha")
        ]
        assert {one.dtype for one in numbers} == {torch.bfloat16}, name


def test_a_fused_weight_and_its_parts_are_merged_as_one(shop):
    """Two LoRAs for Flux, one on q, k and v in one weight, one on each of them (k is left alone)."""
    width, up, down = 3072, random(9216, 2, seed=1), random(2, 3072, seed=2)
    front = "lora_unet_double_blocks_0_img_attn_qkv"
    alpha = {f"{front}.alpha": torch.tensor(2.0)}
    fused = {f"{front}.lora_up.weight": up, f"{front}.lora_down.weight": down} | alpha
    write_tensors(shop.loras / "fused.safetensors", fused, {})
    parts = {}
    for part, seed in (("to_q", 3), ("to_v", 5)):
        name = f"transformer.transformer_blocks.0.attn.{part}"
        parts |= {f"{name}.lora_A.weight": random(2, width, seed=seed)}
        parts |= {f"{name}.lora_B.weight": random(width, 2, seed=seed + 1)}
    write_tensors(shop.loras / "parts.safetensors", parts, {})
    path, report = run(shop, "CVL_MergeLoRAs", loras="fused.safetensors : 0.7\nparts.safetensors : -0.5", **MERGE)
    assert report["against_stack"]["equal"] and not report["left_out"]
    wanted = 0.7 * up @ down
    for row, part in ((0, "to_q"), (2, "to_v")):
        name = f"transformer.transformer_blocks.0.attn.{part}"
        wanted[row * width :][:width] -= 0.5 * parts[f"{name}.lora_B.weight"] @ parts[f"{name}.lora_A.weight"]
    made = load_file(path)
    found = made[f"{front}.lora_up.weight"] @ made[f"{front}.lora_down.weight"]
    found *= made[f"{front}.alpha"] / len(made[f"{front}.lora_down.weight"])
    assert relative(found, wanted) < EXACT
