"""Activations in another type than the weights: copies that compute in it, and how far cosines move."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clip_vae_lora.clip_core.features.pictures import image_features
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.precision import PRECISIONS, as_precision, in_precision, most_change, slow_half


def norm(model):
    return model.text_model.final_layer_norm


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_plain_network_is_copied_into_another_type_and_stays_as_it_is(networks, name, dtype):
    model = networks.randomise_(CLIP(networks.tiny(name))).requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    half = in_precision(model, norm(model), dtype)
    assert half is not model and half.activation_dtype == dtype
    stays = {key: tensor for key, tensor in half.state_dict().items() if ".bn" in key or "downsample.1." in key}
    assert {tensor.dtype for key, tensor in half.state_dict().items() if key not in stays} == {dtype}
    assert all(tensor.dtype == torch.float32 for tensor in stays.values()) and bool(stays) == (name == "RN50")
    assert image_features(half, torch.rand(1, 40, 40, 3)).isfinite().all()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(tensor.dtype == before[key].dtype for key, tensor in model.state_dict().items())
    assert in_precision(model, norm(model), torch.float32) is model and in_precision(half, norm(half), dtype) is half


def test_layers_that_cast_their_weights_need_no_copy(networks):
    class Casting(nn.LayerNorm):
        pass

    model = CLIP(networks.tiny("ViT-B-32"))
    model.text_model.final_layer_norm = Casting(model.config.text.width)
    assert in_precision(model, norm(model), torch.float16) is model


def test_no_cosine_changes_more_than_the_most_and_one_changes_as_much(networks):
    model = networks.randomise_(CLIP(networks.tiny("ViT-B-32"))).requires_grad_(False)
    image = torch.rand(4, 40, 40, 3)
    exact, half = image_features(model, image), image_features(in_precision(model, norm(model), torch.bfloat16), image)
    most = most_change(half, exact)
    with_any = F.normalize(torch.randn(1000, exact.shape[1]), dim=1)
    assert 0 < float(((half - exact) @ with_any.T).abs().max()) <= most < 0.2  # bf16 keeps 8 bits of each number
    worst = (half - exact)[(half - exact).norm(dim=1).argmax()]
    assert float(((half - exact) @ F.normalize(worst, dim=0)).abs().max()) == pytest.approx(most, rel=1e-5)


def test_halves_on_a_cpu_are_said_to_be_slow_and_float32_never_is():
    assert "on the CPU" in slow_half("cpu", torch.float16) and "bf16" in slow_half("cpu", torch.bfloat16)
    assert slow_half("cpu", torch.float32) is None and slow_half("mps", torch.float16) is None


def test_a_precision_that_there_is_not_is_refused():
    assert [as_precision(name) for name in PRECISIONS] == [torch.float32, torch.float16, torch.bfloat16]
    with pytest.raises(ValueError, match="choose one of fp32, fp16, bf16"):
        as_precision("fp8")
