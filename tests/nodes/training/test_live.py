"""What Train LoRA shows while it trains, and how the canvas ends it."""

import json

import pytest
import torch

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


class Canvas:
    """What the bar, the canvas and the folder of previews got."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.charts: list[dict] = []
        self.pictures: list[torch.Tensor] = []

    def save(self, picture: torch.Tensor) -> list[dict[str, str]]:
        self.pictures.append(picture)
        return [{"filename": f"{len(self.pictures)}.png", "subfolder": "", "type": "temp"}]

    def live(self, prompt: str = "a cat", node: str = "7", decode=lambda raw: raw[:, :3].movedim(1, -1).sigmoid()):
        return Live(
            node,
            prompt,
            2.0,
            decode,
            self.save,
            on_step=lambda *step: self.steps.append(step),
            tell=lambda output: self.charts.append(json.loads(output["cvl_chart"][0])),
        )


def _train(live: Live | None) -> TrainedLoRA:
    generator = torch.Generator().manual_seed(0)
    pictures = [Picture(f"p{n}", torch.randn(1, 4, 8, 12, generator=generator), f"picture {n}") for n in range(4)]
    hooks = Hooks(every=3) if live is None else Hooks(lambda *told: live.step(*told), every=3, look=live.look)
    with trainee(make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")) as ready:
        return train_lora(ready, pictures, _encode, PLAN, hooks=hooks)


def test_the_course_and_a_sample_are_told_at_each_validation():
    canvas = Canvas()
    live = canvas.live()
    made = _train(live)
    assert canvas.steps == [(step, 6) for step in range(1, 7)]
    seen = [tuple(sample["step"] for sample in chart["samples"]) for chart in canvas.charts]
    assert sorted(set(seen)) == [(0,), (0, 3), (0, 3, 6)] and canvas.charts[0]["losses"] == []
    last = live.chart()
    assert [loss for _, loss in last["losses"]] == pytest.approx(made.losses, rel=1e-5)  # told to six places
    assert (last["first"], last["step"], last["steps"], last["prompt"]) == (1, 6, 6, "a cat")
    assert [one["step"] for one in last["validation"]] == [0, 3, 6] and last["seconds_a_step"] > 0
    assert last["samples"][2] == {"step": 6, "filename": "3.png", "subfolder": "", "type": "temp"}
    assert all(picture.shape[0] == 1 and picture.shape[3] == 3 for picture in canvas.pictures)
    assert not torch.equal(canvas.pictures[0], canvas.pictures[2])  # the same noise, another model


def test_looking_on_changes_no_bit_of_what_is_learned():
    watched, alone = _train(Canvas().live()), _train(None)
    assert watched.losses == alone.losses
    assert all(torch.equal(lora.up, alone.adapters[name].up) for name, lora in watched.adapters.items())


def test_a_vae_that_a_host_made_may_write_into_what_it_decodes():
    """Loaded under inference mode, its weights make inference tensors, which cannot be written into outside of it."""
    with torch.inference_mode():
        weight = torch.ones(1)
    canvas = Canvas()
    _train(canvas.live(decode=lambda raw: (raw[:, :3].movedim(1, -1) * weight).add_(1).div_(2)))
    assert len(canvas.pictures) == 3 and not any(picture.is_inference() for picture in canvas.pictures)


def test_without_a_prompt_there_are_no_samples():
    canvas = Canvas()
    _train(canvas.live(prompt=""))
    assert not canvas.pictures and canvas.charts[-1]["validation"] and not canvas.charts[-1]["samples"]


def test_a_long_training_is_told_in_few_points_and_few_samples():
    live = Canvas().live()
    for step in range(1001, 4000):
        live.step(step, 4000, 1.0 / step)
    live.samples = {step: {"filename": f"{step}.png"} for step in range(0, 4000, 100)}
    chart = live.chart()
    assert len(chart["losses"]) <= 240 and chart["losses"][0][0] == 1001 and chart["losses"][-1][0] > 3980
    assert [sample["step"] for sample in chart["samples"]] == [0, *range(3300, 4000, 100)]


def test_a_loss_that_is_no_number_is_a_gap():
    live = Canvas().live()
    live.step(1, 2, float("inf"))
    assert live.chart()["losses"] == [[1, None]] == live.chart()["smoothed"]


@pytest.mark.parametrize(("node", "asked"), [("7", "7"), ("5:7", "7")])
def test_a_training_that_is_told_to_stop_keeps_what_it_has(node, asked):
    live = Canvas().live(node=node)
    assert stop_and_keep({"node": asked}) == {"stopping": asked}
    made = _train(live)
    assert made.is_early and len(made.losses) == 1 and made.adapters
    live.step(2, 6, 0.1)  # once: the next training of this node is not stopped


def test_a_question_of_before_stops_no_new_training():
    stop_and_keep({"node": "9"})
    live = Canvas().live(node="9")
    live.step(1, 6, 0.1)
    other = Canvas().live(node="10")
    stop_and_keep({"node": "9"})
    other.step(1, 6, 0.1)
    with pytest.raises(StopAndKeep):
        live.step(2, 6, 0.1)


@pytest.mark.parametrize("question", [None, {}, {"node": 3}, {"node": ""}, []])
def test_a_question_without_a_node_is_refused(question):
    with pytest.raises(ValueError, match="the id of the node that trains"):
        stop_and_keep(question)
