"""Which family a file and a model are of, and that the wrong pair is refused by name."""

import re

import pytest
import torch

from clip_vae_lora.lora.formats.read import LoRAFile, read
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.models.families import family_of_file, family_of_keys, kin_of, refuse_other_family
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.models.places import Slice

from ...support.files.lora_layouts import LAYOUTS, flux, sd3, text, vision

MODELS = {
    "SD 1": LAYOUTS["SD15"](),
    "SD 2": LAYOUTS["SD2"](),
    "SDXL": LAYOUTS["SDXL"](),
    "Flux": flux(),
    "SDXL refiner": LAYOUTS["SDXL_refiner"](),
    "SD 3": sd3(),
}

ATTENTION_TELLS = {  # what the names of the attention alone tell, in kohya's names or in those of diffusers
    ("Flux", True): None,  # Chroma's, Flux.2's and HunyuanVideo's are the same
    ("Flux", False): "Flux or Chroma",  # 19 double and 38 single blocks
}


def file_for(shapes, dialect, keep=lambda name: True):
    adapters = {}
    for place, name in spellings(shapes, dialect).items():
        shape = (place.rows[2], *shapes[place.key][1:]) if isinstance(place, Slice) else shapes[place]
        if len(shape) > 1 and keep(name):
            up, down = torch.empty(shape[0], 1, device="meta"), torch.empty(1, *shape[1:], device="meta")
            adapters[name] = LoRA(up, down, 1.0)
    return LoRAFile(dialect, adapters, {}, (), {})


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "lycoris", "onetrainer"])
def test_a_file_of_every_family_is_known_in_every_dialect(family, dialect):
    assert family_of_keys(MODELS[family]) == family
    file = file_for(MODELS[family], dialect)
    assert family_of_file(file) == family
    attention_only = file_for(MODELS[family], dialect, lambda name: "attn" in name)
    assert family_of_file(attention_only) == ATTENTION_TELLS.get((family, dialect == "kohya"), family)
    for other, shapes in MODELS.items():
        if other == family:
            refuse_other_family(file, shapes)
        else:
            with pytest.raises(LoRAError, match=f"made for {family}.* is {other}"):
                refuse_other_family(file, shapes)


def test_a_text_encoder_and_a_file_of_one_could_be_of_several_families():
    encoder = text("clip_l.transformer.", 768, 12)
    assert family_of_keys(encoder) is None and family_of_keys({}) is None
    assert family_of_keys({**text("", 64, 2, 64), **vision(64, 2, 64)}) is None
    assert family_of_file(file_for(encoder, "kohya")) is None
    refuse_other_family(file_for(encoder, "kohya"), MODELS["SDXL"])


@pytest.mark.parametrize("name", ["analog_svd_rank4.safetensors", "lora_disney.safetensors"])
def test_the_real_files_are_for_sd1(name, shared_data):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(shared_data / "lora" / name, "pt") as handle:
        file = read({key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata())
    assert family_of_file(file) == "SD 1"
    with pytest.raises(LoRAError, match="SD 1.*Flux"):
        refuse_other_family(file, MODELS["Flux"])


def test_the_first_attention_of_a_transformer_and_a_clip_l_beside_it_tell_no_family():
    text_mlp = "text_encoder.text_model.encoder.layers.0.mlp.fc2"  # reads 3072 numbers, as wide as Flux
    names = {"transformer.transformer_blocks.0.attn.to_q": (1536, 1536), text_mlp: (768, 3072)}
    tensors = {}
    for name, (out, inner) in names.items():
        tensors |= {f"{name}.lora_B.weight": torch.ones(out, 1), f"{name}.lora_A.weight": torch.ones(1, inner)}
    assert family_of_file(read(tensors)) is None
    for model in ("SD 3", "Flux"):
        refuse_other_family(read(tensors), MODELS[model], ["transformer.transformer_blocks.0.attn.to_q"])


REAL = {  # the family that is told, of files as trainers write them: the modules of a block, and how many blocks
    "Qwen-Image": ("Qwen-Image", "transformer_blocks", 60, ["attn.to_q", "attn.add_k_proj", "img_mlp.net.2"], 3072),
    "Qwen-Image, attention alone": ("Qwen-Image", "transformer_blocks", 60, ["attn.to_q", "attn.add_k_proj"], 3072),
    "AuraFlow": ("AuraFlow", "joint_transformer_blocks", 4, ["attn.to_q", "ff.linear_1"], 3072),
    "CogVideoX": (None, "transformer_blocks", 42, ["attn1.to_q", "attn1.to_out.0", "ff.net.2", "norm1.linear"], 3072),
    "CogVideoX, attention alone": (None, "transformer_blocks", 42, ["attn1.to_q", "attn1.to_out.0"], 3072),
    "LTX-Video": (None, "transformer_blocks", 28, ["attn1.to_q", "attn2.to_k", "ff.net.2"], 2048),  # as PixArt's
    "PixArt": (None, "transformer_blocks", 28, ["attn1.to_q", "attn2.to_k", "ff.net.2"], 1152),
    "Krea 2": ("Krea 2", "transformer_blocks", 28, ["attn.to_q", "attn.to_gate", "ff.gate"], 6144),
    "Flux.2": ("Flux.2", "transformer_blocks", 8, ["attn.to_q", "ff_context.linear_in"], 6144),
    "Flux.2, attention alone": (None, "transformer_blocks", 8, ["attn.to_q", "attn.add_k_proj"], 4096),
    "HunyuanVideo 1.5, attention alone": (None, "transformer_blocks", 54, ["attn.to_q", "attn.add_k_proj"], 2048),
    "Z-Image": ("Z-Image", "layers", 30, ["attention.to_q", "feed_forward.w1"], 3840),
    "Wan": ("Wan", "blocks", 40, ["self_attn.q", "ffn.0"], 5120),
    "HiDream": ("HiDream", "double_stream_blocks", 16, ["block.attn1.to_q_t"], 2560),
}


def real_file(stack, count, layers, width, prefix="transformer.", flat=False):
    names = [f"{stack}.{number}.{layer}" for number in range(count) for layer in layers]
    up, down = torch.empty(width, 1, device="meta"), torch.empty(1, width, device="meta")
    spelled = [prefix + (name.replace(".", "_") if flat else name) for name in names]
    return LoRAFile("", {name: LoRA(up, down, 1.0) for name in spelled}, {}, (), {})


@pytest.mark.parametrize(
    "prefix, flat", [("transformer.", False), ("diffusion_model.", False), ("", False), ("lora_unet_", True)]
)
@pytest.mark.parametrize("case", REAL)
def test_a_file_of_real_width_is_told_by_its_own_marks_or_not_at_all(case, prefix, flat):
    family, *sizes = REAL[case]
    told = family_of_file(real_file(*sizes, prefix, flat))
    if case in ("Qwen-Image, attention alone", "HunyuanVideo 1.5, attention alone"):
        assert told in (family, None) and told not in ("Flux", "SD 3")
    else:
        assert told == family


@pytest.mark.parametrize("prefix, flat", [("transformer.", False), ("diffusion_model.", False), ("lora_unet_", True)])
@pytest.mark.parametrize("model", ["Flux", "Chroma"])
def test_a_qwen_file_goes_neither_on_flux_nor_on_chroma_in_part(model, prefix, flat):
    shapes = MODELS["Flux"] if model == "Flux" else chroma()
    assert family_of_keys(shapes) == model
    for case in ("Qwen-Image", "Qwen-Image, attention alone"):
        file = real_file(*REAL[case][1:], prefix, flat)
        placed = [name for name in file.adapters if "attn" in name and int(re.search(r"\d+", name)[0]) < 19]
        with pytest.raises(LoRAError, match=f"made for .*Qwen-Image.* (is {model}:|{model} model connected)"):
            refuse_other_family(file, shapes, placed)


def test_a_flux_file_is_kin_of_chroma_and_not_of_hunyuan_video():
    file = file_for(MODELS["Flux"], "diffusers")
    refuse_other_family(file, chroma(), [])
    assert kin_of(file, chroma()) == ("Flux", "Chroma") and kin_of(file, MODELS["Flux"]) is None
    hunyuan = MODELS["Flux"] | {
        "diffusion_model.txt_in.individual_token_refiner.blocks.0.self_attn.qkv.weight": (9216, 3072),
        "diffusion_model.txt_in.input_embedder.weight": (3072, 4096),
    }
    with pytest.raises(LoRAError, match="made for Flux .it has .*the model connected is HunyuanVideo"):
        refuse_other_family(file, hunyuan)


def test_a_model_that_no_table_knows_refuses_a_part_of_a_file_and_takes_all_of_it():
    file = real_file(*REAL["Qwen-Image"][1:])
    unknown = {f"diffusion_model.{name.removeprefix('transformer.')}.weight": (3072, 3072) for name in file.adapters}
    assert family_of_keys(unknown) is None
    refuse_other_family(file, unknown, file.adapters)
    with pytest.raises(LoRAError, match="made for Qwen-Image .* and 120 of its 180 modules have a place"):
        refuse_other_family(file, unknown, [name for name in file.adapters if "attn" in name])


def chroma():
    shapes = {key: shape for key, shape in MODELS["Flux"].items() if not re.search("mod(ulation)?[.]|vector_in", key)}
    return shapes | {"diffusion_model.distilled_guidance_layer.in_proj.weight": (5120, 64)}


def test_a_file_of_a_family_that_no_table_has_goes_on_no_known_model_in_part():
    layers = ["self_attn.q", "self_attn.k", "mixer.in_proj", "mixer.out_proj", "mixer.gate", "conv.kernel"]
    file = real_file("blocks", 4, layers, 64)
    wan = {f"diffusion_model.blocks.0.{name}.weight": (64, 64) for name in ("self_attn.q", "cross_attn.o")}
    wan["diffusion_model.time_projection.1.weight"] = (384, 64)
    placed = [name for name in file.adapters if "self_attn" in name]
    with pytest.raises(
        LoRAError, match=r"only 8 of its 24 modules have a place in the Wan model .* no .*mixer\.in_proj"
    ):
        refuse_other_family(file, wan, placed)
    own_layers = real_file("blocks", 4, ["self_attn.q", "cross_attn.o", "extra"], 64)
    refuse_other_family(own_layers, wan, [name for name in own_layers.adapters if "attn" in name])


def test_a_video_model_of_sd_2_takes_no_picture_lora_and_the_other_way_round():
    video = MODELS["SD 2"] | {"diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.weight": (320, 320)}
    assert family_of_keys(video) == "SVD"
    with pytest.raises(LoRAError, match="made for SD 2 .* is SVD"):
        refuse_other_family(file_for(MODELS["SD 2"], "kohya"), video)
    own = real_file(
        "input_blocks", 2, ["1.time_stack.0.attn1.to_q", "1.transformer_blocks.0.attn2.to_k"], 1024, flat=True
    )
    assert family_of_file(own) == "SVD"
    with pytest.raises(LoRAError, match="made for SVD .* is SD 2"):
        refuse_other_family(own, MODELS["SD 2"])
