"""Damaged files: every one gives a report in which each of its modules is accounted for, or one clear sentence."""

import json
import random

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.models.blocks import select
from clip_vae_lora.lora.models.families import family_of_file
from clip_vae_lora.lora.models.match import key_of, match, part_of, shape_at

SHAPES = {
    "diffusion_model.input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
    "diffusion_model.out.2.weight": (4, 8, 3, 3),
    "diffusion_model.input_blocks.1.1.proj_in.bias": (8,),
    "diffusion_model.out.2.bias": (4,),
    "diffusion_model.double_blocks.0.img_attn.qkv.weight": (24, 8),
    "diffusion_model.x.weight": (8, 8),
    "diffusion_model.final_layer.adaLN_modulation.1.weight": (16, 8),
    "fc1.weight": (8, 8),
    "fc1.bias": (8,),
    "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (16, 8),
    "clip_l.transformer.text_model.encoder.layers.0.self_attn.k_proj.weight": (8, 8),
}
SUFFIXES = [
    ".lora_up.weight",
    ".lora_down.weight",
    ".lora_mid.weight",
    ".alpha",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora_B.other.weight",
    "_lora.up.weight",
    ".lora.down.weight",
    ".dora_scale",
    ".scale",
    ".lora_magnitude_vector",
    ".hada_w1_a",
    ".lokr_w1",
    ".diff",
    ".lora_B.bias",
    ".weight",
    "",
    ".",
    ".lora_A",
    ":up",
    ".hada_w1_b",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".hada_t2",
    ".lokr_w1_a",
    ".lokr_w1_b",
    ".lokr_w2",
    ".lokr_w2_a",
    ".lokr_w2_b",
    ".lokr_t2",
    ".a1.weight",
    ".a2.weight",
    ".b1.weight",
    ".b2.weight",
    ".oft_blocks",
    ".rescale",
    ".oft_R.weight",
    ".oft_R.scaled_oft",
    ".on_input",
    ".ia3_l",
    ".diff_b",
    ".w_norm",
    ".b_norm",
    ".set_weight",
    ".bias",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".processor.qkv_lora1.up.weight",
]
SIZES = [
    (),
    (0,),
    (1,),
    (2, 8),
    (8, 2),
    (8, 2, 1, 1),
    (2, 8, 3, 3),
    (2, 2, 3, 3),
    (1, 1, 1, 1, 1),
    (3, 0),
    (8,),
    (8, 8),
    (2, 4, 4),
    (2, 4, 2, 2),
    (4, 3),
    (2, 6),
    (8, 1),
    (1, 8),
    (2, 2),
    (4, 4),
    (0, 4, 4),
    (24, 2),
]
KINDS = {  # a whole module of each kind for a weight of 8 by 8
    "LoHa": {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8)},
    "LoKr": {"lokr_w1": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)},
    "OFT": {"oft_blocks": (2, 4, 4)},
    "GLoRA": {"a1.weight": (8, 2), "a2.weight": (2, 8), "b1.weight": (8, 2), "b2.weight": (2, 8)},
    "BOFT": {"oft_blocks": (2, 4, 2, 2), "rescale": (8, 1)},
    "(IA)^3": {"weight": (8,), "on_input": ()},
    "OFT of inputs": {"oft_R.weight": (2, 6)},
    "PEFT (IA)^3": {"ia3_l": (8, 1)},
    "full": {"diff": (8, 8), "diff_b": (8,)},
    "DoRA": {"lora_up.weight": (8, 2), "lora_down.weight": (2, 8), "dora_scale": (8, 1)},
    "DoRA of PEFT": {"lora_A.weight": (2, 8), "lora_B.weight": (8, 2), "lora_magnitude_vector": (8,)},
    "bias": {"lora_A.weight": (2, 8), "lora_B.weight": (8, 2), "lora_B.bias": (8,)},
    "set": {"set_weight": (8, 8)},
}
NAMES = [
    "lora_unet_input_blocks_1_1_proj_in",
    "diffusion_model.x",
    "base_model.model.fc1",
    "lycoris_x",
    "oft_unet_x",
    "transformer.transformer_blocks.0.attn.to_q",
    "transformer.norm_out.linear",
    "diffusion_model.final_layer",
]


def whole():
    tensors = {}
    for name in ("lora_unet_input_blocks_1_1_proj_in", "unet.mid.x", "base_model.model.fc1"):
        for up, down in ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight")):
            if name.startswith("lora_") == up.startswith(".lora_up"):
                tensors |= {name + up: torch.ones(8, 2), name + down: torch.ones(2, 8)}
    return tensors | {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(16, 2, 1, 1),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 8, 1, 1),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0),
        "text_encoder:0:up": torch.ones(8, 1),
        "text_encoder:0:down": torch.ones(1, 8),
    }


def whole_of_any_kind(rng):
    tensors = whole()
    for module in rng.sample(NAMES, 3):
        tensors |= {f"{module}.{suffix}": torch.ones(shape) for suffix, shape in KINDS[rng.choice([*KINDS])].items()}
        if rng.random() < 0.5:
            tensors[f"{module}.alpha"] = torch.tensor(rng.choice([0.0, 1.0, 1e30, -1e30, 1e-30, 0.001]))
    return tensors


def tensor(rng):
    shape = rng.choice(SIZES)
    value = rng.choice([1.0, 0.0, float("nan"), float("inf"), -1e38])
    dtype = rng.choice([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
    out = torch.full(shape, value).to(dtype)
    return rng.choice([out, out, out.float().nan_to_num().to(torch.int64), torch.zeros(shape, dtype=torch.bool)])


def name(rng, names):
    start = rng.choice([*names, "", "x", ".", "unet:0", "unet:9999999999999999999999", "lora_unet_é", "a" * 5000])
    start = start[: rng.randrange(len(start) + 1)] if rng.random() < 0.3 else start.rsplit(".", 2)[0]
    return start + rng.choice(SUFFIXES)


def damaged(rng):
    tensors = whole_of_any_kind(rng)
    for _ in range(rng.randrange(12)):
        act = rng.randrange(4)
        if act == 0 and tensors:
            del tensors[rng.choice(list(tensors))]
        elif act == 1 and tensors:
            tensors[rng.choice(list(tensors))] = tensor(rng)
        elif act == 2 and tensors:
            tensors[name(rng, list(tensors))] = tensors.pop(rng.choice(list(tensors)))
        else:
            tensors[name(rng, list(tensors) or ["y"])] = tensor(rng)
    return tensors


def header(rng):
    value = rng.choice([None, {}, [], 3, "x", float("nan"), 10**400, {"r": 2}, True])
    field = rng.choice(["r", "lora_alpha", "rank_pattern", "alpha_pattern", "unet.r", "unet."])
    config = rng.choice(
        [value, {field: value}, {"r": 2, "lora_alpha": 2, "alpha_pattern": {rng.choice(["fc1", "(", "*", ""]): value}}]
    )
    key = rng.choice(["adapter_config", "lora_adapter_metadata", "text_encoder", "text_encoder:0:rank", "<s1>", "unet"])
    return {key: rng.choice([json.dumps(config), "null", "", "<embed>", "\x00"])}


@pytest.mark.parametrize("block", range(8))
def test_every_damaged_file_is_accounted_for_or_refused_in_one_sentence(block):
    weights = {key: torch.ones(shape) for key, shape in SHAPES.items()}
    for seed in range(block * 500, block * 500 + 500):
        rng = random.Random(seed)
        tensors, metadata = damaged(rng), header(rng)
        before = dict(tensors)
        try:
            file = read(tensors, metadata)
        except LoRAError as error:
            assert str(error) and "\n" not in str(error)
            continue
        assert tensors.keys() == before.keys() and all(tensors[k] is v for k, v in before.items())
        assert not file.adapters.keys() & file.unread.keys()
        accounted = (*(name.removesuffix(".bias") for name in file.adapters), *file.unread, *file.embeddings)
        assert all(name.startswith(accounted) for name in tensors), (seed, [*tensors], accounted)
        assert all(reason and "\n" not in reason for reason in file.unread.values())
        result = match(file, SHAPES)
        assert {*result.modules.values(), *result.homeless, *result.misfit} == file.adapters.keys()
        assert not set(result.modules.values()) & (result.homeless.keys() | result.misfit.keys())
        lost = {module.removesuffix(".bias") for module in (*result.homeless, *result.misfit)}
        for place, adapter in result.found.items():
            assert result.modules[place].removesuffix(".bias") not in lost, (seed, place)  # never half of a module
            part = part_of(weights[key_of(place)], place)
            assert part.shape == shape_at(place, SHAPES)
            for match_comfyui in (False, True):
                assert adapter.delta(part, 0.5, match_comfyui=match_comfyui).shape == part.shape
        if file.adapters:
            select("*: 0.5", result.found) if result.found else None
            family_of_file(file)


@pytest.mark.parametrize("config", [{1: 2}, {"r": 2, "lora_alpha": 2, "alpha_pattern": {5: 1}}, {"r": 10**400}])
def test_a_given_configuration_of_strange_types_is_a_sentence_too(config):
    try:
        file = read(whole(), {}, config)
    except LoRAError as error:
        assert str(error)
    else:
        assert file.adapters or file.unread


def test_a_name_without_end_is_no_work_without_end():
    long = "base_model.model." + "a" * 200_000
    tensors = {f"{long}.lora_B.weight": torch.ones(8, 2), f"{long}.lora_A.weight": torch.ones(2, 8)}
    file = read(tensors, {}, {"r": 2, "lora_alpha": 2, "alpha_pattern": {".*b.*c": 1}})
    assert not file.adapters and "characters" in next(iter(file.unread.values()))
    assert len(match(read(tensors), SHAPES).homeless) == 1
