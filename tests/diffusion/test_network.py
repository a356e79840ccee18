"""The small diffusion model: sizes, what each input does, and what it refuses."""

import pytest
import torch

from clip_vae_lora.diffusion.checkpoint import config_of, prefix_of
from clip_vae_lora.diffusion.config import DiffusionConfig, DiffusionError, LatentScale
from clip_vae_lora.diffusion.network import Denoiser, initialise_, positions, waves

TINY = DiffusionConfig(latent=4, text=8, widths=(8, 32), blocks=(1, 2), attention=1, time=16)


def _model(seed: int = 0) -> Denoiser:
    model = initialise_(Denoiser(TINY), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():  # as after some training: no branch is zero
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def _inputs(batch: int = 2, side: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(batch, 4, side, side, generator=generator),
        torch.rand(batch, generator=generator),
        torch.randn(batch, 5, 8, generator=generator),
    )


def test_a_fresh_model_answers_zero_and_the_same_seed_gives_the_same_weights():
    before = torch.random.get_rng_state()
    first, second = initialise_(Denoiser(TINY), 5), initialise_(Denoiser(TINY), 5)
    assert torch.equal(first(*_inputs()), torch.zeros(2, 4, 8, 8))
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters()))
    torch.random.set_rng_state(before)


def test_starting_weights_leaves_the_callers_random_state_alone():
    before = torch.random.get_rng_state()
    initialise_(Denoiser(TINY), 5)
    after = torch.random.get_rng_state()
    model = Denoiser(TINY)  # torch's own start draws; setting the weights must not
    torch.random.set_rng_state(before)
    initialise_(model, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(after, before)


def test_a_batch_is_as_its_rows_alone():
    model, (noisy, level, text) = _model(), _inputs(3)
    whole = model(noisy, level, text)
    for row in range(3):
        alone = model(noisy[row : row + 1], level[row : row + 1], text[row : row + 1])
        torch.testing.assert_close(whole[row : row + 1], alone, atol=1e-5, rtol=1e-5)  # float32, another order of sums


@pytest.mark.parametrize("changed", ["noisy", "level", "text"])
def test_every_input_matters(changed: str):
    inputs = dict(zip(("noisy", "level", "text"), _inputs()))
    model = _model()
    before = model(**inputs)
    inputs[changed] = inputs[changed] * 0.5 + 0.1
    assert (model(**inputs) - before).abs().max() > 1e-3


def test_any_size_in_whole_steps_and_any_length_of_text():
    model = _model()
    assert model(torch.randn(1, 4, 6, 10), torch.tensor([0.5]), torch.randn(1, 154, 8)).shape == (1, 4, 6, 10)


@pytest.mark.parametrize(
    ("shape", "text", "words"),
    [
        ((1, 4, 7, 8), (1, 5, 8), "multiples of 2"),
        ((1, 16, 8, 8), (1, 5, 8), "4 channels"),
        ((1, 4, 8, 8), (1, 5, 768), "width 8"),
    ],
)
def test_what_does_not_fit_is_said_in_words(shape, text, words):
    with pytest.raises(DiffusionError, match=words):
        _model()(torch.zeros(shape), torch.zeros(1), torch.zeros(text))


@pytest.mark.parametrize(
    "sizes", [{"widths": (9, 16)}, {"blocks": (1,)}, {"widths": (8, 40)}, {"time": 12}, {"latent": 0}, {"widths": ()}]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(DiffusionError):
        DiffusionConfig(**{**vars(TINY), **sizes})


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        DiffusionConfig(),
        DiffusionConfig(latent=16, text=24, widths=(32,), blocks=(3,), attention=0, time=8),
        DiffusionConfig(widths=(8, 16), blocks=(1, 1), attention=2),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_the_sizes_are_told_by_the_tensors(config: DiffusionConfig, prefix: str):
    shapes = {prefix + name: tensor.shape for name, tensor in Denoiser(config, device="meta").state_dict().items()}
    found = prefix_of(shapes)
    assert found == prefix
    assert config_of({name.removeprefix(found): shape for name, shape in shapes.items()}) == config


def test_other_files_and_broken_ones_are_refused_in_words():
    with pytest.raises(DiffusionError, match="ComfyUI's own loaders"):
        prefix_of({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)})
    shapes = {name: tensor.shape for name, tensor in Denoiser(TINY, device="meta").state_dict().items()}
    with pytest.raises(DiffusionError, match="conv_in.weight"):
        config_of({name: shape for name, shape in shapes.items() if name != "conv_in.weight"})


def test_positions_and_waves_tell_places_and_levels_apart():
    grid = positions(torch.zeros(2, 4, 3, 5))
    assert grid.shape == (2, 2, 3, 5)
    assert grid[0, 0, 0].tolist() == pytest.approx([-0.8, -0.4, 0, 0.4, 0.8])
    assert grid[0, 1, :, 0].tolist() == pytest.approx([-2 / 3, 0, 2 / 3])
    told = waves(torch.tensor([0.0, 0.001, 0.5, 1.0]), 32)
    assert torch.cdist(told, told).fill_diagonal_(1).min() > 0.05


def test_a_latent_scale_gives_deviation_one_and_goes_back():
    raw = (
        torch.randn(50, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        * torch.tensor([2.0, 0.5, 1.0, 1e-3])[:, None, None]
        + 0.3
    )
    scale = LatentScale.of(raw)
    model_space = scale.to_model(raw)
    deviation = model_space.std(dim=(0, 2, 3))
    assert deviation[:3].tolist() == pytest.approx([1, 1, 1], rel=1e-5)
    assert deviation[3] < 0.01  # a dead channel is not blown up
    torch.testing.assert_close(scale.to_raw(model_space), raw, atol=1e-5, rtol=1e-5)  # float32
    with pytest.raises(DiffusionError, match="16 channels"):
        scale.to_model(torch.zeros(1, 16, 2, 2))
