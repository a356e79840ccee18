"""Every spelling of every weight, against diffusers' own modules and the team's table."""

import json

import pytest

from clip_vae_lora.lora.models.names import diffusers_unet, name_map, spellings

from ...support.files.lora_layouts import LAYOUTS, text, vision

DIFFUSERS = {
    "SD15": {"cross_attention_dim": 768},
    "SD2": {"cross_attention_dim": 1024, "use_linear_projection": True},
    "SDXL": {
        "block_out_channels": (320, 640, 1280),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "SDXL_refiner": {
        "block_out_channels": (384, 768, 1536, 1536),
        "cross_attention_dim": 1280,
        "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2560,
    },
}


@pytest.fixture(scope="module")
def diffusers_model():
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    torch = pytest.importorskip("torch")

    def build(layout):
        with torch.device("meta"):
            return diffusers.UNet2DConditionModel(**DIFFUSERS[layout])

    return build


@pytest.mark.parametrize("layout", LAYOUTS)
def test_diffusers_names_are_those_of_diffusers_itself_with_the_same_shapes(layout, diffusers_model):
    shapes, names = LAYOUTS[layout](), name_map(LAYOUTS[layout]())
    theirs = {k: tuple(v.shape) for k, v in diffusers_model(layout).state_dict().items() if k.endswith(".weight")}
    reached = {name: names.get(f"unet.{name[:-7]}") for name in theirs}
    assert None not in reached.values()
    assert len(set(reached.values())) == len(theirs) == sum(k.startswith("diffusion_model.") for k in shapes)
    assert {name: shapes[key] for name, key in reached.items()} == theirs


@pytest.mark.parametrize("layout", ["SD15", "SDXL", "SDXL_refiner"])
def test_the_arithmetic_gives_the_table_of_the_team(layout, shared_data):
    table = json.loads((shared_data.parent / "formats_tables.json").read_text())["unet_block_map"][layout]
    modules = [key[16:-7] for key in LAYOUTS[layout]() if key.startswith("diffusion_model.")]
    for module, names in diffusers_unet(modules).items():
        block = next(module[:n] for n in range(len(module), 0, -1) if module[:n] in table)
        for name in names:
            assert any(
                name == entry.removesuffix(".weight") or name.startswith(entry + ".") for entry in table[block]
            ), (module, name)
    assert len(diffusers_unet(modules)) == len(modules)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_underscored_spelling_is_ambiguous_in_the_published_models(layout):
    keys = list(LAYOUTS[layout]())
    for dialect in ("kohya", "diffusers"):
        written = spellings(keys, dialect)
        assert written.keys() == set(keys)
        assert len(set(written.values())) == len(keys)


@pytest.mark.parametrize(
    "keys",
    [
        *(list(make()) for make in LAYOUTS.values()),
        [*text("", 64, 2, 64), *vision(64, 2, 64)],
        ["fc1.weight", "net.0.conv.weight"],
    ],
)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "onetrainer"])
def test_what_is_written_is_read_back(keys, dialect):
    names = name_map(keys)
    assert all(names[name] == key for key, name in spellings(keys, dialect).items())
    assert spellings(keys, dialect).keys() == set(keys)


def test_the_first_spelling_is_the_one_of_the_tool():
    q = "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
    fc = "transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    sd15, sdxl = (spellings(LAYOUTS[n](), "kohya") for n in ("SD15", "SDXL"))
    assert sd15[f"diffusion_model.{q}"] == "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert sdxl[f"diffusion_model.{q}"] == "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    assert sd15[f"clip_l.{fc}"] == "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert sdxl[f"clip_l.{fc}"] == "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    assert sdxl[f"clip_g.{fc}"] == "lora_te2_text_model_encoder_layers_0_mlp_fc1"


@pytest.mark.parametrize(
    "layout, name, key",
    [
        (
            "SD15",
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn2.processor.to_out",
            "diffusion_model.output_blocks.5.1.transformer_blocks.0.attn2.to_out.0.weight",
        ),
        (
            "SD15",
            "text_encoder.encoder.layers.3.mlp.fc2",
            "clip_l.transformer.text_model.encoder.layers.3.mlp.fc2.weight",
        ),
        (
            "SD2",
            "lora_te_text_model_encoder_layers_23_self_attn_q_proj",
            "clip_h.transformer.text_model.encoder.layers.23.self_attn.q_proj.weight",
        ),
        (
            "SDXL",
            "text_encoder_2.text_model.encoder.layers.31.mlp.fc1",
            "clip_g.transformer.text_model.encoder.layers.31.mlp.fc1.weight",
        ),
        ("SDXL", "lora_te2_text_projection", "clip_g.transformer.text_projection.weight"),
        (
            "SDXL",
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
            "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
        ),
        ("SDXL", "lora_unet_down_blocks_2_attentions_1_proj_in", "diffusion_model.input_blocks.8.1.proj_in.weight"),
        (
            "SDXL_refiner",
            "lora_te2_text_model_encoder_layers_0_mlp_fc1",
            "clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
        ),
    ],
)
def test_spellings_of_the_wild(layout, name, key):
    keys = LAYOUTS[layout]()
    assert key in keys
    assert name_map(keys)[name] == key


def test_our_dual_clip_answers_to_kohya_dotted_and_peft_names():
    names = name_map([*text("", 64, 2, 64), *vision(64, 2, 64)])
    fc1, patch = "text_model.encoder.layers.1.mlp.fc1", "vision_model.embeddings.patch_embedding"
    for name in ("lora_te_text_model_encoder_layers_1_mlp_fc1", fc1, f"base_model.model.{fc1}", f"text_encoder.{fc1}"):
        assert names[name] == f"{fc1}.weight"
    for name in ("lora_vision_vision_model_embeddings_patch_embedding", patch, f"base_model.model.{patch}"):
        assert names[name] == f"{patch}.weight"
    assert names["lora_vision_visual_projection"] == "visual_projection.weight"


def test_a_resnet_answers_to_openais_names_and_to_ours():
    inside = ("layer1.0.conv1", "layer2.0.downsample.0", "conv1", "attnpool.q_proj")
    ours = {f"visual.{module}": f"vision_model.{module}" for module in inside}
    ours["visual.attnpool.c_proj"] = "visual_projection"
    names = name_map([*text("", 64, 2, 64), *(f"{key}.weight" for key in ours.values())])
    for theirs, key in ours.items():
        for module in (theirs, key):
            for name in (module, f"lora_vision_{module.replace('.', '_')}", f"base_model.model.{module}"):
                assert names[name] == f"{key}.weight"


def test_a_name_that_could_mean_two_weights_means_none():
    names = name_map(["a.b_c.weight", "a_b.c.weight"])
    assert "lora_a_b_c" not in names
    assert names["a.b_c"] == "a.b_c.weight"
    both = name_map(LAYOUTS["SDXL"]())
    assert "base_model.model.text_model.encoder.layers.0.mlp.fc1" not in both


def test_cloneofsimo_numbers_follow_the_team_s_list(shared_data):
    lists = json.loads((shared_data.parent / "formats_tables.json").read_text())["cloneofsimo"]
    names = name_map(LAYOUTS["SD15"]())
    assert [names[f"unet:{n}"] for n in range(144)] == [f"diffusion_model.{m}.weight" for m in lists["unet"]]
    assert [names[f"text_encoder:{n}"] for n in range(48)] == [
        f"clip_l.transformer.{m}.weight" for m in lists["text_encoder"]
    ]
    assert "unet:144" not in names and "text_encoder:48" not in names


@pytest.mark.parametrize("kinds", [("Attention", "CrossAttention"), ("GEGLU",)])
def test_cloneofsimo_numbers_follow_diffusers_own_order_of_modules(kinds, diffusers_model):
    """cloneofsimo walks named_modules() and takes the Linear layers of attention and GEGLU blocks.

    Inside a block GEGLU was registered between the attentions then and is registered after them now, so the two kinds
    are compared apart; that it lay between is seen in the real files' shapes.
    """
    names, found = name_map(LAYOUTS["SD15"]()), []
    for name, part in diffusers_model("SD15").named_modules():
        if type(part).__name__ in kinds:
            found += [
                names[f"unet.{name}.{child}"]
                for child, layer in part.named_modules()
                if type(layer).__name__ == "Linear"
            ]
    assert [names[f"unet:{n}"] for n in range(144) if names[f"unet:{n}"] in set(found)] == found
    assert len(found) == (16 if kinds == ("GEGLU",) else 128)


def test_an_sdxl_unet_has_no_cloneofsimo_numbers():
    assert "unet:0" not in name_map(LAYOUTS["SDXL"]())


def test_dialects_of_one_model_family_name_what_they_know():
    sd15, numbers = LAYOUTS["SD15"](), spellings(LAYOUTS["SD15"](), "cloneofsimo")
    value = "clip_l.transformer.text_model.encoder.layers.0.self_attn.v_proj.weight"
    assert len(numbers) == 192 and numbers[value] == "text_encoder:1"
    q = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    old = spellings(sd15, "diffusers_0.1")
    assert old[q] == "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q" and len(old) == 128
    assert spellings(sd15, "lycoris")[q] == "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert not spellings(sd15, "bfl") and not spellings(sd15, "xlabs")
