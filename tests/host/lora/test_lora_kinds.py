"""Every kind of adapter as a patch in ComfyUI: its own change, and the old bits when it is taken off."""

import importlib

import pytest
import torch

from ...support import models
from .test_lora import merged

RELATIVE = 1e-6  # ours adds the same change in the same fp32; a rounding of the last bit is left
KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(scope="module")
def sd15(comfyui):
    return models.sd15_model(context_dim=64)


@pytest.fixture(scope="module")
def ours(comfyui):
    """A module of the pack as ComfyUI loaded it: its classes are others than those of the tests."""
    return lambda name: importlib.import_module(f"{comfyui.ours.__name__}.{name}")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def kinds(ours, out: int, inner: int) -> dict:
    a = ours("lora.kinds.adapters")
    lora = a.LoRA(random(out, 2), random(2, inner, seed=1), 1.0)
    half = (random(out, 2), random(2, inner, seed=1))
    return {
        "LoHa": ours("lora.kinds.hadamard").LoHa(*half, *half, 1.0),
        "LoKr": ours("lora.kinds.kronecker").LoKr(w1=random(2, 2), w2=random(out // 2, inner // 2, seed=1), alpha=1.0),
        "OFT": ours("lora.kinds.orthogonal").OFT(random(2, out // 2, out // 2)),
        "OFT of inputs": ours("lora.kinds.orthogonal").InputOFT(random(inner // 4, 6)),
        "DoRA": ours("lora.kinds.magnitude").DoRA(lora, random(out, 1).abs() + 1),
        "GLoRA": ours("lora.kinds.magnitude").GLoRA(
            random(inner, 2), random(2, inner, seed=1), random(out, 2, seed=2), random(2, inner, seed=3), 1.0
        ),
        "(IA)^3": ours("lora.kinds.magnitude").IA3(random(out), False),
        "difference": ours("lora.kinds.whole").Difference(random(out, inner)),
        "replacement": ours("lora.kinds.whole").Replacement(random(out, inner)),
        "halves the other way round": ours("lora.models.rows").Swapped(
            ours("lora.kinds.magnitude").IA3(random(out), False)
        ),
    }


NAMES = [
    "LoHa",
    "LoKr",
    "OFT",
    "OFT of inputs",
    "DoRA",
    "GLoRA",
    "(IA)^3",
    "difference",
    "replacement",
    "halves the other way round",
]


def patched(ours, target, changes, **options):
    return ours("nodes.host").host.patched(target, changes, **options)


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("name", NAMES)
def test_a_patched_weight_is_the_weight_and_the_adapters_own_change(comfyui, ours, sd15, name, strength):
    change = ours("lora.weights.fusing").Change
    before = sd15.model.state_dict()[KEY].clone()
    adapter = kinds(ours, *before.shape)[name]
    state = merged(patched(ours, sd15, {KEY: [change(adapter, strength)]}))
    expected = before + adapter.delta(before, strength)
    assert (state[KEY] - expected).abs().max() <= RELATIVE * expected.abs().max()
    assert not torch.equal(state[KEY], before)
    assert torch.equal(sd15.model.state_dict()[KEY], before)


@pytest.mark.parametrize(
    "key",
    [
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.bias",
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.norm1.weight",
        "diffusion_model.input_blocks.1.0.in_layers.0.bias",
    ],
)
def test_biases_and_norms_are_changed_by_their_differences(comfyui, ours, sd15, key):
    change, difference = ours("lora.weights.fusing").Change, ours("lora.kinds.whole").Difference
    before = sd15.model.state_dict()[key].clone()
    value = random(*before.shape)
    several = [change(difference(value), 0.5), change(difference(value, "norm difference"), -1.5)]
    for changes in (several[:1], several):
        after = merged(patched(ours, sd15, {key: changes}))[key]
        expected = before + sum(one.strength for one in changes) * value
        assert (after - expected).abs().max() <= RELATIVE * expected.abs().max()
    assert torch.equal(sd15.model.state_dict()[key], before)


def test_a_file_with_differences_of_biases_and_norms_is_applied_whole(comfyui, ours, sd15):
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    shapes = {name: tuple(weight.shape) for name, weight in sd15.model.state_dict().items()}
    width = shapes[KEY][0]
    tensors = {
        f"{block}_ff_net_2.diff": random(width, 4 * width),
        f"{block}_ff_net_2.diff_b": random(width),
        f"{block}_norm1.w_norm": random(width),
        f"{block}_norm1.b_norm": random(width),
    }
    found = ours("lora.models.match").match(ours("lora.formats.read").read(tensors), shapes)
    assert len(found.found) == 4 and not found.homeless and not found.misfit
    change = ours("lora.weights.fusing").Change
    state = merged(patched(ours, sd15, {place: [change(one, 1.0)] for place, one in found.found.items()}))
    before = sd15.model.state_dict()
    for place, name in found.modules.items():
        value = found.found[place].value
        assert (state[place] - before[place] - value).abs().max() <= 1e-6, name  # one rounding of numbers near 1
    assert sorted(found.modules.values()) == [
        f"{block}_ff_net_2",
        f"{block}_ff_net_2.bias",
        f"{block}_norm1",
        f"{block}_norm1.bias",
    ]


def test_rows_of_a_weight_are_changed_and_no_others(comfyui, ours, sd15):
    change, rows = ours("lora.weights.fusing").Change, ours("lora.models.places").Slice
    before = sd15.model.state_dict()[KEY].clone()
    part = before.shape[0] // 2
    loha = kinds(ours, part, before.shape[1])["LoHa"]
    after = merged(patched(ours, sd15, {rows(KEY, (0, part, part)): [change(loha, 1.0)]}))[KEY]
    assert torch.equal(after[:part], before[:part])
    assert torch.allclose(after[part:], before[part:] + loha.delta((part, before.shape[1])), rtol=RELATIVE)


def test_five_loras_are_one_patch_and_their_sum(comfyui, ours, sd15):
    change, lora = ours("lora.weights.fusing").Change, ours("lora.kinds.adapters").LoRA
    before = sd15.model.state_dict()[KEY].clone()
    out, inner = before.shape
    changes = [change(lora(random(out, 4, seed=n), random(4, inner, seed=n + 9), 2.0), n / 3) for n in range(5)]
    copy = patched(ours, sd15, {KEY: changes})
    assert len(copy.patches[KEY]) == 1
    expected = before + sum(adapter.delta(before, strength) for adapter, strength in changes)
    assert (merged(copy)[KEY] - expected).abs().max() <= RELATIVE * expected.abs().max()
    assert torch.equal(sd15.model.state_dict()[KEY], before)


def test_a_place_that_the_model_does_not_have_is_an_error(comfyui, ours, sd15):
    change, lora = ours("lora.weights.fusing").Change, ours("lora.kinds.adapters").LoRA
    with pytest.raises(RuntimeError, match="nowhere"):
        patched(ours, sd15, {"nowhere": [change(lora(random(8, 2), random(2, 8), 2.0), 1.0)]})
