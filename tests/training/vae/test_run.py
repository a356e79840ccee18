"""A VAE's training from end to end, on a small random VAE without any host."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_vae_lora.training.loop import Checkpoint, StopAndKeep, TrainingError
from clip_vae_lora.training.vae.losses import Weights
from clip_vae_lora.training.vae.parts import BOTH, is_decoder, last_weight
from clip_vae_lora.training.vae.plan import VAEPlan
from clip_vae_lora.training.vae.run import Hooks, TrainedVAE, train_vae
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig

from ...support.vaes import learning

PLAN = VAEPlan(steps=5, seed=3, lr=2e-3, batch=2, crop_px=16, warm_up=1, average=0.5, held_out=0.3)


def _train(plan: VAEPlan = PLAN, **more) -> TrainedVAE:
    return train_vae(more.pop("trainee", learning.trainee()), more.pop("pictures", learning.pictures()), plan, **more)


def _equal(one: TrainedVAE, other: TrainedVAE) -> bool:
    first, second = one.stored.state, other.stored.state
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_decoder_learns_and_the_encoder_and_the_vae_that_was_given_stay_bit_for_bit():
    weights = learning.state()
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    made = _train(replace(PLAN, steps=30, lr=3e-3, average=0.0), trainee=learning.trainee(weights))
    before, after = made.before.qualities, made.after.qualities
    assert all(after[name].psnr_db > before[name].psnr_db + 0.5 for name in before)
    assert sum(made.losses[-5:]) < sum(made.losses[:5])
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    for name, tensor in made.stored.state.items():
        assert torch.equal(tensor, kept[name]) != is_decoder(name), name
        assert tensor.dtype == torch.float16
    assert made.stored.same_encoder and made.before.latents == made.after.latents and made.moved == 0
    assert "post_quant_conv.weight" in made.stored.state and is_decoder("post_quant_conv.weight")
    assert made.trained == sum(t.numel() for name, t in kept.items() if is_decoder(name))


def test_the_errors_of_each_step_are_told_and_add_up_to_its_loss():
    plan = replace(PLAN, accumulate=2, weights=Weights(1.0, 0.5, 0.25, 2.0, 0.1))
    seen = []
    made = _train(plan, hooks=Hooks(lambda done, total, loss, errors: seen.append((done, total, loss, errors))))
    assert [done for done, *_ in seen] == [1, 2, 3, 4, 5] and made.errors == [errors for *_, errors in seen]
    for _, total, loss, errors in seen:
        assert total == 5 and set(errors) == {"absolute", "squared", "scales", "edges", "spectrum"}
        by_hand = sum(getattr(plan.weights, name) * value for name, value in errors.items())
        assert loss == pytest.approx(by_hand, rel=1e-5)  # float32 sums


@pytest.mark.parametrize("rank", [0, 4])
def test_a_seed_decides_every_bit_and_another_one_others(rank):
    plan = replace(PLAN, rank=rank, sample=True, shrink=2.0)
    first, again, other = _train(plan), _train(plan), _train(replace(plan, seed=4))
    assert first.losses == again.losses and _equal(first, again) and not _equal(first, other)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_training_that_was_broken_off_goes_on_to_the_same_bits(tmp_path: Path, rank):
    plan, state = replace(PLAN, rank=rank), Checkpoint(tmp_path / "state", 100)
    whole = _train(plan)
    broken = []

    def stop(done, *_):
        if done == 2:
            raise KeyboardInterrupt

    hooks = Hooks(stop, every=2, on_broken=lambda stored, losses: broken.append((stored, losses)))
    with pytest.raises(KeyboardInterrupt):
        _train(plan, hooks=hooks, checkpoint=state)
    ((stored, losses),) = broken
    assert losses == whole.losses[:2] and stored.same_encoder and state.path.is_file()
    resumed = _train(plan, checkpoint=replace(state, resume=True))
    assert resumed.losses == whole.losses and _equal(resumed, whole)
    for change, what in ((replace(plan, lr=1e-3), "lr"), (replace(plan, crop_px=18), "crop_px")):
        with pytest.raises(TrainingError, match=f"the state of another training than this one .*{what}"):
            _train(change, checkpoint=replace(state, resume=True))
    with pytest.raises(TrainingError, match="another training"):
        _train(plan, pictures=learning.pictures(5), checkpoint=replace(state, resume=True))
    with pytest.raises(TrainingError, match="another training"):
        _train(plan, trainee=learning.trainee(learning.state(1)), checkpoint=replace(state, resume=True))


def test_looking_on_changes_no_bit():
    seen = []
    watched = _train(hooks=Hooks(on_validation=seen.append, every=1))
    assert _equal(watched, _train(hooks=Hooks(every=0)))
    assert [one.step for one in seen] == [0, 1, 2, 3, 4, 5]
    look = seen[0].look
    assert look.part.shape == look.result.shape and look.part.shape[1:3] == (40, 40)
    assert torch.equal(seen[5].look.part, look.part) and not torch.equal(seen[5].look.result, look.result)


def test_stop_and_keep_ends_early_with_what_was_learned():
    def stop(done, *_):
        if done == 3:
            raise StopAndKeep

    made = _train(hooks=Hooks(stop))
    assert made.is_early and len(made.losses) == 3 and made.stored.same_encoder


def test_a_loss_that_is_no_number_stops_with_its_step():
    weights = learning.state(dtype=torch.float32)
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d of 40: lower the learning rate"):
        _train(replace(PLAN, steps=40, lr=1e18, warm_up=0, average=0.0), trainee=learning.trainee(weights))


def test_a_vae_whose_latents_are_no_numbers_is_refused_before_anything_is_learned():
    weights = learning.state()
    weights["encoder.conv_in.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match="holds numbers that are none, so this VAE is broken"):
        _train(trainee=learning.trainee(weights))


def test_an_adapter_learns_beside_every_convolution_of_the_decoder_and_is_added_to_it():
    weights = learning.state(dtype=torch.float32)
    made = _train(replace(PLAN, rank=2, steps=20, lr=5e-3, average=0.0), trainee=learning.trainee(weights))
    assert sum(made.losses[-5:]) < sum(made.losses[:5]) and made.stored.same_encoder
    changed = {name for name, tensor in made.stored.state.items() if not torch.equal(tensor, weights[name])}
    convolutions = {n for n, t in weights.items() if is_decoder(n) and n.endswith("weight") and t.ndim == 4}
    assert changed == convolutions and made.stored.state.keys() == weights.keys()
    change = (made.stored.state["decoder.conv_in.weight"] - weights["decoder.conv_in.weight"]).flatten(1)
    assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) == 2
    count = sum(2 * (t.shape[0] + t[0].numel()) for n, t in weights.items() if n in convolutions)
    assert made.trained == count


def test_what_is_told_of_the_result_is_what_its_stored_weights_give():
    made = _train(replace(PLAN, rank=4), trainee=learning.trainee(learning.state(dtype=torch.float32)))
    network = learning.trainee(made.stored.state).network()
    pictures = {one.name: one for one in learning.pictures()}
    name = next(iter(made.after.qualities))
    with torch.no_grad():
        pixels = pictures[name].whole(3).movedim(-1, 1) * 2 - 1
        result = (network.decode(network.encode(pixels)) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    error = float((result - pictures[name].whole(3)).square().mean())
    # 1e-3 dB: by tiles and at once, sums run in another order
    assert made.after.qualities[name].psnr_db == pytest.approx(-10 * torch.tensor(error).log10().item(), abs=1e-3)


def test_an_encoder_that_learns_is_told_from_one_that_rests():
    made = _train(replace(PLAN, part=BOTH, encoder_rate=1.0, hold=0.1, steps=10))
    assert not made.stored.same_encoder and made.before.latents != made.after.latents and made.moved > 0
    assert all("moved" in errors for errors in made.errors) and made.errors[0]["moved"] < 1e-9
    held = _train(replace(PLAN, part=BOTH, encoder_rate=1.0, hold=1000.0, steps=10))
    assert 0 < held.moved < made.moved
    slow = _train(replace(PLAN, part=BOTH, encoder_rate=0.01, hold=0.1, steps=10))
    assert 0 < slow.moved < made.moved


def test_a_tiny_autoencoder_learns_too():
    config = TinyConfig(4, scale=0.5, shift=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {
            name: tensor.detach().half().float() for name, tensor in TinyAutoencoder(config).state_dict().items()
        }
    made = _train(replace(PLAN, sample=True), trainee=learning.trainee(weights, TinyAutoencoder, config))
    assert made.stored.same_encoder and made.before.latents == made.after.latents and made.losses[-1] < made.losses[0]
    changed = {name for name, tensor in made.stored.state.items() if not torch.equal(tensor.float(), weights[name])}
    assert changed and all(name.startswith("taesd_decoder.") for name in changed)
    assert made.stored.state["vae_scale"] == 0.5 and float(made.stored.state["vae_shift"]) == float(
        weights["vae_shift"]
    )


def test_the_last_layer_is_the_one_that_makes_the_pixels():
    network = learning.trainee().network()
    assert last_weight(network) is network.decoder.conv_out.weight


@pytest.mark.parametrize(
    ("half", "words"),
    [
        ("encoder", "this VAE has no encoder, which makes the latents"),
        ("decoder", "this VAE has no decoder, which is what learns"),
    ],
)
def test_half_a_vae_is_refused(half, words):
    from clip_vae_lora.training.vae.trainee import VAETrainee
    from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

    whole = learning.trainee()
    left_out = {half: False}
    part = VAETrainee(lambda **_: AutoencoderKL(learning.CONFIG, **left_out), {}, whole.room)
    with pytest.raises(TrainingError, match=words):
        _train(trainee=part)


def test_bad_plans_and_data_are_one_sentence():
    with pytest.raises(TrainingError, match="at least one picture was expected"):
        _train(pictures=[])
    with pytest.raises(TrainingError, match="a cell of this VAE spans 2 px: set it to a multiple, as 16"):
        _train(replace(PLAN, crop_px=17))
    with pytest.raises(TrainingError, match="the perceptual loss needs a CLIP"):
        _train(replace(PLAN, weights=Weights(perceptual=1.0)))


def test_one_picture_is_enough_and_judges_itself():
    made = _train(pictures=learning.pictures(1))
    assert made.held_out == () and list(made.after.qualities) == ["p0.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "expected 1 or more"),
        ({"rank": -1}, "expected 1 or more"),
        ({"crop_px": 8}, "expected 16 px or more"),
        ({"shrink": 0.5}, "and 1 to 16"),
        ({"lr": 0.0}, "expected the first two above 0"),
        ({"lr": float("nan")}, "expected the first two above 0"),
        ({"hold": -1.0}, "expected the first two above 0"),
        ({"held_out": 1.0}, "less than 1"),
        ({"part": "encoder"}, "part is 'encoder': expected one of decoder, decoder and encoder"),
        ({"optimiser": "SGD"}, "optimiser is 'SGD'"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(PLAN, **change)


def test_an_adapter_added_to_the_weights_gives_what_it_gave_beside_them():
    from clip_vae_lora.lora.weights.inject import CHILD
    from clip_vae_lora.training.vae.course import make_pupil

    network = learning.trainee().network()
    pupil = make_pupil(network, replace(PLAN, rank=3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in pupil.parameters.items():
            assert f".{CHILD}." in name
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        latent = torch.randn(1, 4, 8, 8, generator=generator)
        beside = network.decode(latent)
        added = learning.trainee(pupil.state()).network().decode(latent)
        before = learning.trainee().network().decode(latent)
    # 1e-4 of values near 1: the sums of a convolution and of its factors are rounded apart
    assert torch.allclose(beside, added, atol=1e-4) and (beside - before).abs().max() > 0.1
