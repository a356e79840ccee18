"""Damaged LoRA files through the nodes: each a report or one clear sentence; none crashes, none is half applied.

`CVL_LORA_FUZZ=10000 pytest tests/nodes/lora/test_damaged_loras.py` tries as many as one likes.
"""

import json
import os
import random

import pytest
import torch
from torch import nn

from clip_vae_lora.lora.models import published
from clip_vae_lora.nodes.host.alone.clip import StandaloneClipModel
from clip_vae_lora.nodes.reports import known_kind

from ...support import tiny
from ...support.files import damage

COUNT, PARTS = int(os.environ.get("CVL_LORA_FUZZ", "240")), 4
BAD, GOOD = "damaged.safetensors", "sound.safetensors"


@pytest.fixture
def tried(place, request):
    """Runs one damaged file through one node; the answer, or the sentence."""
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    tiny.lora_file(place.models / "loras" / GOOD, ["lora_te_text_model_encoder_layers_1_self_attn_q_proj"])
    clip_model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    clip = place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]
    shared = request.config.rootpath.parent / "shared" / "data" / "lora"
    real = [path.read_bytes() for path in sorted(shared.glob("*.safetensors"))] if shared.is_dir() else []
    networks = [
        (network, {name: t.clone() for name, t in network.state_dict().items()})
        for network in (clip_model.network, clip.towers)
    ]

    def load(rng, **options):
        node = place.node("CVL_LoadLoRA")
        return node.load(
            BAD,
            1.0,
            rng.choice([1.0, 0.0, -0.5]),
            clip_model=clip_model,
            blocks=rng.choice(damage.BLOCKS),
            match_comfyui=rng.random() < 0.2,
            strict=rng.random() < 0.2,
            **options,
        )

    def stack(rng):
        text = f"{GOOD} : 1\n{BAD} : 0.5 : 0.5"
        return place.node("CVL_LoRAStack").load(text, clip=clip, strict=rng.random() < 0.2)

    def info(rng):
        return place.node("CVL_LoRAInfo").look(BAD)

    def convert(rng):
        connected = {"clip_model": clip_model} if rng.random() < 0.6 else {}
        return place.node("CVL_ConvertLoRA").convert(BAD, rng.choice(["kohya", "diffusers", "peft"]), "x", **connected)

    def run(seed):
        rng = random.Random(seed)
        damage.write(rng, place.models / "loras" / BAD, real)
        node = rng.choice([load, load, load, stack, stack, info, convert])
        written = len(list((place.base / "output").rglob("*")))
        try:
            answer = node(rng)
            sentence = problem_in(node.__name__, answer)
            answer = None if sentence else answer
        except ValueError as error:
            answer, sentence = None, str(error)
            assert known_kind(type(error)) is ValueError, seed
        assert answer is not None or len(list((place.base / "output").rglob("*"))) == written, seed
        return node.__name__, answer, sentence

    yield run
    for network, before in networks:
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def problem_in(name: str, answer: dict) -> str | None:
    """Why the damaged file was not used, where the others go on without it."""
    report = json.loads(answer["ui"]["cvl_report"][0])
    told = report if name == "load" else report["rows"][1] if name == "stack" else {}
    if name in ("info", "convert"):
        return report.get("problem")  # with the file's name in it
    return f"{BAD}: {told.get('problem') or told['sentence']}" if told.get("state") == "failed" else None


def check_sentence(sentence: str) -> None:
    assert BAD in sentence and "\n" not in sentence and 20 < len(sentence) < 700, sentence
    assert sentence.isprintable() and "Error" not in sentence.split(": ", 1)[1][:40], sentence


def check_report(name: str, answer: dict) -> None:
    report = json.loads(answer["ui"]["cvl_report"][0], parse_constant=lambda word: pytest.fail(f"{word} in a report"))
    if name == "convert":
        assert report["modules"] > 0
    if name in ("load", "stack"):
        file = report if name == "load" else next(one for one in report["files"] if one["file"] == BAD)
        told = file["applied"] + len(file["homeless"]) + len(file["misfits"]) + len(file["not_connected"])
        assert file["applied"] and told >= file["modules"]
        result = answer["result"][3].network if name == "load" else answer["result"][1].towers
        assert all(tensor.isfinite().all() for tensor in result.state_dict().values())


@pytest.mark.parametrize("part", range(PARTS))
def test_every_damaged_file_is_a_report_or_one_sentence_that_names_it(part, tried):
    outcomes = {"reports": 0, "sentences": 0}
    for seed in range(part, COUNT, PARTS):
        try:
            name, answer, sentence = tried(seed)
            if answer is None:
                check_sentence(sentence)
            else:
                check_report(name, answer)
        except Exception as error:  # whatever it is, no node may raise it
            raise AssertionError(f"the file of seed {seed}") from error
        outcomes["sentences" if answer is None else "reports"] += 1
    assert COUNT < 100 or min(outcomes.values()) > COUNT / PARTS / 10, outcomes


def sd1() -> nn.Module:
    """Modules with the keys and shapes of SD 1, all numbers in one place in memory."""
    root = nn.Module()
    for key, shape in published.sd15().items():
        module = root
        for name in key.split(".")[:-1]:
            module.add_module(name, getattr(module, name, nn.Module()))
            module = getattr(module, name)
        module.weight = nn.Parameter(torch.ones(()).expand(shape), requires_grad=False)
    return root


def test_real_files_damaged_by_bytes_are_applied_whole_or_not_at_all(place, shared_data):
    real = [path.read_bytes() for path in sorted((shared_data / "lora").glob("*.safetensors"))]
    model, first = StandaloneClipModel(sd1(), None), ".encoder.layers.0.self_attn."
    before, outcomes = dict(model.network.state_dict(keep_vars=True)), []
    for seed in range(24 if COUNT < 1000 else COUNT // 10):
        rng = random.Random(seed)
        data = rng.choice(real)
        (place.models / "loras" / BAD).write_bytes(damage.damage_bytes(rng, data) if seed > 1 else real[seed])
        try:
            answer = place.node("CVL_LoadLoRA").load(
                BAD, 1.0, 1.0, clip_model=model, blocks="*: 0, layers.0: 1", strict=seed > 1
            )
        except ValueError as error:
            check_sentence(str(error))
            outcomes.append(0)
            continue
        report, after = json.loads(answer["result"][2]), answer["result"][3].network.state_dict(keep_vars=True)
        assert report["applied"] + len(report["misfits"]) + len(report["homeless"]) == report["modules"], seed
        changed = {key for key in after if after[key] is not before[key]}
        assert changed <= {key for key in after if first in key} and len(changed) <= 4
        assert all(after[key].isfinite().all() for key in changed), seed
        assert seed > 1 or (report["applied"] == 192 and len(changed) == 4)
        outcomes.append(report["applied"])
    assert 0 in outcomes[2:] and 192 in outcomes[2:]  # some damage is seen by nobody: other numbers in a factor
    assert all(tensor is model.network.state_dict(keep_vars=True)[key] for key, tensor in before.items())
