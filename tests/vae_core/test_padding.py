"""Where the padding of a picture lies after its latent was flipped, turned, sampled or batched."""

import pytest
import torch

from clip_vae_lora.vae_core.padding import GRID, TURNS, Sketch, Turn, cut_where, find_turn


def latent(rows=9, columns=7, batch=1, seed=0, channels=4):
    rough = torch.randn(batch, channels, 5, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size=(rows, columns), mode="bicubic")


def noise_like(x, seed=7):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)) * x.std()


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("shape", [(9, 7), (8, 8), (3, 2), (31, 33)])
def test_each_flip_and_turn_of_a_latent_is_known_again(turn, shape):
    x = latent(*shape, batch=2)
    found = find_turn(turn.of(x), Sketch.of(x))
    assert found is not None and torch.equal(found.of(x), turn.of(x))


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_turn_undone_is_where_it_began(turn):
    x = latent()
    assert torch.equal(turn.back(turn.of(x)), x) and turn.of(x).shape[-2:] == turn.size((9, 7))


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_what_is_cut_is_the_padding_wherever_it_was_turned_to(turn):
    image = torch.arange(6.0 * 8).view(1, 6, 8, 1)
    turned = turn.of(image[..., 0])[..., None]
    assert torch.equal(cut_where(turned, (5, 6), turn)[..., 0], turn.of(image[:, :5, :6, 0]))


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_sampler_that_repaints_a_part_does_not_hide_it(turn, share):
    x = latent(16, 16)
    assert find_turn(turn.of(x * (1 - share) + share * noise_like(x)), Sketch.of(x)) == turn


def test_another_picture_a_mixture_and_a_batch_with_others_are_told_from_it():
    x, other = latent(), latent(seed=3)
    assert find_turn(other, Sketch.of(x)) is None
    assert find_turn(torch.cat((x, other)), Sketch.of(x)) is None
    near = x + 0.05 * noise_like(x)  # the same photograph, cut a little elsewhere
    assert find_turn(torch.cat((x, near)), Sketch.of(x)) is None
    assert find_turn(latent(channels=8), Sketch.of(x)) is None and find_turn(latent(9, 8), Sketch.of(x)) is None


@pytest.mark.parametrize("corner", [(0, 0), (8, 7), (17, 15)])
def test_a_latent_enlarged_and_cropped_to_the_size_it_had_is_not_what_it_was(corner):
    rough = torch.randn(1, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(rough, size=(17, 15), mode="bicubic")
    enlarged = torch.nn.functional.interpolate(x, scale_factor=2)
    top, left = corner
    assert find_turn(enlarged[..., top : top + 17, left : left + 15], Sketch.of(x)) is None


def test_copies_and_choices_of_a_batch_are_known_whatever_their_order_and_type():
    x = latent(batch=3)
    for some in (x[[2, 0]], x[:1].repeat(5, 1, 1, 1), x.half(), x.bfloat16().float()):
        assert find_turn(some, Sketch.of(x)) == TURNS[0]
    assert find_turn(torch.cat((x[:1], x[1:2].flip(-1))), Sketch.of(x)) is None  # they lie otherwise


def test_a_flat_or_symmetrical_picture_lies_as_it_was():
    flat = torch.ones(1, 4, 9, 9)
    half = latent(9, 5)
    same = torch.cat((half, half.flip(-1)[..., 1:]), -1)
    for x in (flat, same, torch.zeros(1, 4, 9, 9)):
        assert find_turn(x, Sketch.of(x)) == TURNS[0]


def test_a_video_is_known_by_the_mean_of_its_frames():
    x = torch.stack([latent(seed=seed) for seed in range(3)], 2)
    known = Sketch.of(x)
    assert known.values.shape == (1, 4, GRID, GRID)
    assert find_turn(x.flip(-2), known) == Turn(upside_down=True)
