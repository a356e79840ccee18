"""The pictures that a training shows beside itself are those of ComfyUI's sampler with the same noise and levels."""

import pytest
import torch

from clip_vae_lora.training.samples import sampled, way_down

from ...support import models
from ...support.diffusion import small_diffusion

SEED, STEPS = 5, 4


def _model(comfyui, kind: str):
    if kind == "SD 1":
        return models.sd15_model(context_dim=16), 16
    return comfyui.ours.nodes.host.host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32"), 64


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["SD 1", "flow"])
def test_a_sample_is_that_of_the_hosts_euler(comfyui, kind, guidance):
    model, width = _model(comfyui, kind)
    generator = torch.Generator().manual_seed(1)
    prompt, empty = ([[torch.randn(1, 77, width, generator=generator), {}]] for _ in range(2))
    latent = torch.zeros(1, 4, 8, 8)
    sampling = model.get_model_object("model_sampling")
    noise = torch.randn(latent.shape, generator=torch.manual_seed(SEED))
    with comfyui.ours.nodes.host.host.trainee(model) as trainee:
        levels = way_down(trainee.levels, STEPS)
        highest = float(levels[0])
        # at its highest level ComfyUI makes EPS models' noise a little larger
        own = noise * (1 + highest**2) ** 0.5 / highest if kind == "SD 1" else noise
        told = [trainee.prepare(one, latent) for one in (prompt, empty)]
        ours = sampled(trainee, *told, own, steps=STEPS, guidance=guidance)
    import comfy.samplers

    theirs = comfyui.nodes["SamplerCustom"]
    theirs = theirs() if not hasattr(theirs, "execute") else theirs
    run = theirs.execute if hasattr(theirs, "execute") else theirs.sample
    answer = run(
        model, True, SEED, guidance, prompt, empty, comfy.samplers.sampler_object("euler"), levels, {"samples": latent}
    )
    expected = answer[0]["samples"]
    assert sampling.sigma_max == pytest.approx(highest)
    assert (ours - expected).norm() <= 1e-5 * expected.norm()  # float32


def test_no_step_is_refused(comfyui):
    model, _ = _model(comfyui, "flow")
    with comfyui.ours.nodes.host.host.trainee(model) as trainee:
        with pytest.raises(ValueError, match="at least one step"):
            way_down(trainee.levels, 0)
