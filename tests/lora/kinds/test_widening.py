"""Control LoRAs: a layer gets inputs that it did not have, zeros first and then the change."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.magnitude import IA3
from clip_vae_lora.lora.kinds.widening import Widening
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.weights.fusing import Change, apply, apply_
from clip_vae_lora.lora.weights.measuring import change_sizes

FLUX = {
    "diffusion_model.img_in.weight": (8, 3),
    "diffusion_model.img_in.bias": (8,),
    "diffusion_model.double_blocks.0.img_attn.norm.key_norm.weight": (4,),
}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wide(*shape, seed=0) -> Widening:
    return Widening(LoRA(random(shape[0], 2, seed=seed), random(2, *shape[1:], seed=seed + 1), 1.0), shape)


def file(**more) -> dict[str, torch.Tensor]:
    return {"img_in.lora_B.weight": random(8, 2), "img_in.lora_A.weight": random(2, 6, seed=1), **more}


def test_the_weight_gets_zeros_and_then_the_change():
    weight, adapter = random(8, 3, seed=5), wide(8, 6)
    changed = apply(weight, [Change(adapter, 0.5)])
    expected = torch.cat([weight, torch.zeros(8, 3)], 1) + 0.5 * adapter.inner.delta((8, 6))
    assert torch.allclose(changed, expected, atol=1e-6) and tuple(weight.shape) == (8, 3)


def test_other_changes_of_the_layer_are_of_its_old_inputs_whatever_the_order():
    weight, adapter = random(8, 3, seed=5), wide(8, 6)
    narrow, scaled = LoRA(random(8, 1, seed=7), random(1, 3, seed=8), 1.0), IA3(random(8, seed=9), False)
    expected = torch.cat([weight + 0.3 * narrow.delta((8, 3)), torch.zeros(8, 3)], 1) + adapter.delta((8, 3))
    expected[:, :3] += scaled.delta(expected[:, :3])
    for changes in (
        [Change(adapter, 1.0), Change(narrow, 0.3), Change(scaled, 1.0)],
        [Change(narrow, 0.3), Change(adapter, 1.0), Change(scaled, 1.0)],
    ):
        assert torch.allclose(apply(weight, changes), expected, atol=1e-6)


def test_a_kernel_gets_channels():
    weight, adapter = random(4, 2, 1, 3, 3), wide(4, 5, 1, 3, 3)
    changed = apply(weight, [Change(adapter, 1.0)])
    assert changed.shape == (4, 5, 1, 3, 3)
    assert torch.allclose(changed[:, :2], weight + adapter.delta(weight)[:, :2], atol=1e-6)


def test_a_weight_cannot_become_wider_in_place():
    with pytest.raises(LoRAError, match=r"widens \[8, 3\] to \[8, 6\]"):
        apply_(random(8, 3), [Change(wide(8, 6), 1.0)])


@pytest.mark.parametrize("shape", [(8, 7), (7, 3), (8, 3, 1)])
def test_a_weight_that_is_no_narrower_layer_of_the_same_kind_does_not_fit(shape):
    assert "[8, 6]" in wide(8, 6).misfit(shape)


def test_flux_first_layer_takes_a_multiple_of_its_inputs():
    found = match(read(file()), FLUX).found["diffusion_model.img_in.weight"]
    assert isinstance(found, Widening) and found.shape == (8, 6)


@pytest.mark.parametrize("inputs", [3, 4, 5])
def test_nothing_else_makes_it_wider(inputs):
    down = random(2, inputs)
    matched = match(read(file(**{"img_in.lora_A.weight": down})), FLUX)
    assert not any(isinstance(adapter, Widening) for adapter in matched.found.values())
    assert bool(matched.misfit) == (inputs != 3)
    other = {"diffusion_model.img_in.weight": (8, 3), "diffusion_model.transformer_blocks.0.attn.to_q.weight": (8, 8)}
    assert not match(read(file(**{"img_in.lora_A.weight": random(2, 6)})), other).found


def test_a_file_that_names_the_new_shape_is_read_and_written_again():
    tensors = {
        "lora_unet_img_in.lora_up.weight": random(8, 2),
        "lora_unet_img_in.lora_down.weight": random(2, 6),
        "lora_unet_img_in.reshape_weight": torch.tensor([8, 6]),
    }
    adapters = read(tensors).adapters
    assert adapters["lora_unet_img_in"].shape == (8, 6)
    again = read(*write(adapters, "kohya")).adapters["lora_unet_img_in"]
    assert again.shape == (8, 6) and torch.equal(again.inner.down, tensors["lora_unet_img_in.lora_down.weight"])


@pytest.mark.parametrize("shape", [[8, 7], [8], [0, 6], [8.5, 6], [float("nan"), 6.0], [1, 1, 1, 1, 8, 6], []])
def test_a_shape_that_is_none_is_told(shape):
    tensors = {
        "a.lora_up.weight": random(8, 2),
        "a.lora_down.weight": random(2, 6),
        "a.reshape_weight": torch.tensor(shape),
    }
    assert read(tensors).adapters == {} and read(tensors).unread["a"]


def test_its_size_is_that_of_the_change():
    adapter = wide(8, 6)
    assert change_sizes([adapter])[0].squares == pytest.approx(float(adapter.inner.delta((8, 6)).norm() ** 2), rel=1e-5)


@pytest.mark.parametrize("own, theirs", [("weight", "scale"), ("scale", "weight")])
def test_a_norm_is_found_under_either_name_of_its_numbers(own, theirs):
    key = f"diffusion_model.double_blocks.0.img_attn.norm.key_norm.{own}"
    name = "diffusion_model.double_blocks.0.img_attn.norm.key_norm"
    end = {"scale": "scale", "weight": "set_weight"}[theirs]
    found = match(read({f"{name}.{end}": torch.ones(4)}), FLUX | {key: (4,)} if own == "weight" else {key: (4,)})
    assert list(found.found) == [key]
