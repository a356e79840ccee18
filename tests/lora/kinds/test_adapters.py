"""One adapter: its change of a weight, in every shape it may be stored in."""

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_delta_of_a_linear_is_alpha_over_rank_times_up_down():
    up, down = random(6, 4), random(4, 5, seed=1)
    lora = LoRA(up, down, 2.0)
    assert (lora.rank, lora.scale) == (4, 0.5)
    torch.testing.assert_close(lora.delta((6, 5)), 0.5 * up @ down)


def test_a_linear_adapter_and_a_1x1_convolution_are_the_same_thing():
    flat = LoRA(random(6, 4), random(4, 5, seed=1), 4.0)
    conv = LoRA(flat.up[..., None, None], flat.down[..., None, None], 4.0)
    for shape in ((6, 5), (6, 5, 1, 1)):
        assert torch.equal(flat.delta(shape), conv.delta(shape))
        assert flat.delta(shape).shape == shape


def test_locon_is_the_convolution_down_then_up():
    lora, x = LoRA(random(6, 4, 1, 1), random(4, 5, 3, 3, seed=1), 4.0), random(2, 5, 7, 7, seed=2)
    torch.testing.assert_close(
        F.conv2d(x, lora.delta((6, 5, 3, 3))), F.conv2d(F.conv2d(x, lora.down), lora.up), rtol=1e-4, atol=1e-4
    )


def test_the_middle_form_is_three_convolutions_in_a_row():
    up, mid, down, x = random(6, 4, 1, 1), random(4, 4, 3, 3, seed=1), random(4, 5, 1, 1, seed=2), random(2, 5, 7, 7)
    chain = F.conv2d(F.conv2d(F.conv2d(x, down), mid), up)
    lora = LoRA(up, down, 2.0, mid)
    torch.testing.assert_close(F.conv2d(x, lora.delta((6, 5, 3, 3))), chain * 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_the_result_does_not_depend_on_the_stored_dtype(dtype):
    up, down = random(6, 4).to(dtype), random(4, 5, seed=1).to(dtype)
    delta = LoRA(up, down, 3.0).delta((6, 5))
    assert delta.dtype == torch.float32
    assert torch.equal(delta, LoRA(up.float(), down.float(), 3.0).delta((6, 5)))


def test_strength_zero_is_nothing_and_the_delta_is_linear_in_strength():
    lora = LoRA(random(6, 4), random(4, 5, seed=1), 3.0)
    assert lora.delta((6, 5), 0.0).abs().sum() == 0
    torch.testing.assert_close(lora.delta((6, 5), 0.3) + lora.delta((6, 5), 0.7), lora.delta((6, 5)))
    torch.testing.assert_close(lora.delta((6, 5), -2.0), -2.0 * lora.delta((6, 5)))


@pytest.mark.parametrize(
    "up, down, mid, alpha, message",
    [
        ((6, 4), (3, 5), None, 1.0, "ranks differ"),
        ((6, 4), (4, 5), (4, 3, 3, 3), 1.0, "ranks differ"),
        ((6, 4), (4, 5, 3, 3), (4, 4, 3, 3), 1.0, "mid is"),
        ((6, 4), (4, 5), (4, 4), 1.0, "mid is"),
        ((6,), (4, 5), None, 1.0, "expected"),
        ((6, 0), (0, 5), None, 1.0, "expected"),
        ((6, 4, 3, 3), (4, 5), None, 1.0, "expected"),
        ((6, 4), (4, 5), None, float("nan"), "alpha"),
        ((6, 4), (4, 5), None, float("inf"), "alpha"),
    ],
)
def test_contradicting_factors_are_refused_in_words(up, down, mid, alpha, message):
    with pytest.raises(LoRAError, match=message):
        LoRA(torch.zeros(up), torch.zeros(down), alpha, None if mid is None else torch.zeros(mid))


@pytest.mark.parametrize(
    "down, shape",
    [
        ((4, 5), (6, 4)),
        ((4, 5), (7, 5)),
        ((4, 5), (6, 5, 3, 3)),
        ((4, 5, 3, 3), (6, 9, 5, 1)),
        ((4, 5, 3, 3), (6, 45)),
        ((4, 5), (30,)),
        ((4, 5), ()),
    ],
)
def test_a_weight_of_another_shape_is_named_with_both_shapes(down, shape):
    lora = LoRA(torch.zeros(6, 4), torch.zeros(down), 1.0)
    assert str(list(shape)) in lora.misfit(shape) and "[6, 5" in lora.misfit(shape)
    with pytest.raises(LoRAError, match="shape"):
        lora.delta(shape)


def test_a_flat_down_fits_the_convolution_it_was_flattened_from():
    lora = LoRA(random(6, 4), random(4, 5, 3, 3, seed=1), 4.0)
    flat = LoRA(lora.up, lora.down.flatten(1), 4.0)
    assert torch.equal(flat.delta((6, 5, 3, 3)), lora.delta((6, 5, 3, 3)))
