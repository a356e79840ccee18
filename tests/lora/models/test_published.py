"""Files without their model: which published one they fit, and every dialect written and read back with its names."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.match import match, part_of, shape_at
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.models.places import Slice
from clip_vae_lora.lora.models.published import PUBLISHED, published_model

HAVE = {  # which dialects were ever written for which family; cloneofsimo's are SD 1 and SD 2
    model: ["kohya", "diffusers", "peft", "lycoris", "onetrainer", "diffusers_0.2", "bfl", "xlabs"]
    if model == "Flux"
    else ["kohya", "diffusers", "peft", "lycoris", "onetrainer", "diffusers_0.2"]
    for model in PUBLISHED
}
PAIRS = [(model, dialect) for model, dialects in HAVE.items() for dialect in dialects]
PAIRS += [(model, dialect) for model in ("SD 1", "SD 2") for dialect in ("cloneofsimo", "diffusers_0.1")]


def written(model, dialect, every=23):
    """A file of that dialect with every so-manieth weight that it has a name for (cloneofsimo, which counts: all)."""
    shapes = PUBLISHED[model][1]()
    names = {place: name for place, name in spellings(shapes, dialect).items() if len(shape_at(place, shapes)) > 1}
    split = {place.key for place in names if isinstance(place, Slice)}  # the rows, or the whole
    names = {place: name for place, name in names.items() if place not in split}
    chosen = list(names)[:: 1 if dialect == "cloneofsimo" else every]
    generator = torch.Generator().manual_seed(0)
    adapters = {}
    for place in chosen:
        out, inner, *kernel = shape_at(place, shapes)
        adapters[names[place]] = LoRA(
            torch.randn(out, 1, generator=generator), torch.randn(1, inner, *kernel, generator=generator), 0.5
        )
    tensors, header = write(adapters, dialect)
    return shapes, dict(zip(chosen, adapters.values())), tensors, header


@pytest.mark.parametrize("model, dialect", PAIRS)
def test_every_dialect_is_read_back_as_it_was_written_and_its_model_is_known(model, dialect):
    shapes, adapters, tensors, header = written(model, dialect)
    file = read(tensors, header)
    assert not file.unread
    found = match(file, shapes)
    assert found.found.keys() == adapters.keys() and not found.homeless and not found.misfit
    for place, adapter in adapters.items():
        again = found.found[place]
        assert torch.equal(again.up * again.scale, adapter.up * adapter.scale)  # a scale of a half is exact
        assert torch.equal(again.down, adapter.down)
    assert published_model(file)[0] == model


@pytest.mark.parametrize("model", ["SD 1", "SDXL", "Flux"])
def test_from_one_dialect_to_another_and_back_is_the_same_change(model):
    shapes, adapters, tensors, header = written(model, "kohya", 97)
    for dialect in ("diffusers", "peft"):
        there = rename(match(read(tensors, header), shapes).found, shapes, dialect)
        assert not there.unnamed
        back = match(read(*write(there.named, dialect)), shapes).found
        for place, adapter in adapters.items():
            rows = [at for at in back if isinstance(at, Slice) and at.key == place] or [place]
            for at in rows:
                expected = LoRA(part_of(adapter.up, at), adapter.down, adapter.alpha)
                assert torch.equal(back[at].up * back[at].scale, expected.up * expected.scale)
                assert torch.equal(back[at].down, expected.down)


def test_a_file_of_no_published_model_has_none():
    file = read({"lora_unet_x.lora_up.weight": torch.ones(2, 1), "lora_unet_x.lora_down.weight": torch.ones(1, 2)})
    assert published_model(file) is None
