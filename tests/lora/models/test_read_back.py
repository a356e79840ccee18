"""What Convert LoRA writes is read back by diffusers through PEFT: the same change in every module of its class.

A file with diffusers' names of every layer becomes kohya's, without its model, and diffusers' again.
"""

import json
import re
from pathlib import Path

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.families import tell
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.published import model_for

TABLE = Path(__file__).resolve().parents[2] / "data" / "lora_families.json"
ENTRIES = [entry for entry in json.loads(TABLE.read_text(encoding="utf-8")) if entry.get("diffusers")]
ODD = {  # what kohya's names alone do not say
    "LongCat-Image": "its own names are those of Flux and Flux.2 alike",
    "Mochi": "its last block has another name for one layer",
    "Wan VACE": "its second stack has other names in diffusers",
}
UNETS = {"SD 1", "SD 2", "SDXL", "SDXL refiner", "SSD-1B", "SVD"}  # published sizes, tested in test_published.py


def layers_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def file_of(layers):
    tensors = {}
    for n, (name, layer) in enumerate(layers.items()):
        random = torch.Generator().manual_seed(n)
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=random)
        tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2, generator=random)
    return tensors


def converted(tensors, dialect):
    file = read(tensors)
    found = model_for(file)
    assert found, tell(file)
    placed = match(file, found[1])
    assert not placed.homeless and not placed.misfit, (placed.homeless, placed.misfit)
    result = rename(placed.found, found[1], dialect)
    assert not result.unnamed
    return write(result.named, dialect)[0]


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry["name"] not in UNETS], ids=lambda entry: entry["name"]
)
def test_diffusers_reads_every_layer_back_as_it_was(entry):
    if entry["name"] in ODD:
        pytest.skip(ODD[entry["name"]])
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    pytest.importorskip("peft")
    if not (kind := getattr(diffusers, entry["diffusers"], None)) or not hasattr(kind, "load_lora_adapter"):
        pytest.skip("this diffusers cannot load LoRAs there")
    model = kind(**entry["twin"])
    layers = layers_of(model)
    first = file_of(layers)
    if not model_for(read(first)):
        pytest.skip(f"several families write these names: {', '.join(tell(read(first)).families)}")
    back = converted(converted(first, "kohya"), "diffusers")
    fronts = {re.match(r"transformer\.|diffusion_model\.|", name)[0] for name in back}
    assert fronts == {"transformer."}, "one naming per file"
    model.load_lora_adapter(back, prefix="transformer", adapter_name="back")
    for name, module in model.named_modules():
        if name in layers and hasattr(module, "get_delta_weight"):
            up, down = (first[f"transformer.{name}.{part}.weight"] for part in ("lora_B", "lora_A"))
            torch.testing.assert_close(module.get_delta_weight("back"), up @ down, rtol=1e-4, atol=1e-4)
    read_back = {name for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    assert read_back >= set(layers)
