"""Which family a file and a model are of, and that the wrong pair is refused by name."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import LoRAFile, read
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.models.families import family_of_file, family_of_keys, refuse_other_family
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
    assert family_of_file(attention_only) == family
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


def test_a_clip_l_in_the_file_does_not_make_an_sd3_lora_one_for_flux():
    text_mlp = "text_encoder.text_model.encoder.layers.0.mlp.fc2"  # reads 3072 numbers, as wide as Flux
    names = {"transformer.transformer_blocks.0.attn.to_q": (1536, 1536), text_mlp: (768, 3072)}
    tensors = {}
    for name, (out, inner) in names.items():
        tensors |= {f"{name}.lora_B.weight": torch.ones(out, 1), f"{name}.lora_A.weight": torch.ones(1, inner)}
    assert family_of_file(read(tensors)) == "SD 3"
