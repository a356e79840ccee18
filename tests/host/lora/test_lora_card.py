"""Our patches on a pretended card in a real ComfyUI: kernels beside the stock patch, what a streaming host moves
ahead; and weights that are stored with a scale or packed, rounded and measured as ComfyUI does.
"""

import pytest
import torch
from torch import nn

from ...support.cards.pretended_card import pretend_cuda
from .test_lora import merged
from .test_lora_kinds import KEY, NAMES, kinds, ours, patched, random, sd15  # noqa: F401  fixtures


def five(ours, out, inner, *kernel, dtype=torch.float16):  # noqa: F811
    change, lora = ours("lora.weights.fusing").Change, ours("lora.kinds.adapters").LoRA
    return [
        change(lora(random(out, 4, seed=n).to(dtype), random(4, inner, *kernel, seed=n + 9).to(dtype), 2.0), n / 3)
        for n in range(1, 6)
    ]


def tensors_in(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [found for one in value for found in tensors_in(one)] if isinstance(value, tuple | list) else []


@pytest.mark.parametrize("computed", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(320, 320), (1280, 1280, 3, 3), (21504, 3072)])
def test_five_loras_need_no_more_kernels_than_the_stock_patch_for_one(comfyui, ours, shape, computed):  # noqa: F811
    import comfy.lora
    from comfy.weight_adapter import LoRAAdapter

    changes_of = ours("nodes.host.comfyui.patches").FusedPatch.of
    for intermediate in {torch.float32, computed}:  # as patch_weight_to_device asks for, and LowVramPatch
        counted = {}
        with pretend_cuda() as count:
            out, inner, *kernel = shape
            one = (torch.empty(out, 16).half(), torch.empty(16, inner, *kernel).half(), 8.0, None, None, None)
            several = [(torch.empty_like(one[0]), torch.empty_like(one[1])) for _ in range(5)]
            lora, change = ours("lora.kinds.adapters").LoRA, ours("lora.weights.fusing").Change
            patches = {
                "stock": LoRAAdapter(set(), one),
                "ours": changes_of([change(lora(*pair, 8.0), 0.5) for pair in several], False),
            }
            for name, patch in patches.items():
                weight = torch.empty(shape, dtype=computed, device="cuda")
                count.reset()
                comfy.lora.calculate_weight([(0.5, patch, 1.0, None, None)], weight, KEY, intermediate)
                counted[name] = count.kernels, count.moves, list(count.waits)
        assert counted["ours"][0] <= counted["stock"][0] and counted["ours"][1] <= counted["stock"][1]
        assert counted["ours"][2] == []


@pytest.mark.parametrize("name", [*NAMES, "five LoRAs"])
def test_what_streams_is_counted_and_on_the_card_before_it_is_used(comfyui, ours, name):  # noqa: F811
    import comfy.lora

    ahead = getattr(comfy.lora, "prefetch_prepared_value", None)
    if ahead is None:
        pytest.skip("this ComfyUI does not stream weights")
    from comfy.memory_management import vram_aligned_size

    change = ours("lora.weights.fusing").Change
    with pretend_cuda() as count:
        changes = five(ours, 64, 48) if name == "five LoRAs" else [change(kinds(ours, 64, 48)[name], 0.5)]
        patch = ours("nodes.host.comfyui.patches").FusedPatch.of(changes, False)
        needed, stored = [0], tensors_in(patch.weights)
        ahead(patch, needed, None, None, False)
        assert needed[0] == sum(vram_aligned_size(tensor) for tensor in stored) > 0
        there = ahead(patch, [0], torch.empty(needed[0], dtype=torch.uint8, device="cuda"), None, True)
        assert [tensor.device.type for tensor in tensors_in(there.weights)] == ["cuda"] * len(stored)
        count.reset()
        there.calculate_weight(torch.empty(64, 48, dtype=torch.bfloat16, device="cuda"), KEY, 1.0, 1.0, None, None)
        assert count.moves == 0 and count.waits == []


@pytest.mark.parametrize("name", [*NAMES, "five LoRAs"])
def test_a_patch_that_was_streamed_makes_the_same_weight(comfyui, ours, name):  # noqa: F811
    import comfy.lora

    ahead = getattr(comfy.lora, "prefetch_prepared_value", None)
    if ahead is None:
        pytest.skip("this ComfyUI does not stream weights")
    change, weight = ours("lora.weights.fusing").Change, random(64, 48, seed=7)
    changes = five(ours, 64, 48) if name == "five LoRAs" else [change(kinds(ours, 64, 48)[name], 0.5)]
    patch = ours("nodes.host.comfyui.patches").FusedPatch.of(changes, False)
    needed = [0]
    ahead(patch, needed, None, None, False)
    there = ahead(patch, [0], torch.empty(needed[0], dtype=torch.uint8), None, True)
    before, after = (p.calculate_weight(weight.clone(), KEY, 1.0, 1.0, None, None) for p in (patch, there))
    assert torch.equal(before, after) and not torch.equal(before, weight)


@pytest.mark.parametrize("rows", [False, True])
def test_fp8_is_rounded_once_by_comfyui_with_the_keys_own_seed(comfyui, ours, sd15, rows):  # noqa: F811
    import comfy.float
    import comfy.utils

    seed_of = getattr(comfy.utils, "string_to_seed", None)
    if seed_of is None:
        from comfy.model_patcher import string_to_seed as seed_of
    place = ours("lora.models.places").Slice(KEY, (0, 8, 16)) if rows else KEY
    parameter = sd15.model.get_parameter(KEY)
    plain = parameter.data.clone()
    try:
        parameter.data = plain.to(torch.float8_e4m3fn)
        changes = five(ours, 16 if rows else plain.shape[0], plain.shape[1])
        expected = parameter.data.float()
        part = expected[8:24] if rows else expected
        part += sum(adapter.delta(part.shape, strength) for adapter, strength in changes)
        expected = comfy.float.stochastic_rounding(expected, torch.float8_e4m3fn, seed=seed_of(KEY)).float()
        found = merged(patched(ours, sd15, {place: changes}))[KEY].float()
        other = (found != expected).float().mean()
        assert other <= 1e-3  # the sum may differ in the last bit of fp32, which turns few roundings
        assert (found - parameter.data.float()).abs().max() > 0
    finally:
        parameter.data = plain


class _Holder(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer


def _measured(ours, layer):  # noqa: F811
    from comfy.model_patcher import ModelPatcher

    cpu, host = torch.device("cpu"), ours("nodes.host").host
    target = ModelPatcher(_Holder(layer), cpu, cpu)
    shapes = host.weights(target)
    about = host.sizes(target, ["layer.weight"])
    return shapes["layer.weight"], about, host.norms(target, ["layer.weight"], lambda done, total: None)


def test_scaled_fp8_is_measured_with_its_scale(comfyui, ours):  # noqa: F811
    import comfy.ops

    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("this ComfyUI keeps scales inside its tensors")
    true = random(512, 384)
    layer = comfy.ops.scaled_fp8_ops(override_dtype=torch.float8_e4m3fn).Linear(384, 512)
    scale = true.abs().max() / 400
    layer.weight.data, layer.scale_weight.data = (true / scale).to(torch.float8_e4m3fn), scale
    shape, about, whole = _measured(ours, layer)
    _check(true, shape, about, whole, 0.02)


def _check(true, shape, about, whole, rounding):
    own = float(true.norm())
    assert shape == tuple(true.shape)
    assert whole["layer.weight"] == pytest.approx(own, rel=rounding)
    if about is not None:
        squares, variance = about["layer.weight"]
        assert 0 < variance and abs(squares - own**2) <= 5 * variance**0.5 + rounding * own**2


@pytest.mark.parametrize(
    "layout, rows_tell, rounding",
    [
        ("TensorCoreFP8E4M3Layout", True, 0.02),
        ("TensorCoreNVFP4Layout", False, 0.05),
    ],
)
def test_quantised_weights_are_measured_dequantised_or_not_at_all(comfyui, ours, layout, rows_tell, rounding):  # noqa: F811
    quantised = pytest.importorskip("comfy.quant_ops")
    if not hasattr(quantised, "QuantizedTensor") or not hasattr(quantised.QuantizedTensor, "from_float"):
        pytest.skip("this ComfyUI has no quantised tensors")
    true = random(512, 384)
    layer = nn.Linear(384, 512, bias=False, device="meta")
    held = quantised.QuantizedTensor.from_float(true.bfloat16(), layout)
    layer.weight = nn.Parameter(held, requires_grad=False)
    shape, about, whole = _measured(ours, layer)
    assert about or not rows_tell  # of NVFP4 a row is cut out by some versions of ComfyUI's library and not by others
    _check(true, shape, about or None, whole, rounding)
