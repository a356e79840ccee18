"""VAE Encode and Decode with tiles, budgets, odd sizes, memory that runs out and numbers that overflow."""

import json

import pytest
import torch

from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.host.alone import vae as alone_vae
from clip_vae_lora.vae_core.tiling import plans, room, work
from clip_vae_lora.vae_core.tiling.plans import BudgetError

from ...support import tiny

ROUNDING = 5e-5  # of the range 0..1, float32: statistics merged from tiles are rounded otherwise


@pytest.fixture(autouse=True)
def no_library(monkeypatch):
    """These pictures are too small for what the libraries take for themselves to leave room for choices."""
    monkeypatch.setattr(plans, "LIBRARY_BYTES", 0)


@pytest.fixture
def vae(place):
    tiny.vae_file(place.models / "vae" / "v.safetensors")
    return place.node("CVL_LoadVAE").load("v.safetensors")["result"][0]


@pytest.fixture
def latent():
    return {"samples": torch.randn(2, 4, 70, 51, generator=torch.Generator().manual_seed(0))}


def test_a_budget_gives_tiles_and_the_same_picture(place, vae, latent):
    node = place.node("CVL_VAEDecode")
    whole, report = node.decode(latent, vae, "off")["result"]
    assert "all cells at once" in json.loads(report)["plan"]
    tiled, report = node.decode(latent, vae, "budget", 8)["result"]
    assert "tiles of" in json.loads(report)["plan"] and (tiled - whole).abs().max() <= ROUNDING


def test_encoding_in_tiles_gives_the_same_latent(place, vae, monkeypatch):
    image = torch.rand(2, 230, 301, 3, generator=torch.Generator().manual_seed(1))
    node = place.node("CVL_VAEEncode")
    whole = node.encode(image, vae, tiling="off")["result"][0]["samples"]
    monkeypatch.setattr(room, "largest_plan", lambda *_, **__: plans.Plan((20, 47), 1, 1, 2))
    tiled, report = node.encode(image, vae)["result"]
    assert "tiles of 20 x 47" in json.loads(report)["plan"] and (tiled["samples"] - whole).abs().max() <= ROUNDING


def test_a_budget_too_small_names_the_one_that_would_do(place, vae):
    latent = {"samples": torch.zeros(1, 4, 400, 400)}
    with pytest.raises(BudgetError, match=r"set the budget to that or more") as error:
        place.node("CVL_VAEDecode").decode(latent, vae, "budget", 8)
    enough = int("".join(c for c in str(error.value).split("need ")[1].split(" MB")[0] if c.isdigit()))
    assert 16 < enough < 4000


@pytest.mark.parametrize(("height", "width"), [(9, 11), (3, 1), (8, 7), (33, 40)])
def test_a_picture_of_any_size_comes_back_at_its_size(place, vae, height, width):
    image = torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(2))
    encoded = place.node("CVL_VAEEncode").encode(image, vae)["result"][0]
    assert encoded["samples"].shape[2:] == ((height + 1) // 2, (width + 1) // 2)
    decoded = place.node("CVL_VAEDecode").decode(encoded, vae)["result"][0]
    assert decoded.shape == image.shape


def test_a_latent_resized_since_is_not_cut_and_that_is_said(place, vae):
    encoded = place.node("CVL_VAEEncode").encode(torch.rand(1, 9, 11, 3), vae)["result"][0]
    encoded = {**encoded, "samples": encoded["samples"].repeat(1, 1, 2, 2)}
    image, report = place.node("CVL_VAEDecode").decode(encoded, vae)["result"]
    assert image.shape[1:3] == (20, 24) and "resized since" in report


def test_memory_that_runs_out_leads_to_a_smaller_plan_and_a_note(place, vae, latent, monkeypatch):
    whole = place.node("CVL_VAEDecode").decode(latent, vae, "off")["result"][0]

    def short(self, z):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(type(vae.network), "decode", short)
    image, report = place.node("CVL_VAEDecode").decode(latent, vae, "budget", 4096)["result"]
    assert (image - whole).abs().max() <= ROUNDING
    (note,) = [note for note in json.loads(report)["notes"] if "memory ran out" in note]
    assert "all cells at once" in note and "tiles of" in json.loads(report)["plan"]


def test_memory_that_never_suffices_is_a_sentence(place, vae, latent, monkeypatch):
    def never(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(work.tiled, "decode", never)
    with pytest.raises(BudgetError, match="memory ran out even with"):
        place.node("CVL_VAEDecode").decode(latent, vae, "budget", 8)


def test_other_errors_are_not_taken_for_missing_memory(place, vae, latent, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(work.tiled, "decode", broken)
    with pytest.raises(RuntimeError, match="something else"):
        place.node("CVL_VAEDecode").decode(latent, vae, "budget", 8)


def test_an_overflow_in_half_precision_is_done_again_in_float32(place, latent):
    path = tiny.vae_file(place.models / "vae" / "v.safetensors")
    half = place.node("CVL_LoadVAE").load(path.name, dtype="fp16")["result"][0]
    exact = place.node("CVL_LoadVAE").load(path.name, dtype="fp32")["result"][0]
    for vae in (half, exact):  # numbers of 70,000 in the middle, which fp16 has not
        with torch.no_grad():
            vae.network.decoder.conv_in.bias.fill_(60_000)
            vae.network.decoder.conv_in.weight.mul_(3_000)
    image, report = place.node("CVL_VAEDecode").decode(latent, half)["result"]
    assert image.isfinite().all() and any("overflowed in fp16" in note for note in json.loads(report)["notes"])


def test_a_latent_with_nan_is_named_as_the_one_at_fault(place, vae, latent):
    latent["samples"][0, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="this latent has NaN"):
        place.node("CVL_VAEDecode").decode(latent, vae)


@pytest.mark.parametrize("tiling", ["off", "budget"])
def test_progress_is_told_and_can_stop_the_work(place, vae, latent, tiling):
    class Cancelled(Exception):
        pass

    steps = []

    def on_step(done, total):
        steps.append((done, total))
        if done == 3:
            raise Cancelled

    host.set_place(models=place.models, temp=place.temp, on_step=on_step)
    with pytest.raises(Cancelled):
        place.node("CVL_VAEDecode").decode(latent, vae, tiling, 8)
    assert [done for done, _ in steps] == [1, 2, 3] and steps[0][1] > 3


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_a_picture_at_once_tells_of_each_of_its_blocks_and_leaves_no_hook(place, vae, latent, way):
    steps = []
    host.set_place(models=place.models, temp=place.temp, on_step=lambda *step: steps.append(step))
    if way == "decode":
        place.node("CVL_VAEDecode").decode(latent, vae, "off")
    else:
        place.node("CVL_VAEEncode").encode(torch.rand(2, 40, 40, 3), vae, tiling="off")
    assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1)) and len(steps) > 10
    assert not any(part._forward_hooks for part in vae.network.modules())


def test_auto_fits_what_is_free(place, vae, latent, monkeypatch):
    monkeypatch.setattr(alone_vae, "free_device_bytes", lambda place: 8_800_000)
    whole = place.node("CVL_VAEDecode").decode(latent, vae, "off")["result"][0]
    image, report = place.node("CVL_VAEDecode").decode(latent, vae)["result"]
    assert "tiles of" in json.loads(report)["plan"] and (image - whole).abs().max() <= ROUNDING
