"""Every kind against its law written out in float64, at every strength, and what ComfyUI makes of it."""

import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError, on_device
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.orthogonal import OFT, InputOFT
from clip_vae_lora.lora.kinds.whole import Difference, Replacement

STRENGTHS = [0.0, 0.4, 1.0, -1.5]


def random(*shape, seed=0, std=0.3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * std


W, CONV = random(8, 6, std=1.0), random(8, 6, 3, 3, std=1.0)


def cayley(blocks, limit=0.0):
    skew = (blocks - blocks.mT).double()
    size = skew.norm()
    if limit and size > limit:
        skew = skew * limit / size
    eye = torch.eye(skew.shape[-1], dtype=torch.float64)
    return (eye + skew) @ torch.linalg.inv(eye - skew)


def oft_law(blocks, limit, t):
    turn = torch.block_diag(*cayley(blocks, limit))
    eye = torch.eye(turn.shape[0], dtype=torch.float64)
    return eye + t * (turn - eye)


CASES = {}


def case(name):
    def put(function):
        CASES[name] = function
        return function

    return put


@case("LoHa")
def _(t):
    a, b, c, d = random(8, 2), random(2, 54, seed=1), random(8, 2, seed=2), random(2, 54, seed=3)
    law = (1.5 / 2) * (a.double() @ b.double()) * (c.double() @ d.double())
    return LoHa(a, b, c, d, 1.5), CONV, t * law.reshape(8, 6, 3, 3)


@case("LoHa, four dimensions")
def _(t):
    a, b = random(8, 2, 1, 1), random(2, 6, 3, 3, seed=1)
    law = (a.flatten(1).double() @ b.flatten(1).double()) ** 2
    return LoHa(a, b, a, b, 2.0), CONV, t * law.reshape(8, 6, 3, 3)


@case("LoHa, Tucker")
def _(t):
    a, b, core = random(2, 8), random(2, 6, seed=1), random(2, 2, 3, 3, seed=2)
    half = sum(
        core[i, j].double() * torch.outer(a[i], b[j])[:, :, None, None].double() for i in range(2) for j in range(2)
    )
    return LoHa(a, b, a, b, 1.0, core, core), CONV, t * 0.5 * half * half


@case("LoKr, whole")
def _(t):
    small, large = random(2, 3), random(4, 2, 3, 3, seed=1)
    law = torch.cat([torch.cat([small[i, j].double() * large.double() for j in range(3)], 1) for i in range(2)])
    return LoKr(99.0, w1=small, w2=large), CONV, t * law


@case("LoKr, factored")
def _(t):
    a, b, c, d = random(2, 1), random(1, 3, seed=1), random(4, 2, seed=2), random(2, 2, seed=3)
    law = torch.kron((a @ b).double(), (c @ d).double())
    return LoKr(3.0, w1_a=a, w1_b=b, w2_a=c, w2_b=d), W, t * 1.5 * law


@case("GLoRA")
def _(t):
    a1, a2, b1, b2 = random(6, 2), random(2, 6, seed=1), random(8, 2, seed=2), random(2, 6, seed=3)
    return GLoRA(a1, a2, b1, b2, 1.0), W, t * 0.5 * (W.double() @ a1.double() @ a2.double() + b1.double() @ b2.double())


@case("GLoRA, old files")
def _(t):
    a1, a2, b1, b2 = random(2, 6), random(6, 2, seed=1), random(2, 6, seed=2), random(8, 2, seed=3)
    return GLoRA(a1, a2, b1, b2, 1.0), W, t * 0.5 * (W.double() @ a2.double() @ a1.double() + b2.double() @ b1.double())


@case("OFT")
def _(t):
    blocks = random(2, 4, 4)
    return OFT(blocks), W, oft_law(blocks, 0, t).T @ W.double() - W.double()


@case("OFT, limited and rescaled")
def _(t):
    blocks, rescale = random(2, 4, 4), 1 + random(8, 1, 1, 1)
    turned = torch.einsum("nm,n...->m...", oft_law(blocks, 0.02 * 8, t), CONV.double())
    return OFT(blocks, 0.02, rescale), CONV, turned * (1 + t * (rescale.double() - 1)) - CONV.double()


@case("BOFT")
def _(t):
    blocks, weight = random(2, 4, 2, 2), W.double()
    for stage, order in enumerate(([0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 1, 3, 4, 6, 5, 7])):  # pairs 1, then 2 rows apart
        turn = torch.block_diag(*cayley(blocks)[stage])
        turn = torch.eye(8) + t * (turn - torch.eye(8))
        changed = turn @ weight[order]
        weight = changed[torch.tensor(order).argsort()]
    return OFT(blocks), W, weight - W.double()


@case("OFT of inputs")
def _(t):
    angles = random(2, 3)
    skew = torch.zeros(2, 3, 3, dtype=torch.float64)
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = angles[:, 0], angles[:, 1], angles[:, 2]
    skew = torch.block_diag(*(skew - skew.mT))
    eye = torch.eye(6, dtype=torch.float64)
    turn = eye + 2 * skew + 2 * skew @ skew + 2 * skew @ skew @ skew + skew @ skew @ skew @ skew
    return InputOFT(angles), W, W.double() @ (eye + t * (turn - eye)).T - W.double()


@case("(IA)^3 of outputs")
def _(t):
    return IA3(factors := random(1, 8, 1, 1), False), CONV, t * CONV.double() * factors.double().reshape(8, 1, 1, 1)


@case("(IA)^3 of inputs")
def _(t):
    return IA3(factors := random(6), True), W, t * W.double() * factors.double()


@case("DoRA on rows")
def _(t):
    inner, magnitude = LoRA(random(8, 2), random(2, 6, 3, 3, seed=1), 1.0), random(8, 1, 1, 1).abs() + 0.5
    moved = CONV.double() + inner.delta(CONV.shape).double()
    law = moved * magnitude.double() / moved.flatten(1).norm(dim=1).reshape(8, 1, 1, 1)
    return DoRA(inner, magnitude), CONV, t * (law - CONV.double())


@case("DoRA on columns")
def _(t):
    inner, magnitude = LoRA(random(8, 2), random(2, 6, 3, 3, seed=1), 1.0), random(1, 6, 1, 1).abs() + 0.5
    moved = CONV.double() + inner.delta(CONV.shape).double()
    norms = torch.stack([moved[:, n].norm() for n in range(6)]).reshape(1, 6, 1, 1)
    return DoRA(inner, magnitude), CONV, t * (moved * magnitude.double() / norms - CONV.double())


@case("replacement")
def _(t):
    return Replacement(value := random(8, 6)), W, t * (value.double() - W.double())


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_the_change_is_the_law(name, strength):
    adapter, weight, law = CASES[name](strength)
    before = weight.clone()
    delta = adapter.delta(weight, strength)
    assert delta.dtype == torch.float32 and delta.shape == weight.shape and torch.equal(weight, before)
    torch.testing.assert_close(delta.double(), law, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_strength_zero_changes_nothing_and_a_weight_of_another_size_is_refused(name):
    adapter, weight, _ = CASES[name](1.0)
    assert adapter.delta(weight, 0.0).abs().max() == 0 or name in ("OFT", "BOFT", "OFT, limited and rescaled")
    torch.testing.assert_close(adapter.delta(weight, 0.0), torch.zeros_like(weight), rtol=0, atol=1e-6)
    other = torch.zeros(7, 5, 2, 2)
    assert adapter.misfit(other.shape) and adapter.misfit(()) and adapter.misfit((3,))
    with pytest.raises(LoRAError, match=r"\[7, 5, 2, 2\]"):
        adapter.delta(other)


@pytest.mark.parametrize("name", CASES)
def test_kinds_that_need_the_weight_say_so_when_they_get_a_shape(name):
    adapter, weight, _ = CASES[name](1.0)
    if adapter.needs_weight:
        with pytest.raises(LoRAError, match="depends on the weight"):
            adapter.delta(weight.shape)
    else:
        assert torch.equal(adapter.delta(tuple(weight.shape)), adapter.delta(weight))


@pytest.mark.parametrize("name", [*CASES])
def test_every_kind_is_written_and_read_back_the_same(name):
    adapter, weight, _ = CASES[name](1.0)
    if name == "OFT of inputs":  # kohya's names mean OneTrainer's way; the two differ on convolutions only
        adapter = InputOFT(adapter.angles, reverse_convolutions=True)
    for dialect in ("kohya", "lycoris", "onetrainer"):
        file = read(*write({"lora_unet_x": adapter}, dialect))
        again = file.adapters["lora_unet_x"]
        assert type(again) is type(adapter) and again.kind == adapter.kind and not file.unread and not file.notes
        assert torch.equal(again.delta(weight, 0.7), adapter.delta(weight, 0.7))


def test_biases_and_norms_are_written_and_read_back_the_same():
    adapters = {
        "lora_unet_x": LoRA(random(8, 2), random(2, 6), 1.0),
        "lora_unet_x.bias": Difference(random(8)),
        "lora_unet_n": Difference(random(8), "norm difference"),
        "lora_unet_n.bias": Difference(random(8), "norm difference"),
    }
    tensors, header = write(adapters, "kohya")
    assert {"lora_unet_x.diff_b", "lora_unet_n.w_norm", "lora_unet_n.b_norm"} < tensors.keys()
    again = read(tensors, header).adapters
    assert again.keys() == adapters.keys()
    assert all(torch.equal(again[n].delta((8,)), adapters[n].delta((8,))) for n in adapters if n != "lora_unet_x")


@pytest.mark.parametrize("adapter", [IA3(random(8), False, with_bias=True), InputOFT(random(2, 3), terms=None)])
def test_what_kohya_files_cannot_say_is_refused(adapter):
    with pytest.raises(LoRAError, match="cannot say"):
        write({"a": adapter}, "kohya")


def test_onetrainers_scaled_oft_divides_the_angles_and_turns_convolutions_the_other_way():
    angles = random(9, 15)
    tensors = {"transformer.x.oft_R.weight": angles, "transformer.x.oft_R.scaled_oft": torch.tensor(True)}
    file = read(tensors)
    adapter = file.adapters["transformer.x"]
    assert adapter.divisor == 2 * math.sqrt(5)
    plain = InputOFT(angles / adapter.divisor, reverse_convolutions=True)
    torch.testing.assert_close(adapter.delta(CONV), plain.delta(CONV))
    there = CONV + plain.delta(CONV)
    back = there + InputOFT(angles / adapter.divisor).delta(there)  # R^T undoes R, up to the series' end
    torch.testing.assert_close(back, CONV, rtol=0, atol=0.05)


def test_match_comfyui_divides_rows_by_the_old_norm():
    inner, magnitude = LoRA(random(8, 2), random(2, 6), 1.0), random(8, 1).abs() + 0.5
    expected = (W + inner.delta(W)) * magnitude / W.norm(dim=1, keepdim=True) - W
    torch.testing.assert_close(DoRA(inner, magnitude).delta(W, 0.5, match_comfyui=True), 0.5 * expected)
    lost = DoRA(inner, magnitude.flatten(), always_rows=True)
    assert torch.equal(lost.delta(W, 0.5, match_comfyui=True), inner.delta(W, 0.5))


def test_match_comfyui_limits_oft_by_alpha_ignores_its_rescaling_and_takes_the_strength_twice():
    blocks, rescale = random(2, 4, 4), 1 + random(8, 1)
    ours = OFT(blocks, 0.16 / 8).delta(W, 1.0)
    torch.testing.assert_close(OFT(blocks, 0.16, rescale).delta(W, 1.0, match_comfyui=True), ours)
    torch.testing.assert_close(OFT(blocks, 0.16, rescale).delta(W, 0.5, match_comfyui=True), 0.25 * ours)
    butterfly = OFT(random(2, 4, 2, 2))
    torch.testing.assert_close(butterfly.delta(W, 0.5, match_comfyui=True), 0.5 * butterfly.delta(W, 0.5))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LoHa(random(8, 2), random(3, 6), random(8, 2), random(3, 6), 1.0), "ranks differ"),
        (lambda: LoHa(random(8, 2), random(2, 6), random(8, 3), random(3, 6), 1.0), "different shapes"),
        (lambda: LoHa(random(8, 2), random(2, 6), random(8, 2), random(2, 6), float("nan")), "alpha"),
        (lambda: LoHa(random(2, 8), random(2, 6), random(2, 8), random(2, 6), 1.0, t1=random(2, 2, 3, 3)), "one core"),
        (lambda: LoKr(1.0, w1=random(2, 3)), "w2"),
        (lambda: LoKr(1.0, w1=random(2, 3), w2_a=random(4, 2)), "w2"),
        (lambda: LoKr(1.0, w1=random(2, 3), w2=random(4, 2), t2=random(2, 2, 3, 3)), "core"),
        (lambda: LoKr(1.0, w1=random(2, 3), w2_a=random(4, 2), w2_b=random(3, 2)), "ranks"),
        (lambda: GLoRA(random(6, 2), random(3, 6), random(8, 2), random(2, 6), 1.0), "differ"),
        (lambda: OFT(random(2, 4, 3)), "expected"),
        (lambda: OFT(random(4, 4, 2, 2)), "butterfly"),
        (lambda: OFT(random(2, 4, 4), 0.0, random(7)), "8 rows"),
        (lambda: InputOFT(random(2, 4)), "angles"),
        (lambda: IA3(random(2, 2), False), "factors"),
        (lambda: DoRA(OFT(random(2, 4, 4)), random(8)), "inside"),
        (lambda: DoRA(LoRA(random(8, 2), random(2, 6), 1.0), random(8, 6)), "magnitude"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused_in_words(make, message):
    with pytest.raises(LoRAError, match=message):
        make()


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_goes_to_another_device_whole(name):
    adapter, weight, _ = CASES[name](1.0)
    assert on_device(adapter, "cpu") is adapter
    moved = on_device(adapter, "meta")
    delta = moved.delta(weight.to("meta"))
    assert delta.device.type == "meta" and delta.shape == weight.shape
