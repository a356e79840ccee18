"""LoRAs on models in few bits: as many places as the stock loader, equal values, and what the rounding does is told."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support.loras import small_flux
from .test_lora_kinds import ours  # noqa: F401  fixture

STACK = 3e-7  # one product of all factors for a product of each


@pytest.fixture(scope="module", params=small_flux.LAYOUTS)
def base(comfyui, request):
    quantised = pytest.importorskip("comfy.quant_ops")
    if request.param not in getattr(quantised, "QUANT_ALGOS", {}) or not hasattr(quantised, "TensorWiseINT8Layout"):
        pytest.skip(f"this ComfyUI has no {request.param}")
    return small_flux.flux(request.param)


@pytest.fixture(scope="module")
def file(comfyui, ours):  # noqa: F811
    shapes = ours("nodes.host").host.weights(small_flux.flux())
    write_tensors(comfyui.models / "loras" / "flux.safetensors", small_flux.lora_of(shapes), {})
    return "flux.safetensors"


def weights(patcher) -> dict[str, torch.Tensor]:
    """The weights as the model computes with them, unpacked."""
    import comfy.model_management as management

    management.unload_all_models()
    management.load_models_gpu([patcher], force_patch_weights=True, force_full_load=True)
    found = {
        name: (own.dequantize() if hasattr(own, "_qdata") else own).detach().clone().float()
        for name, own in patcher.model.named_parameters()
    }
    management.unload_all_models()
    return found


def stock(comfyui, model, *files):
    for name, strength in files:
        (model,) = comfyui.nodes["LoraLoaderModelOnly"]().load_lora_model_only(model, name, strength)
    return model


def test_one_file_patches_the_same_places_with_the_same_values(comfyui, base, file):
    theirs = stock(comfyui, base, (file, 0.8))
    mine = comfyui.nodes["CVL_LoadLoRA"]().load(file, 0.8, 0.0, model=base)["result"][0]
    assert mine.patches.keys() == theirs.patches.keys() and len(mine.patches) > 20
    before, expected, found = weights(base), weights(theirs), weights(mine)
    assert all(torch.equal(found[key], own) for key, own in expected.items())
    assert sum(not torch.equal(found[key], own) for key, own in before.items()) == len(mine.patches)


def test_a_stack_is_as_near_to_the_sum_as_the_stock_chain(comfyui, base, file):
    theirs = stock(comfyui, base, (file, 0.8), (file, -0.3))
    text = f"{file} : 0.8\n{file} : -0.3"
    mine = comfyui.nodes["CVL_LoRAStack"]().load(text, model=base)["result"][0]
    expected, found = weights(theirs), weights(mine)
    for key, own in expected.items():
        other = (found[key] - own).abs() > STACK * own.abs().max()
        assert other.float().mean() <= 2e-3, key  # the last bit of fp32 turns few roundings


def test_the_report_measures_the_weights_unpacked(comfyui, ours, base, file):  # noqa: F811
    host = ours("nodes.host").host
    keys = [key for key, shape in host.weights(base).items() if len(shape) == 2 and "blocks." in key]
    about, exact = host.sizes(base, keys), host.norms(base, keys, lambda done, total: None)
    assert about.keys() == exact.keys() == set(keys)
    for key in keys:
        own = float(base.model.get_parameter(key).dequantize().double().norm())
        assert exact[key] == pytest.approx(own, rel=1e-4)  # pieces of 262,144 numbers are summed in fp32
        assert abs(about[key].squares - own**2) <= 6 * about[key].variance ** 0.5 + 1e-6 * own**2


def test_rows_are_those_of_the_unpacked_weight(comfyui, ours, base):  # noqa: F811
    stored = ours("nodes.host.comfyui.stored")
    layer = base.model.diffusion_model.double_blocks[0].img_mlp[0]
    whole, storage = layer.weight.dequantize().float(), stored.storage_of(layer, layer.weight)
    for numbers in ([0, 3, 31, 32, 127, 128, 500, 1023], list(range(40, 300))):
        assert torch.equal(storage.rows(numbers), whole[numbers])


@pytest.mark.parametrize("strength", [0.02, 1.0])
def test_what_the_rounding_does_to_the_change_is_told(comfyui, base, file, strength):
    answer = comfyui.nodes["CVL_LoadLoRA"]().load(file, strength, 0.0, model=base)
    told = json.loads(answer["result"][2])["rounding"]["model"]
    before, after = weights(base), weights(answer["result"][0])
    plain = small_flux.flux()
    changed = weights(stock(comfyui, plain, (file, strength)))
    unchanged = weights(plain)
    keys = [key for key in before if "blocks." in key and before[key].ndim == 2]

    def size(first, second) -> float:
        return float(sum(((first[key] - second[key]) ** 2).sum() for key in keys)) ** 0.5

    own = float(sum((before[key] ** 2).sum() for key in keys)) ** 0.5
    asked = {key: changed[key] - unchanged[key] for key in keys}
    product = float(sum((asked[key] * (after[key] - before[key])).sum() for key in keys))
    # the report reads four rows of each weight
    assert told["asked"] == pytest.approx(size(changed, unchanged) / own, rel=0.25)
    assert told["applied"] == pytest.approx(size(after, before) / own, rel=0.25)
    assert told["arrived"] == pytest.approx(product / size(changed, unchanged) ** 2, abs=0.35)
    assert f"stored as {told['stored_as']} and rounded again: asked" in answer["ui"]["text"][0]
