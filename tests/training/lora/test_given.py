"""Latents and prompts from a graph instead of a folder; models through which nothing can be learned."""

import pytest
import torch

from clip_vae_lora.nodes.host.alone.diffusion import trainee
from clip_vae_lora.training.loop import TrainingError
from clip_vae_lora.training.lora.data.given import Given, plan_of_given, prepare_given
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, train_lora

from .test_run import PLAN, _encode, _model, _train


def _latents(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_batches_are_taken_apart_and_each_latent_has_its_prompt():
    latents = _latents((2, 4, 8, 8), (1, 4, 6, 10))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    found = prepare_given(Given(latents, [mask, None], ["a", "b", "c"]))
    assert [found.prompts[picture.caption] for picture in found.pictures] == ["a", "b", "c"]
    assert torch.equal(found.pictures[1].latent, latents[0][1:]) and found.sizes_px == {"8 x 8": 2, "10 x 6": 1}
    assert found.pictures[0].mask.shape == (1, 1, 8, 8) and found.pictures[0].mask[..., 4:].min() == 1
    assert found.pictures[0].mask[..., :4].max() == 0 and found.pictures[2].mask is None
    video = prepare_given(Given(_latents((1, 4, 3, 8, 8)), [mask], ["a"]))
    assert video.pictures[0].latent.shape == (1, 4, 3, 8, 8) and video.pictures[0].mask.shape == (1, 1, 1, 8, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Given(_latents((3, 4, 8, 8)), [None], ["a", "b"]), "3 latents came with 2 prompts"),
        (Given(_latents((3, 4, 8, 8)), [None], []), "3 latents came with 0 prompts"),
        (Given([], [], ["a"]), "were expected"),
        (Given(_latents((1, 64, 100)), [None], ["a"]), r"this is \[1, 64, 100\]"),
        (Given(["no tensor"], [None], ["a"]), "this is str"),
    ],
)
def test_what_does_not_fit_together_is_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        prepare_given(given)


def test_given_latents_train_as_the_same_ones_of_a_folder_do():
    """Prompts that come encoded and those that are encoded here are the same, and the words' plan leaves them alone."""
    from clip_vae_lora.training.lora.course import Picture
    from clip_vae_lora.training.lora.data.captions import CaptionPlan

    latents = _latents((1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 6, 10))
    texts = ["one", "two", "three"]
    found = prepare_given(Given(latents, [None] * 3, [_encode(text) for text in texts]))
    plan = LoRAPlan(**{**vars(PLAN), "captions": CaptionPlan(trigger="sks", shuffle=True)})
    assert plan_of_given(plan).captions == CaptionPlan()
    with trainee(_model()) as ready:
        given = train_lora(ready, found.pictures, found.prompts.__getitem__, plan_of_given(plan), hooks=Hooks(every=0))
    pictures = [Picture(f"p{n}", latent, text) for n, (latent, text) in enumerate(zip(latents, texts))]
    assert given.losses == _train(pictures=pictures, hooks=Hooks(every=0)).losses


@pytest.mark.parametrize("way", ["detached", "refusing"])
def test_a_model_that_cannot_be_differentiated_is_a_sentence(way, monkeypatch):
    from clip_vae_lora.nodes.host.alone import diffusion

    apply = diffusion.StandaloneTrainee._apply

    def fused(self, *given):
        answer = apply(self, *given)
        if way == "detached":
            return answer.detach()
        raise NotImplementedError("derivative for fused_attention is not implemented for this dtype")

    monkeypatch.setattr(diffusion.StandaloneTrainee, "_apply", fused)
    with pytest.raises(TrainingError, match="no gradient comes through this MODEL"):
        _train(hooks=Hooks(every=0))
