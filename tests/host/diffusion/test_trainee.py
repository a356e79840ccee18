"""ComfyUI's models under training: the loss in the network's own terms, for every prediction type, and its gradient."""

import pytest
import torch

from clip_vae_lora.training.lora.levels import bands, draw_levels
from clip_vae_lora.training.lora.objective import Examples, Weighting, losses_of
from clip_vae_lora.training.lora.trainee import signal_to_noise

from ...support import models
from ...support.diffusion import small_diffusion

TYPES = ("EPS", "V_PREDICTION", "FLOW", "V_PREDICTION_EDM", "EDM", "X0_like")


def _patcher(kind: str):
    """A small SD1.5 network in a model of this prediction type."""
    import comfy.model_base
    import comfy.model_sampling

    patcher = models.sd15_model(context_dim=16)
    if kind == "X0_like":

        class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0):
            pass

        sampling = Sampling(patcher.model.model_config)
    else:
        sampling = comfy.model_base.model_sampling(
            patcher.model.model_config, getattr(comfy.model_base.ModelType, kind)
        )
    patcher.add_object_patch("model_sampling", sampling)
    patcher.model.model_sampling = sampling
    return patcher, sampling


def _examples(trainee, count: int = 3, side: int = 8) -> tuple[Examples, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(count, 4, side, side, generator=generator)
    prompts = [
        trainee.prepare([[torch.randn(1, 77, 16, generator=generator), {"pooled_output": torch.zeros(1, 16)}]], one)
        for one in latent.split(1)
    ]
    return Examples(latent, prompts), torch.randn(latent.shape, generator=generator)


def _target(kind: str, sampling, level, noise, latent):
    """What the network should put out, by the textbook of each type."""
    level = level.view(-1, 1, 1, 1)
    data = getattr(sampling, "sigma_data", 1.0)
    if kind == "EPS":
        return noise
    if kind == "FLOW":
        return noise - latent
    if kind == "X0_like":
        return latent
    noisy = latent + level * noise
    skip = data**2 / (level**2 + data**2)
    if kind == "EDM":
        return (latent - skip * noisy) / (level * data / (level**2 + data**2).sqrt())
    return (latent - skip * noisy) / (-level * data / (level**2 + data**2).sqrt())


@pytest.mark.parametrize("kind", TYPES)
def test_the_loss_is_the_networks_own_and_so_is_its_gradient(comfyui, kind):
    patcher, sampling = _patcher(kind)
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        examples, noise = _examples(trainee)
        level = draw_levels(trainee.levels, 3, torch.Generator().manual_seed(2))
        outputs = []
        hook = trainee.network.register_forward_hook(lambda module, given, output: outputs.append(output))
        weight = trainee.network.input_blocks[1][0].in_layers[2].weight.requires_grad_(True)
        loss = losses_of(trainee, examples, level, noise)
        (ours,) = torch.autograd.grad(loss.sum(), weight, retain_graph=True)
        hook.remove()
        error = outputs[0].float() - _target(kind, sampling, level, noise, examples.latent)
        expected = error.square().flatten(1).mean(1)
        (theirs,) = torch.autograd.grad(expected.sum(), weight)
        weight.requires_grad_(False)
    # float32, and divided by small numbers where the noise is small
    torch.testing.assert_close(loss, expected, atol=0, rtol=2e-5)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_a_batch_is_the_mean_of_its_members_and_captions_do_not_mix(comfyui):
    patcher, _ = _patcher("EPS")
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        examples, noise = _examples(trainee)
        level = draw_levels(trainee.levels, 3, torch.Generator().manual_seed(2))
        together = losses_of(trainee, examples, level, noise)
        alone = torch.cat(
            [
                losses_of(
                    trainee,
                    Examples(examples.latent[n : n + 1], [examples.prompts[n]]),
                    level[n : n + 1],
                    noise[n : n + 1],
                )
                for n in range(3)
            ]
        )
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)  # float32, sums in another order


def test_latents_have_the_deviation_that_the_model_was_trained_with(comfyui):
    patcher, _ = _patcher("EPS")
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        raw = torch.randn(1, 4, 8, 8)
        torch.testing.assert_close(trainee.to_model(raw), raw * 0.18215)
        zeros = torch.zeros(1, 4, 8, 8)
        assert torch.equal(trainee.to_model(zeros), zeros)


def test_discrete_levels_are_those_of_the_table_and_told_exactly(comfyui):
    patcher, sampling = _patcher("EPS")
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        drawn = draw_levels(trainee.levels, 500, torch.Generator().manual_seed(0))
        steps = sampling.timestep(drawn)
        assert torch.equal(sampling.sigmas[steps.long()], drawn)
        assert 400 < steps.float().mean() < 600
        assert sampling.timestep(bands(trainee.levels)).tolist() == [125, 375, 625, 875]
        snr = signal_to_noise(trainee, drawn)
    torch.testing.assert_close(snr, 1 / drawn**2, rtol=1e-5, atol=0)


def test_flow_levels_have_the_models_shift_once(comfyui):
    model = comfyui.ours.nodes.host.host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")
    with comfyui.ours.nodes.host.host.trainee(model) as trainee:
        shares = torch.tensor([0.25, 0.5, 0.75])
        torch.testing.assert_close(trainee.levels.of(shares), 2 * shares / (1 + shares))
        assert not trainee.levels.whole
        snr = signal_to_noise(trainee, shares)
    torch.testing.assert_close(snr, ((1 - shares) / shares) ** 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["EPS", "V_PREDICTION", "X0_like"])
def test_min_snr_is_the_papers_for_every_prediction(comfyui, kind):
    patcher, _ = _patcher(kind)
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        examples, noise = _examples(trainee)
        level = draw_levels(trainee.levels, 3, torch.Generator().manual_seed(2))
        plain = losses_of(trainee, examples, level, noise)
        weighted = losses_of(trainee, examples, level, noise, Weighting(min_snr=5.0))
    snr = 1 / level**2
    paper = {"EPS": snr.clamp(max=5) / snr, "V_PREDICTION": snr.clamp(max=5) / (snr + 1), "X0_like": snr.clamp(max=5)}
    torch.testing.assert_close(weighted / plain, paper[kind], rtol=1e-4, atol=0)


def test_weights_made_under_inference_mode_are_trained_through(comfyui):
    with torch.inference_mode():
        model = comfyui.ours.nodes.host.host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")
    with torch.inference_mode(), comfyui.ours.nodes.host.host.trainee(model) as trainee:
        text = torch.randn(1, 77, 64)
        prompt = trainee.prepare([[text, {}]], torch.zeros(1, 4, 8, 8))
        with torch.enable_grad():
            weight = trainee.network.conv_in.weight.requires_grad_(True)
            loss = losses_of(
                trainee, Examples(torch.randn(1, 4, 8, 8), [prompt]), torch.tensor([0.5]), torch.randn(1, 4, 8, 8)
            )
            loss.sum().backward()
        assert weight.grad.abs().max() > 0
    for name, tensor in small_diffusion.state().items():
        assert torch.equal(model.model.diffusion_model.state_dict()[name], tensor)


def test_a_model_with_built_in_guidance_is_trained_at_one_and_one_of_few_steps_is_named(comfyui, monkeypatch):
    patcher, _ = _patcher("EPS")
    monkeypatch.setitem(patcher.model.model_config.unet_config, "guidance_embed", True)
    seen, extra = [], patcher.model.extra_conds
    monkeypatch.setattr(patcher.model, "extra_conds", lambda **told: seen.append(told.get("guidance")) or extra(**told))
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        _examples(trainee, 1)
        prompt = [[torch.zeros(1, 77, 16), {"guidance": 2.0}]]
        trainee.prepare(prompt, torch.zeros(1, 4, 8, 8))
        assert seen == [1.0, 2.0] and prompt[0][1] == {"guidance": 2.0}
        assert len(trainee.notes) == 1 and "trained at 1.0" in trainee.notes[0]
    plain, _ = _patcher("FLOW")
    with comfyui.ours.nodes.host.host.trainee(plain) as trainee:
        assert not trainee.notes
    import comfy_extras.nodes_model_advanced as advanced

    plain.add_object_patch("model_sampling", advanced.ModelSamplingDiscreteDistilled(plain.model.model_config))
    with comfyui.ours.nodes.host.host.trainee(plain) as trainee:
        assert len(trainee.notes) == 1 and "few steps" in trainee.notes[0]


def test_latents_get_the_dimensions_of_the_models_own_or_a_sentence(comfyui):
    import comfy.latent_formats as formats

    fitting = comfyui.ours.nodes.host.comfyui.diffusion.fitting_latent
    picture, video = formats.SD15(), formats.Wan21()
    assert fitting(picture, torch.zeros(1, 4, 8, 8)).shape == (1, 4, 8, 8)
    assert fitting(picture, torch.zeros(1, 4, 1, 8, 8)).shape == (1, 4, 8, 8)
    assert fitting(video, torch.zeros(1, 16, 8, 8)).shape == (1, 16, 1, 8, 8)
    assert fitting(video, torch.zeros(1, 16, 3, 8, 8)).shape == (1, 16, 3, 8, 8)
    for space, odd in ((picture, (1, 4, 3, 8, 8)), (picture, (1, 16, 8, 8)), (video, (1, 4, 8, 8))):
        with pytest.raises(ValueError, match="connect the VAE that belongs to the model"):
            fitting(space, torch.zeros(odd))
