"""Names of every family: tables against diffusers' classes, what is written is read back, and files of the wild."""

import re

import pytest
import torch

from clip_vae_lora.lora.families.family import DIFFUSERS
from clip_vae_lora.lora.families.table import FAMILIES, family_of_modules
from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.names import spellings, target_map
from clip_vae_lora.lora.models.places import Piece, Slice, Target

BY_NAME = {family.name: family for family in FAMILIES}
WIDTH = 12
TWINS = {  # diffusers' class and its sizes
    "Flux": ("FluxTransformer2DModel", {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}),
    "Flux.2": ("Flux2Transformer2DModel", {"num_layers": 1, "num_single_layers": 1}),
    "Chroma": ("ChromaTransformer2DModel", {"num_layers": 1, "num_single_layers": 1, "approximator_layers": 1}),
    "SD 3": ("SD3Transformer2DModel", {"num_layers": 2, "dual_attention_layers": (0,), "qk_norm": "rms_norm"}),
    "Qwen-Image": ("QwenImageTransformer2DModel", {"num_layers": 1}),
    "AuraFlow": ("AuraFlowTransformer2DModel", {"num_mmdit_layers": 1, "num_single_dit_layers": 1}),
    "Z-Image": ("ZImageTransformer2DModel", {"n_layers": 1}),
    "Lumina 2": ("Lumina2Transformer2DModel", {"num_layers": 1}),
    "Krea 2": ("Krea2Transformer2DModel", {"num_layers": 1}),
    "PixArt": ("PixArtTransformer2DModel", {"num_layers": 1, "caption_channels": 40}),
    "ERNIE-Image": ("ErnieImageTransformer2DModel", {"num_layers": 1}),
    "HunyuanVideo": ("HunyuanVideoTransformer3DModel", {"num_layers": 1, "num_single_layers": 1}),
    "HunyuanVideo 1.5": ("HunyuanVideo15Transformer3DModel", {"num_layers": 1}),
    "HunyuanImage": (
        "HunyuanImageTransformer2DModel",
        {"num_layers": 1, "num_single_layers": 1, "text_embed_2_dim": 64, "guidance_embeds": True},
    ),
    "Wan": ("WanTransformer3DModel", {"num_layers": 1, "image_dim": 64, "added_kv_proj_dim": 64}),
    "LTX-Video": ("LTXVideoTransformer3DModel", {"num_layers": 1}),
    "Kandinsky 5": ("Kandinsky5Transformer3DModel", {"num_visual_blocks": 1}),
    "Cosmos-Predict2": ("CosmosTransformer3DModel", {"num_layers": 1}),
}


def general(name):
    """A module's name with {} for the first number that is followed by more."""
    return re.sub(r"\.\d+\.", ".{}.", name, count=1)


def written_by(family):
    """Every name of diffusers in a family's table, {} for a block's number."""
    for stack in family.stacks:
        if stack.tool != DIFFUSERS:
            continue
        at = f"{stack.theirs}.{{}}." if stack.theirs else ""
        whole = [names if isinstance(names, str) else names[0] for own, names in stack.layers.items()]
        parts = [name for split in stack.splits.values() for name, _ in split if name]
        yield from (at + name for name in (*whole, *parts))


@pytest.mark.parametrize("name", TWINS)
def test_the_table_has_the_layers_of_diffusers_class_and_no_others(name):
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    kind, sizes = TWINS[name]
    with torch.device("meta"):
        state = getattr(diffusers, kind)(**sizes).state_dict()
    theirs = {general(key[: -len(".weight")]) for key, value in state.items() if key.endswith(".weight")}
    layers = {general(key[: -len(".weight")]) for key, v in state.items() if key.endswith(".weight") and v.ndim > 1}
    family = BY_NAME[name]
    table = {general(one) if "{" not in one else one for one in written_by(family)}
    if not family.same:
        assert layers <= table, "these have no place"
    fused = {one for one in table if one.rpartition("_")[2] in ("qkv", "kv")}  # diffusers' fuse_qkv_projections
    absent = {one for one in table - theirs - fused if "adaln_single.emb." not in one and "tables" not in one}
    assert not {one for one in absent if re.match(r"(single_)?transformer_blocks|blocks|layers", one)} - {
        "transformer_blocks.{}.scale_shift_table",
        "blocks.{}.scale_shift_table",
        "layers.{}.scale_shift_table",
    }


def small(family):
    """A model of a family, made from its table: two blocks of every stack, weights of a few rows."""
    shapes = {}
    for stack in family.stacks:
        if stack.tool != DIFFUSERS:
            continue
        for number in (0, 1) if stack.own else ("",):
            at = f"diffusion_model.{stack.own}.{number}." if stack.own else "diffusion_model."
            for layer in stack.layers:
                shapes[f"{at}{layer}.weight"] = (2 * WIDTH, WIDTH)
            for layer, parts in stack.splits.items():
                shapes[f"{at}{layer}.weight"] = (sum(max(widths, 1) for _, widths in parts) * WIDTH, WIDTH)
    for name in family.others:
        for number in "01":
            shapes[f"diffusion_model.{name.replace('#', number)}.weight"] = (2 * WIDTH, WIDTH)
    for mark in family.has:
        shapes.setdefault(f"diffusion_model.{mark}.weight", (WIDTH, WIDTH))
    return shapes


@pytest.mark.parametrize("name", BY_NAME)
def test_a_model_of_the_family_is_told_by_its_marks(name):
    modules = {key[len("diffusion_model.") : -len(".weight")] for key in small(BY_NAME[name])}
    assert family_of_modules(modules) is BY_NAME[name]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "lycoris", "onetrainer"])
def test_what_is_written_for_a_family_means_the_same_place_again(name, dialect):
    shapes = small(BY_NAME[name])
    names, written = target_map(shapes), spellings(shapes, dialect)
    assert len(set(written.values())) == len(written) > 4
    for place, module in written.items():
        assert names.find(module).targets == (Target(place),), module


@pytest.mark.parametrize("name", BY_NAME)
def test_every_prefix_reaches_both_a_familys_own_names_and_diffusers(name):
    shapes = small(BY_NAME[name])
    names = target_map(shapes)
    flat = [module.replace(".", "_") for module in names.modules]
    for module, (key, _) in names.modules.items():
        if flat.count(module.replace(".", "_")) > 1:
            continue
        for prefix in ("", "transformer.", "unet.", "base_model.model.", "unet.base_model.model.", "diffusion_model."):
            assert names.find(prefix + module).targets == (Target(key),), prefix + module
        for prefix in ("lora_unet_", "lora_unet__", "lycoris_", "lora_transformer_"):
            assert names.find(prefix + module.replace(".", "_")).targets == (Target(key),), prefix + module
        assert names.find(f"diffusion_model._orig_mod.{module}.default").targets == (Target(key),)


@pytest.mark.parametrize(
    "family, name, key, rows",
    [
        ("Z-Image", "lora_unet_layers_1_attention_to_k", "layers.1.attention.qkv", (0, 12, 12)),
        ("Z-Image", "diffusion_model.layers.0.attention.to_out.0", "layers.0.attention.out", None),
        ("Flux.2", "double_blocks.0.img_attn_qkv", "double_blocks.0.img_attn.qkv", None),
        (
            "Flux.2",
            "lycoris_single_transformer_blocks_0_attn_to_qkv_mlp_proj",
            "single_blocks.0.linear1",
            None,
        ),
        ("Flux.2", "transformer.single_stream_modulation.linear", "single_stream_modulation.lin", None),
        ("HunyuanVideo", "transformer.double_blocks.0.img_mlp.fc1", "double_blocks.0.img_mlp.0", None),
        ("HunyuanVideo", "diffusion_model.double_blocks.0.img_attn_qkv", "double_blocks.0.img_attn.qkv", None),
        ("HunyuanVideo 1.5", "lora_unet_double_blocks_0_txt_attn_v", "double_blocks.0.txt_attn.qkv", (0, 24, 12)),
        ("AuraFlow", "transformer.joint_transformer_blocks.0.attn.to_q", "double_layers.0.attn.w2q", None),
        ("PixArt", "base_model.model.transformer_blocks.0.attn2.to_v", "blocks.0.cross_attn.kv_linear", (0, 12, 12)),
        ("Lumina 2", "transformer.layers.0.feed_forward.linear_2", "layers.0.feed_forward.w2", None),
        ("Krea 2", "lycoris_text_fusion_refiner_blocks_0_ff_gate", "txtfusion.refiner_blocks.0.mlp.gate", None),
        ("Wan", "lora_unet_blocks_1.self_attn.k", "blocks.1.self_attn.k", None),
        ("Wan", "lycoris_blocks_0_ffn_net_0_proj", "blocks.0.ffn.0", None),
        ("ACE-Step 1.5", "base_model.model.layers.0.self_attn.q_proj", "decoder.layers.0.self_attn.q_proj", None),
        ("Flux", "diffusion_model.single_blocks.1.linear1_qkv", "single_blocks.1.linear1", (0, 0, 36)),
        ("Flux", "double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.norm.key_norm", None),
    ],
)
def test_names_of_the_wild(family, name, key, rows):
    key = f"diffusion_model.{key}.weight"
    assert target_map(small(BY_NAME[family])).find(name).targets == (Target(Slice(key, rows) if rows else key),)


def test_keys_and_values_of_fewer_heads_are_the_rows_behind_the_queries():
    key = "diffusion_model.layers.0.attention.qkv.weight"
    names = target_map({key: (20, 12), "diffusion_model.layers.0.adaLN_modulation.1.weight": (48, 10)})
    found = [names.find(f"transformer.layers.0.attn.to_{x}").targets[0].place.rows for x in "qkv"]
    assert found == [(0, 0, 12), (0, 12, 4), (0, 16, 4)]


def test_a_fused_module_of_a_file_lies_in_three_weights_of_krea_2():
    names = target_map(small(BY_NAME["Krea 2"]))
    keys = [f"diffusion_model.blocks.0.attn.w{x}.weight" for x in "qkv"]
    found = names.find("lycoris_transformer_blocks_0_attn_to_qkv").targets
    assert found == tuple(Target(key, piece=Piece(24 * n, 24, 72)) for n, key in enumerate(keys))


def plain(names, rows=2 * WIDTH):
    return {
        f"{name}.{side}.weight": torch.randn(*shape)
        for name in names
        for side, shape in (("lora_A", (2, WIDTH)), ("lora_B", (rows, 2)))
    }


def test_a_file_of_another_family_in_bare_names_is_not_applied_in_part():
    qwen = [key[len("diffusion_model.") : -len(".weight")] for key in small(BY_NAME["Qwen-Image"])]
    for prefix in ("", "transformer."):
        found = match(read(plain(prefix + name for name in qwen)), small(BY_NAME["Flux"]))
        assert not found.found and not found.misfit and len(found.homeless) == len(qwen)


def test_names_that_only_the_host_knows_are_asked_of_it_when_one_is_unknown():
    shapes, asked = small(BY_NAME["Wan"]), []
    key = "diffusion_model.blocks.0.self_attn.q.weight"

    def host_names():
        asked.append(1)
        return {"strange.name": Target(key), "gone": Target("diffusion_model.gone.weight")}

    assert match(read(plain(["blocks.0.self_attn.k"])), shapes, host_names).found and not asked
    found = match(read(plain(["strange.name"])), shapes, host_names)
    assert list(found.found) == [key] and asked == [1]
    assert match(read(plain(["gone"])), shapes, host_names).homeless
