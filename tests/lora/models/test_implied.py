"""A file of every family without its model: what is written is what would be with the model connected."""

import pytest
import torch

from clip_vae_lora.lora.families.family import DIFFUSERS
from clip_vae_lora.lora.families.table import FAMILIES
from clip_vae_lora.lora.formats.read import LoRAFile
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.families import tell
from clip_vae_lora.lora.models.match import match, shape_at
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.models.places import Slice
from clip_vae_lora.lora.models.published import model_for

BY_NAME = {family.name: family for family in FAMILIES}
WIDTH = 8


def tiny(family):
    """Keys and shapes of a model by its family's table: as many blocks as a published one has, few rows."""
    shapes = {}
    for stack in family.stacks:
        if stack.tool == DIFFUSERS:
            for number in range(min(family.depth.get(stack.own, 2), 60)) if stack.own else ("",):
                at = f"diffusion_model.{stack.own}.{number}." if stack.own else "diffusion_model."
                for layer in stack.layers:
                    shapes[f"{at}{layer}.weight"] = (WIDTH, WIDTH)
                for layer, parts in stack.splits.items():
                    rest = 4 if any(not width for _, width in parts) and any(width for _, width in parts) else 1
                    rows = sum(width or rest for _, width in parts)
                    shapes[f"{at}{layer}.weight"] = (rows * WIDTH, WIDTH)
    for name in family.others:
        shapes[f"diffusion_model.{name.replace('#', '0')}.weight"] = (2 * WIDTH, WIDTH)
    for mark in family.has:
        shapes.setdefault(f"diffusion_model.{mark}.weight", (WIDTH,))  # a table of vectors, which no file changes
    return shapes


def file_of(shapes, dialect):
    adapters = {}
    fused = {place.key for place in spellings(shapes, dialect) if isinstance(place, Slice)}
    for n, (place, name) in enumerate(spellings(shapes, dialect).items()):
        if place not in fused and len(shape_at(place, shapes)) > 1:
            out, inner = shape_at(place, shapes)
            adapters[name] = LoRA(torch.full((out, 1), float(n)), torch.ones(1, inner), 1.0)
    return LoRAFile(dialect, adapters, {}, (), {})


@pytest.mark.parametrize(
    "name, source, target",
    [
        (name, source, target)
        for source, target in [("diffusers", "kohya"), ("kohya", "diffusers"), ("kohya", "peft")]
        for name in BY_NAME
        if name not in ("Flux", "SD 3")  # whose sizes are published
    ],
)
def test_a_file_without_its_model_is_written_as_with_it(name, source, target):
    shapes = tiny(BY_NAME[name])
    file = file_of(shapes, source)
    expected = rename(match(file, shapes).found, shapes, target).named
    found = model_for(file)
    assert found, tell(file)
    renamed = rename(match(file, found[1]).found, found[1], target)
    assert renamed.named.keys() == expected.keys() and not renamed.unnamed
    for module, adapter in expected.items():
        assert torch.equal(renamed.named[module].up, adapter.up), module


def test_attention_that_several_families_name_alike_and_write_alike_is_written():
    shapes = {f"diffusion_model.double_blocks.{n}.img_attn.qkv.weight": (24, 8) for n in range(19)}
    file = file_of(shapes | {"diffusion_model.single_blocks.37.linear2.weight": (8, 40)}, "kohya")
    name, implied = model_for(file)
    assert name == "Flux" and len(rename(match(file, implied).found, implied, "diffusers").named) == 19 * 3 + 1


def test_names_of_which_nobody_can_tell_whose_they_are_have_no_model():
    names = [f"transformer.transformer_blocks.{n}.attn.to_q" for n in range(4)]
    file = LoRAFile("", {name: LoRA(torch.ones(8, 1), torch.ones(1, 8), 1.0) for name in names}, {}, (), {})
    assert len(tell(file).families) > 3 and model_for(file) is None
