"""The randomised SVD of dense changes, against torch's own in fp64."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.workshop.spectrum import _sketch, leading_spectrum, spectrum_for
from clip_vae_lora.lora.workshop.thin import dense_thin, thin_of


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_values(values, out, inside, seed=0):
    """A matrix with these singular values, in fp64."""
    left = torch.linalg.qr(random(out, len(values), seed=seed).double()).Q
    right = torch.linalg.qr(random(inside, len(values), seed=seed + 1).double()).Q
    return left * torch.as_tensor(values).double() @ right.mT


SPECTRA = {
    "low rank in noise": lambda out, inside: (
        random(out, 40) @ random(40, inside, seed=1) * 0.3 + random(out, inside, seed=2)
    ),
    "flat": lambda out, inside: random(out, inside),
    "steep": lambda out, inside: with_values(torch.logspace(0, -8, min(out, inside)), out, inside).float(),
    "a step": lambda out, inside: with_values([1.0] * 40 + [1e-3] * 100, out, inside).float(),
}


HARD = {  # where nothing stands out, in the proportions of a layer of 1280 cut to 64
    "flat": lambda: random(640, 640),
    "flat and wide": lambda: random(640, 1920),
    "slow decay": lambda: with_values(torch.arange(1, 641).double() ** -0.25, 640, 640).float(),
    "half as large every 140": lambda: with_values(torch.exp(-torch.arange(640) / 200), 640, 640).float(),
    "half as large every 35": lambda: with_values(torch.exp(-torch.arange(640) / 50), 640, 640).float(),
    "one over the number": lambda: with_values(1 / torch.arange(1, 641).double(), 640, 640).float(),
    "twice as many directions as are kept": lambda: (
        random(640, 640) * 0.01 + random(640, 64, seed=1) @ random(64, 640, seed=2) * 0.001
    ),
    "one and a half times as many": lambda: (
        random(640, 640) * 0.01 + random(640, 48, seed=1) @ random(48, 640, seed=2) * 0.002
    ),
    "just above noise": lambda: random(640, 640) * 0.01 + random(640, 32, seed=1) @ random(32, 640, seed=2) * 0.001,
}


@pytest.mark.parametrize("spectrum", HARD)
def test_a_hard_spectrum_is_cut_within_one_percent_of_the_optimum_too(spectrum):
    matrix = HARD[spectrum]()
    best = torch.linalg.svdvals(matrix.double())[32:].norm().item()
    found = leading_spectrum(matrix, 32)
    cut = found.cut(32)
    error = (matrix.double() - cut.up.double() @ cut.down.double()).norm().item()
    assert best * (1 - 1e-5) <= error <= 1.01 * best
    assert found.left_over(32) == pytest.approx(error**2, rel=1e-3)


@pytest.mark.parametrize("shape", [(300, 300), (200, 900), (900, 200), (256, 32, 3, 3)], ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_cut_is_within_one_percent_of_the_optimum(spectrum, shape):
    matrix = SPECTRA[spectrum](shape[0], torch.Size(shape[1:]).numel())
    values = torch.linalg.svdvals(matrix.double())
    found = leading_spectrum(matrix.reshape(shape), 24)
    best = values[24:].norm().item()
    cut = found.cut(24)
    assert cut.shape == shape and cut.rank == 24
    error = (matrix.double() - cut.up.double() @ cut.down.double()).norm().item()
    assert error <= 1.01 * best
    # the exact energy tells the same error, but for the rounding of |D|^2 in fp32, some 1e-7 of it
    assert found.left_over(24) == pytest.approx(error**2, rel=1e-3, abs=1e-6 * found.energy)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_no_singular_value_is_too_large_and_those_that_stand_out_are_right(spectrum):
    matrix = SPECTRA[spectrum](300, 400)
    values, found = torch.linalg.svdvals(matrix.double()), leading_spectrum(matrix, 40)
    assert (found.s <= values[:40] * (1 + 1e-5)).all()  # fp32 products of 400 numbers
    if spectrum != "flat":
        torch.testing.assert_close(found.s[:8], values[:8], rtol=1e-4, atol=0)


def test_it_stops_when_enough_is_known_and_goes_on_until_then():
    matrix = random(600, 90) @ random(90, 700, seed=1) + random(600, 700, seed=2) * 0.01
    asked = []

    def until(most):
        def enough(values, energy):
            asked.append(len(values))
            return values[-1].item() < 1.0 or len(values) >= most

        return enough

    found = leading_spectrum(matrix, 500, until(500))
    assert len(found.s) > 90 and int((found.s > 1.0).sum()) == 90
    assert asked == sorted(asked) and len(asked) > 1
    few = leading_spectrum(matrix, 500, until(1))
    assert len(few.s) < 90
    assert len(leading_spectrum(matrix, 20, until(500)).s) == 20


def test_the_first_rows_are_sums_of_rows_with_signs_however_the_change_lies_in_memory():
    change = random(300, 400)
    sums = _sketch(change, 16)
    torch.testing.assert_close(_sketch(change.mT.contiguous().mT, 16), sums, rtol=0, atol=1e-4)  # fp32, 40 rows a sum
    signs = torch.linalg.lstsq(change.double().mT, sums.double().mT).solution.round()
    assert set(signs.unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0} and (signs != 0).any(1).float().mean() > 0.9
    torch.testing.assert_close(signs.mT @ change.double(), sums.double(), rtol=0, atol=1e-4)


def test_directions_along_single_rows_are_found_too():
    """A change of few rows: no sum of the first rows mixes them unless it takes several."""
    change = torch.zeros(640, 640)
    change[::7, ::7] = torch.diag(torch.linspace(2.0, 1.0, 92))
    found = leading_spectrum(change, 32)
    best = change.diagonal().sort().values[:-32].norm().item()
    assert (change - found.cut(32).matrix()).norm().item() <= 1.01 * best


def test_two_runs_are_equal_to_the_bit():
    matrix = random(300, 400)
    one, two = leading_spectrum(matrix, 20), leading_spectrum(matrix, 20)
    assert torch.equal(one.u, two.u) and torch.equal(one.s, two.s) and torch.equal(one.vt, two.vt)


def test_a_change_of_nothing_and_one_of_a_single_direction_are_decomposed():
    nothing = leading_spectrum(torch.zeros(300, 400), 8)
    assert nothing.energy == 0 and not nothing.s.any() and nothing.lost(3) == 0
    one = torch.outer(random(300), random(400, seed=1))
    found = leading_spectrum(one, 8)
    assert found.s[0].item() == pytest.approx(one.double().norm().item(), rel=1e-5)
    torch.testing.assert_close(found.cut(1).matrix(), one, rtol=1e-4, atol=1e-4)  # fp32
    assert found.s[1:].max().item() < 1e-5 * found.s[0].item() and found.cut(8).matrix().isfinite().all()


def test_the_factors_of_a_cut_are_of_one_size():
    cut = leading_spectrum(random(300, 400) * 1e-6, 8).cut(8)
    torch.testing.assert_close(cut.up.norm(dim=0), cut.down.norm(dim=1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(bad):
    matrix = random(300, 400)
    matrix[7, 9] = bad
    with pytest.raises(LoRAError, match="NaN or infinity"):
        leading_spectrum(matrix, 8)
    with pytest.raises(LoRAError, match="the rank is 0: expected 1 or more"):
        leading_spectrum(torch.ones(3, 4), 0)


def test_thin_changes_keep_all_their_values_and_dense_ones_the_leading():
    thin = thin_of(LoRA(random(40, 3), random(3, 50, seed=1), 3.0))
    expected = torch.linalg.svdvals(thin.matrix().double())[:3]
    torch.testing.assert_close(spectrum_for(thin, 1).s, expected, rtol=1e-6, atol=0)
    found = spectrum_for(dense_thin(random(300, 400), (300, 400)), 6)
    assert len(found.s) == 6 and found.total is not None


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 900), (900, 4), (12, 50, 3, 3)])
@pytest.mark.parametrize("enough", [None, lambda found, energy: False])
def test_small_sides_are_decomposed_whole(shape, enough):
    """A side may be less than a block of random rows: the first convolution of an autoencoder has three inputs."""
    change = random(*shape)
    flat = change.flatten(1)
    found = leading_spectrum(change, 8, enough)
    expected = torch.linalg.svdvals(flat.double())[: min(8, *flat.shape)]
    torch.testing.assert_close(found.s.double(), expected, rtol=1e-5, atol=0)  # float32
