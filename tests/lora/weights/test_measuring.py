"""How large weights and changes are, told from some rows, against all of them."""

import math

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.weights.measuring import (
    Size,
    Stored,
    _rows,
    _stack,
    change_size,
    change_sizes,
    exact_norms,
    sample_sizes,
)

FAR = 5  # standard errors: an honest estimate is further off about once in a million times


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(512, 256), (640, 40, 3, 3), (20000,)])
def test_a_sample_of_rows_tells_the_size_within_the_error_it_states(shape, dtype):
    weight = (random(*shape) * (1 + torch.arange(shape[0]) / shape[0]).reshape(-1, *[1] * (len(shape) - 1))).to(dtype)
    ((squares, variance),) = sample_sizes([Stored(weight)])
    true = float(weight.double().square().sum())
    assert 0 < variance and abs(squares - true) <= FAR * math.sqrt(variance)


def test_many_samples_together_are_near_and_their_error_is_neither_promised_too_small_nor_uselessly_large():
    weights = [random(384, 320, seed=n) * (1 + random(384, 1, seed=n + 999).abs()) for n in range(150)]
    sizes = sample_sizes([Stored(weight) for weight in weights])
    true = sum(float(weight.double().square().sum()) for weight in weights)
    error = math.sqrt(sum(size.variance for size in sizes))
    assert abs(sum(size.squares for size in sizes) - true) <= FAR * error and error < 0.1 * true
    apart = [
        (size.squares - float(w.double().square().sum())) / math.sqrt(size.variance) for size, w in zip(sizes, weights)
    ]
    assert 0.3 < sum(abs(one) for one in apart) / len(apart) < 3  # of a normal distribution 0.8; few rows have tails


def test_few_numbers_of_a_large_weight_are_read_and_a_small_one_is_read_whole():
    weight = torch.empty(6400, 1024)
    assert _rows(weight).shape == (4, 1024) and _rows(weight).untyped_storage().data_ptr() == weight.data_ptr()
    (small,) = sample_sizes([Stored(random(100, 100))])
    assert small.variance == 0 and small.squares == pytest.approx(float(random(100, 100).double().square().sum()))


def test_a_scale_is_part_of_the_size():
    weight = random(100, 100)
    plain, scaled = sample_sizes([Stored(weight), Stored(weight, torch.tensor([-0.5]))])
    assert scaled.squares == pytest.approx(plain.squares / 4)


@pytest.mark.parametrize("shape", [(700, 300), (300, 700), (90, 400)])
def test_the_size_of_a_change_is_told_by_its_thin_factors(shape):
    lora = LoRA(random(shape[0], 8).half(), random(8, shape[1], seed=1).half(), 3.0)
    true = float(lora.delta(shape).double().square().sum())
    squares, variance = change_size(lora)
    assert abs(squares - true) <= FAR * math.sqrt(variance) and 0 < variance < (0.2 * true) ** 2


def test_many_sizes_together_are_those_of_each_alone_in_their_order():
    loras = [
        LoRA(random(out, 4, seed=n), random(4, into, seed=n + 50).to(dtype), 1.0 + n)
        for n, (out, into) in enumerate([(300, 200), (200, 300)] * 20)
        for dtype in (torch.float32, torch.float16, torch.float8_e4m3fn)
    ]
    adapters = [*loras, Replacement(torch.ones(3)), Difference(torch.ones(2))]
    together, alone = change_sizes(adapters), [change_size(adapter) for adapter in adapters]
    assert together[-2] is None and together[-1].squares == pytest.approx(2)
    for one, other in zip(together[:-2], alone[:-2]):
        assert one == (pytest.approx(other.squares, rel=1e-5), pytest.approx(other.variance, rel=1e-4))  # sums in fp32


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_byte_of_fp8_is_the_number_that_torch_makes_of_it(dtype):
    every = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(dtype).reshape(64, 4)
    torch.testing.assert_close(_stack([every, every])[1], every.float(), rtol=0, atol=0, equal_nan=True)


def test_other_kinds_are_exact_where_they_are_known():
    assert change_size(Difference(torch.ones(3, 4))) == Size(pytest.approx(12.0))
    assert change_size(Replacement(torch.ones(3))) is None


def test_whole_weights_are_measured_one_by_one_and_may_be_stopped():
    steps = []
    weights = [random(5, 4), random(9).half()]
    found = exact_norms(iter(weights), 2, lambda done, total: steps.append((done, total)))
    assert found == pytest.approx([float(weight.double().norm()) for weight in weights], rel=1e-5)
    assert steps == [(1, 2), (2, 2)]

    def stop(done, total):
        raise KeyboardInterrupt

    read = []
    with pytest.raises(KeyboardInterrupt):
        exact_norms((read.append(w) or w for w in weights), 2, stop)
    assert len(read) == 1
