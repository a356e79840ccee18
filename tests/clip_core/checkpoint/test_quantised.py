"""Weights that are whole numbers: those of bitsandbytes are read with the scales of their rows, others are refused."""

import re

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip, find_text_encoders
from clip_vae_lora.clip_core.checkpoint.layouts import LayoutError
from clip_vae_lora.clip_core.networks.text import CLIPText

from ...support.files.clip_files import TEXT, encoder, hf_pair, shapes


def in_8_bits(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The file that LLM.int8() makes of linear layers, and the weights it stands for."""
    file, meant = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if re.search(r"(_proj|fc1|fc2|_projection)\.weight$", name):
            largest = weight.abs().amax(1)  # [R]
            numbers = (weight / largest[:, None] * 127).round().to(torch.int8)
            file[name], file[f"{name.removesuffix('weight')}SCB"] = numbers, largest
            file[f"{name.removesuffix('weight')}weight_format"] = torch.tensor(0, dtype=torch.uint8)
            meant[name] = numbers.float() * largest[:, None] / 127
    return file, meant


def test_a_text_encoder_in_8_bits_of_bitsandbytes_has_the_weights_that_they_stand_for():
    file, meant = in_8_bits(encoder(CLIPText, TEXT).state_dict())
    (source,) = find_text_encoders(shapes(file))
    read = source.translate({name: file[name] for name in source.names})
    assert not source.ignored or all(name.endswith("weight_format") for name in source.ignored)
    assert not any("not read" in note for note in source.notes)
    for name, weight in meant.items():
        torch.testing.assert_close(read[name], weight, rtol=1e-6, atol=0)  # one rounding of float32 apart
    source.build().load_state_dict(read)


def test_a_pair_in_8_bits_of_bitsandbytes_has_the_weights_that_they_stand_for():
    file, meant = in_8_bits(hf_pair())
    source = find_clip(shapes(file))
    read = source.translate({name: file[name] for name in source.names})
    for name, weight in meant.items():
        if name in read:
            torch.testing.assert_close(read[name], weight, rtol=1e-6, atol=0)
    assert all(tensor.is_floating_point() for tensor in read.values())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_whole_numbers_without_scales_are_refused(dtype):
    file = encoder(CLIPText, TEXT).state_dict()
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    file[name] = torch.ones_like(file[name], dtype=dtype)
    (source,) = find_text_encoders(shapes(file))
    with pytest.raises(LayoutError, match=re.escape(f"{name} holds whole numbers ({str(dtype)[6:]}) without the")):
        source.translate(file)


@pytest.mark.parametrize("scales", [torch.ones(3), torch.ones(128, 2)])
def test_scales_of_another_number_than_the_rows_are_refused(scales):
    file, _ = in_8_bits(encoder(CLIPText, TEXT).state_dict())
    file["text_model.encoder.layers.0.mlp.fc1.SCB"] = scales
    (source,) = find_text_encoders(shapes(file))
    with pytest.raises(LayoutError, match="one scale for each of its"):
        source.translate(file)
