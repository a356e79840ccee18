"""The training code on a card that is not there: forward passes of each recipe, the loop's state, scores."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.headless import embed, train
from clip_vae_lora.training import distributed, fidelity
from clip_vae_lora.training.device import KINDS, NoSuchDevice, best_device, named_device, products_in, sent
from clip_vae_lora.training.loop import Checkpoint, TrainingPlan, fit
from clip_vae_lora.training.recipes.adapter import train_adapter
from clip_vae_lora.training.recipes.clip import batch_loss, draw_batch, features, new_clip, new_fact_head, train_clip
from clip_vae_lora.training.recipes.vae import new_vae, train_vae
from clip_vae_lora.training.scores import clip_scores, recall_scores, texture_score
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

from ..support.cards.card import OnCard, card

SMALL = CLIPConfig(TextConfig(64, 1, 1, 256, 32), VisionConfig(64, 1, 1, 256, 16, 32, 32))
SMALL_VAE = VAEConfig(32, (1, 1, 1), 1, 4, True)
PLAN = TrainingPlan(steps=2, seed=1, lr=1e-3, warm_up=1, average=0.9)
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # the CPU's fused attention against separate products, through two small networks


def engine(parameters):
    """torch's engine goes backwards on a card with a driver only; in its place every gradient is a tenth."""

    def backward(loss):
        assert loss.device.type == "cuda" and loss.ndim == 0
        for parameter in parameters():
            parameter.grad = torch.full_like(parameter, 0.1)

    return patch.object(torch.Tensor, "backward", backward)


def fitted(found: dict):
    """`fit` with that engine, that keeps what it was given in `found`."""

    def run(step_loss, parameters, plan, **hooks):
        found.update(parameters)
        with engine(lambda: [p for p in parameters.values() if p.requires_grad]):
            return fit(step_loss, parameters, plan, **hooks)

    return run


@pytest.fixture
def small_vae(monkeypatch):
    """The recipe's autoencoder and its pictures, a few hundredths as much work."""
    recipe = "clip_vae_lora.training.recipes.vae"
    monkeypatch.setattr(f"{recipe}.new_vae", lambda seed: AutoencoderKL(SMALL_VAE))
    monkeypatch.setattr(f"{recipe}.SIDE_PX", 16)


@pytest.mark.usefixtures("small_vae")
@pytest.mark.parametrize("recipe", ["clip", "vae", "adapter"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_two_steps_of_every_recipe_stay_on_the_card(recipe, precision, monkeypatch):
    parameters = {}
    monkeypatch.setattr(f"clip_vae_lora.training.recipes.{recipe}.fit", fitted(parameters))
    run = {
        "clip": lambda: train_clip(PLAN, batch=4, precision=precision, device="cuda"),
        "vae": lambda: train_vae(PLAN, batch=1, precision=precision, device="cuda"),
        "adapter": lambda: train_adapter(new_clip(2, SMALL).to("cuda"), PLAN, batch=8, precision=precision),
    }[recipe]
    with card():
        made = run()
        assert parameters and all(parameter.device.type == "cuda" for parameter in parameters.values())
        left = made.adapters.values() if recipe == "adapter" else made.parameters()
        assert all((one.up if recipe == "adapter" else one).device.type == "cuda" for one in left)


@pytest.mark.usefixtures("small_vae")
@pytest.mark.parametrize("recipe", ["clip", "vae"])
def test_a_step_waits_as_often_for_a_large_batch_as_for_a_small_one(recipe, monkeypatch):
    """Where masks choose rows, and for the loss: for each step, not for each picture."""
    monkeypatch.setattr(f"clip_vae_lora.training.recipes.{recipe}.fit", fitted({}))
    waits = []
    for batch in (4, 8):
        with card() as cost:
            if recipe == "clip":
                train_clip(replace(PLAN, steps=1), batch=batch, device="cuda")
            else:
                train_vae(replace(PLAN, steps=1), batch=batch, device="cuda")
            waits.append(len(cost.waits))
    assert waits[0] == waits[1]


def test_the_loss_of_a_step_on_the_card_is_the_cpus():
    losses = []
    for device in ("cpu", "cuda"):
        with card(), torch.no_grad():
            model, head = new_clip(3, SMALL).to(device), new_fact_head(32, 3).to(device)
            drawn = draw_batch(model, Tokenizer(), 8, torch.Generator().manual_seed(4), grey=0.5)
            assert drawn.pixels.device.type == drawn.fits.device.type == device
            losses.append(batch_loss(model, head, drawn, *features(model, drawn, torch.float32)).cpu())
    torch.testing.assert_close(*losses, **NEAR)


def test_products_are_computed_in_the_devices_own_half_precision():
    with card(), torch.no_grad():
        weight = torch.zeros(4, 4, device="cuda")
        with products_in(torch.bfloat16, weight.device):
            assert (weight @ weight).dtype == torch.bfloat16
        with products_in(torch.float32, weight.device):
            assert (weight @ weight).dtype == torch.float32


def test_a_training_saved_on_the_cpu_goes_on_on_the_card_with_its_state_there(tmp_path):
    """The gradients of (weight * 0.1).sum() are the tenths that the engine above gives."""

    class Stop(RuntimeError):
        pass

    def stop(done, total):
        if done == 1:
            raise Stop

    path, plan = tmp_path / "state.safetensors", replace(PLAN, steps=3)
    weight = torch.nn.Parameter(torch.ones(3, 2))
    with pytest.raises(Stop):
        fit(
            lambda step, generator: (weight * 0.1).sum(),
            {"weight": weight},
            plan,
            on_step=stop,
            checkpoint=Checkpoint(path),
        )
    whole = torch.nn.Parameter(torch.ones(3, 2))
    fit(lambda step, generator: (whole * 0.1).sum(), {"weight": whole}, plan)
    with card():
        moved = torch.nn.Parameter(torch.ones(3, 2).to("cuda"))
        with engine(lambda: [moved]):
            fit(
                lambda step, generator: (moved * 0.1).sum(),
                {"weight": moved},
                plan,
                checkpoint=Checkpoint(path, resume=True),
            )
        assert isinstance(moved.data, OnCard)
        found = moved.detach().cpu()
    torch.testing.assert_close(found, whole.detach(), rtol=1e-6, atol=0)  # the same arithmetic, not fused


def test_scores_measured_on_the_card_are_the_cpus():
    tokenizer, model = Tokenizer(), new_clip(5, SMALL)
    expected = [score(model, tokenizer, 3, 12) for score in (clip_scores, recall_scores, texture_score)]
    with card():
        there = new_clip(5, SMALL).to("cuda")
        assert [score(there, tokenizer, 3, 12) for score in (clip_scores, recall_scores, texture_score)] == expected


def test_round_trips_measured_on_the_card_are_the_cpus(monkeypatch):
    def noise(count, side_px, generator):
        return torch.rand(count, 3, 32, 32, generator=generator)

    monkeypatch.setattr(fidelity, "KINDS", {"scenes": noise})  # small: the real ones are of 256 px
    expected = fidelity.vae_scores(new_vae(1), 3, 4)
    with card():
        found = fidelity.vae_scores(new_vae(1).to("cuda"), 3, 4)
    assert found == pytest.approx(expected, rel=1e-4)  # as NEAR


# devices by name


def test_what_is_sent_to_a_card_goes_through_pinned_memory_and_nobody_waits():
    with card() as cost:
        assert sent(torch.ones(2), torch.device("cuda")).device.type == "cuda"
        assert cost.moves == 1 and not cost.waits
    values = torch.ones(2)
    assert sent(values, torch.device("cpu")) is values


def test_auto_is_the_card_where_there_is_one():
    with card():
        assert named_device("auto").type == best_device().type == "cuda"
        assert named_device("cuda:0") == torch.device("cuda", 0)
        with pytest.raises(NoSuchDevice, match="cuda:7 was asked for, but this machine"):
            named_device("cuda:7")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu:one"])
def test_what_names_no_device_is_refused_in_one_sentence(name):
    with pytest.raises(NoSuchDevice, match="names no device; choose one of auto, cpu"):
        named_device(name)


@pytest.mark.parametrize(
    "script",
    [
        lambda: train.main(["bundled", "--device", "xpu"]),
        lambda: embed.main(["a", "--model", "b", "--index", "c", "--device", "xpu"]),
    ],
)
def test_an_absent_device_ends_a_script_with_one_sentence(script, capsys, monkeypatch):
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    assert script() == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: the device xpu was asked for") and "\n" not in said


@pytest.mark.parametrize(("kind", "expected"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl"), ("mps", "gloo")])
def test_messages_of_processes_with_nvidias_cards_may_go_through_nccl(kind, expected, monkeypatch):
    monkeypatch.setattr(distributed.dist, "is_nccl_available", lambda: True)
    assert distributed.backend(torch.device(kind)) == expected


def test_each_process_of_a_machine_takes_a_card_of_its_own(monkeypatch):
    monkeypatch.setattr(distributed.dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for rank, expected in ((0, 0), (3, 3), (5, 1)):
        monkeypatch.setattr(distributed.dist, "get_node_local_rank", lambda fallback, rank=rank: rank)
        assert distributed.own_device(torch.device("cuda")) == torch.device("cuda", expected)
    assert distributed.own_device(torch.device("cuda", 2)) == torch.device("cuda", 2)
    assert distributed.own_device(torch.device("cpu")) == torch.device("cpu") and "cuda" in KINDS
