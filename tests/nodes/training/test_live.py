"""What Train LoRA shows while it trains, and how the canvas ends it."""

import pytest
import torch

from clip_vae_lora.drawing.course_plot import with_samples
from clip_vae_lora.nodes.host.alone.diffusion import make_model, trainee
from clip_vae_lora.nodes.training.live import Live, stop_and_keep
from clip_vae_lora.training.loop import StopAndKeep
from clip_vae_lora.training.lora.course import Picture
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, TrainedLoRA, train_lora

from ...support.diffusion import small_diffusion

PLAN = LoRAPlan(steps=6, seed=3, lr=5e-2, rank=4, alpha=4, batch=2, warm_up=1, dropout=0.1)


def _encode(text: str) -> list:
    return [[torch.randn(1, 7, 64, generator=torch.Generator().manual_seed(sum(map(ord, text)))), {}]]


def _live(shown: list, prompt: str = "a cat", node: str = "7") -> Live:
    return Live(
        node, "cats", prompt, 2.0, lambda raw: raw[:, :3].movedim(1, -1).sigmoid(), lambda *more: shown.append(more)
    )


def _train(live: Live | None) -> TrainedLoRA:
    generator = torch.Generator().manual_seed(0)
    pictures = [Picture(f"p{n}", torch.randn(1, 4, 8, 12, generator=generator), f"picture {n}") for n in range(4)]
    hooks = Hooks(every=3) if live is None else Hooks(lambda *told: live.step(*told), every=3, look=live.look)
    with trainee(make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")) as ready:
        return train_lora(ready, pictures, _encode, PLAN, hooks=hooks)


def test_the_course_and_a_sample_are_shown_at_each_validation():
    shown: list = []
    live = _live(shown)
    _train(live)
    assert [done for done, *_ in shown] == [1, 2, 3, 4, 5, 6]
    pictures = [picture for *_, picture in shown if picture is not None]
    assert len(pictures) == 3 and list(live.samples) == [0, 3, 6]
    assert all(picture.shape[0] == 1 and picture.shape[3] == 3 for picture in pictures)
    assert not torch.equal(live.samples[0], live.samples[6])  # the same noise, another model


def test_looking_on_changes_no_bit_of_what_is_learned():
    watched, alone = _train(_live([])), _train(None)
    assert watched.losses == alone.losses
    assert all(torch.equal(lora.up, alone.adapters[name].up) for name, lora in watched.adapters.items())


def test_a_vae_that_a_host_made_may_write_into_what_it_decodes():
    """Loaded under inference mode, its weights make inference tensors, which cannot be written into outside of it."""
    with torch.inference_mode():
        weight = torch.ones(1)
    live = Live("7", "cats", "a cat", 2.0, lambda raw: (raw[:, :3].movedim(1, -1) * weight).add_(1).div_(2), _nothing)
    _train(live)
    assert len(live.samples) == 3 and not any(sample.is_inference() for sample in live.samples.values())


def _nothing(*_: object) -> None:
    pass


def test_without_a_prompt_only_the_plot_is_drawn():
    live = _live([], prompt="")
    _train(live)
    assert not live.samples and live.picture().shape[1:] == (400, 512, 3)


@pytest.mark.parametrize(("node", "asked"), [("7", "7"), ("5:7", "7")])
def test_a_training_that_is_told_to_stop_keeps_what_it_has(node, asked):
    shown: list = []
    live = _live(shown, node=node)
    assert stop_and_keep({"node": asked}) == {"stopping": asked}
    made = _train(live)
    assert made.is_early and len(made.losses) == 1 and made.adapters
    live.step(2, 6, 0.1)  # once: the next training of this node is not stopped


def test_a_question_of_before_stops_no_new_training():
    stop_and_keep({"node": "9"})
    live = _live([], node="9")
    live.step(1, 6, 0.1)
    other = _live([], node="10")
    stop_and_keep({"node": "9"})
    other.step(1, 6, 0.1)
    with pytest.raises(StopAndKeep):
        live.step(2, 6, 0.1)


@pytest.mark.parametrize("question", [None, {}, {"node": 3}, {"node": ""}, []])
def test_a_question_without_a_node_is_refused(question):
    with pytest.raises(ValueError, match="the id of the node that trains"):
        stop_and_keep(question)


def test_samples_stand_in_a_row_below_the_plot():
    plot = torch.zeros(1, 100, 200, 3)
    sheet = with_samples(plot, [torch.full((1, 8, 16, 3), 0.5)] * 2)
    assert sheet.shape == (1, 125, 200, 3)
    assert torch.allclose(sheet[:, 100:, :100], torch.tensor(0.5)) and (sheet[:, 100:, 100:] == 1).all()
