"""The VAE on a pretended card: kernels, what goes over the bus, where the card is waited for, and memory, beside
diffusers' network counted the same way.
"""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clip_vae_lora.nodes.host.shared.vae_room import room_on
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.tiling import sweeps, waiting, work
from clip_vae_lora.vae_core.tiling.work import Tiling

from ..support.cards.pretended_card import pretend_cuda

SD1 = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
HALF = torch.float16
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
TIMES = 1.3  # diffusers' kernels, asked for: our group norms and doublings need no more than that


class Peak(TorchDispatchMode):
    """The most bytes that lay on the card at once of what was made while this is open."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.there = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                storage = tensor.untyped_storage()
                if storage._cdata not in self.there:
                    self.there.add(storage._cdata)
                    weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
        return result

    def gone(self, place, count):
        self.there.discard(place)
        self.now -= count


@pytest.fixture
def count():
    with pretend_cuda() as count, torch.inference_mode():
        yield count


@pytest.fixture
def ours(count):
    return AutoencoderKL(SD1, device="cuda", dtype=HALF).eval()


@pytest.fixture
def theirs(count):
    from diffusers import AutoencoderKL

    before = torch.get_default_dtype()
    torch.set_default_dtype(HALF)  # a pretended network cannot be converted
    try:
        with torch.device("cuda"):
            return AutoencoderKL(
                3,
                3,
                ("DownEncoderBlock2D",) * 4,
                ("UpDecoderBlock2D",) * 4,
                (128, 256, 512, 512),
                2,
                latent_channels=4,
            ).eval()
    finally:
        torch.set_default_dtype(before)


def values(way: str, px: int, batch: int = 1) -> torch.Tensor:
    """As a host has them: on the CPU, and pictures with their channels last in memory."""
    if way == "decode":
        return torch.empty(batch, 4, px // 8, px // 8, dtype=HALF)
    return torch.empty(batch, px, px, 3, dtype=HALF).movedim(-1, 1)


def run(ours, way: str, px: int, free_mb: int, batch: int = 1, tiling: Tiling | None = None, host_mb: int = 30_000):
    room = room_on(CUDA, CPU, free_mb * 1_000_000, host_mb * 1_000_000)
    call = getattr(work, way)
    return call(ours, values(way, px, batch), tiling or Tiling(), room, lambda *_: None, lambda: ours)


def diffusers_run(theirs, way: str, px: int, batch: int = 1):
    x = values(way, px, batch).to(CUDA)
    return (theirs.decode(x).sample if way == "decode" else theirs.encode(x).latent_dist.mean).cpu()


def ends_bytes(way: str, px: int, batch: int = 1) -> int:
    """Latent and picture; encoding gives a mean and a variance."""
    latent = 4 * (px // 8) ** 2
    return 2 * batch * (3 * px * px + latent * (1 if way == "decode" else 2))


@pytest.mark.parametrize(
    ("way", "px", "batch"),
    [("decode", 512, 1), ("decode", 1024, 1), ("encode", 1024, 1), ("decode", 512, 8), ("encode", 512, 8)],
)
def test_what_fits_goes_at_once_in_few_kernels_two_moves_and_no_more_memory(count, ours, theirs, way, px, batch):
    count.reset()
    with Peak() as peak:
        worked = run(ours, way, px, 22_000, batch)
    assert worked.plan.startswith("untiled") and "22,000 MB free on the card" in worked.plan and not worked.notes
    kernels, moves, moved = count.kernels, count.moves, count.moved_bytes
    assert moves == 2 and moved == ends_bytes(way, px, batch) and not count.waits
    needs = int(worked.plan.split("about ")[1].split(" MB")[0].replace(",", "")) * 1_000_000
    assert peak.most <= needs
    count.reset()
    with Peak() as peer:
        diffusers_run(theirs, way, px, batch)
    assert kernels <= TIMES * count.kernels and kernels <= 196
    assert peak.most <= peer.most


def test_a_batch_that_does_not_fit_goes_in_as_few_passes_as_there_can_be(count, ours):
    count.reset()
    worked = run(ours, "decode", 512, 2_000, 8)
    assert "4 pictures at a time" in worked.plan and count.moves == 4 and worked.result.shape == (8, 3, 512, 512)


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_at_2048_px_with_3_gb_free_nothing_but_the_ends_goes_over_the_bus(count, ours, way):
    count.reset()
    with Peak() as peak:
        worked = run(ours, way, 2048, 3_000)
    assert "tiles of" in worked.plan and "wait there between sweeps, because untiled needs" in worked.plan
    assert count.moves == 2 and count.moved_bytes == ends_bytes(way, 2048) and not count.waits
    assert peak.most <= 3_000_000_000


def test_what_does_not_fit_goes_over_the_bus_once_each_way_in_a_sweep_and_nothing_waits(count, ours, monkeypatch):
    """With 600 MB free at 1024 px less than everything fits: at most twice the rest crosses in each sweep."""
    swept, sweep = [], sweeps.Sweeps.sweep

    def counted(self, size, width, each, into=None, *rest, **more):
        before = count.moved_bytes
        found = sweep(self, size, width, each, into, *rest, **more)
        if self.device.type == "cuda":
            missing = sum(sum(slab.numel() for slab in there.slabs) * 2 for there in self.stores)
            swept.append((count.moved_bytes - before, missing))
        return found

    monkeypatch.setattr(sweeps.Sweeps, "sweep", counted)
    count.reset()
    with Peak() as peak:
        worked = run(ours, "decode", 1024, 600)
    assert "wait in host memory" in worked.plan and not count.waits
    assert peak.most <= 600_000_000
    assert any(moved for moved, _ in swept)
    halo = 1.25  # a tile reads a row above and below it, too
    assert all(moved <= 2 * halo * missing for moved, missing in swept)


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_a_tile_is_not_waited_for_and_starts_few_kernels(count, ours, way):
    steps = []
    room = room_on(CUDA, CPU, 1_000_000_000, 30_000_000_000)
    count.reset()
    getattr(work, way)(
        ours,
        values(way, 1024),
        Tiling("tile", tile=(16, 128)),
        room,
        lambda done, total: steps.append((done, total)),
        lambda: ours,
    )
    assert steps[-1][0] == steps[-1][1] > 60 and not count.waits
    assert count.kernels < 40 * len(steps)


def test_a_budget_is_the_cards_and_what_is_too_little_is_named(count, ours):
    worked = run(ours, "decode", 1024, 22_000, tiling=Tiling("budget", 800))
    assert "because untiled needs" in worked.plan and "the budget of 800 MB" in worked.plan
    with pytest.raises(ValueError, match=r"the budget of 16 MB are not enough: even .* need [\d,]+ MB; set the budget"):
        run(ours, "decode", 1024, 22_000, tiling=Tiling("budget", 16))


def test_a_card_full_of_something_else_is_a_sentence(count, ours):
    with pytest.raises(ValueError, match="100 MB free on the card are not enough: .*close what else uses the card"):
        run(ours, "decode", 1024, 100)


def test_a_computer_too_full_for_the_rest_is_a_sentence(count, ours):
    with pytest.raises(ValueError, match="in the computer's own memory, where 50 MB are free"):
        run(ours, "decode", 1024, 600, host_mb=50)


def test_a_card_that_is_lost_is_a_sentence_and_is_not_asked_again(count, ours, monkeypatch):
    calls = []

    def gone(self, latent):
        calls.append(1)
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronous")

    monkeypatch.setattr(AutoencoderKL, "decode", gone)
    with pytest.raises(RuntimeError, match=r"gave up while decoding \(CUDA error: unspecified launch failure\)"):
        run(ours, "decode", 512, 22_000)
    assert calls == [1]


def test_memory_that_runs_out_on_the_card_leads_to_less_and_is_given_back_by_the_host(count, ours, monkeypatch):
    def full(self, latent):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    given_back = []
    monkeypatch.setattr(AutoencoderKL, "decode", full)
    room = room_on(CUDA, CPU, 22_000_000_000, 30_000_000_000, lambda: given_back.append(1))
    worked = work.decode(ours, values("decode", 1024), Tiling(), room, lambda *_: None, lambda: ours)
    assert given_back == [1] and "tiles of" in worked.plan
    (note,) = worked.notes
    assert note.startswith("memory ran out with the plan untiled: about") and worked.plan in note


def test_slabs_of_host_memory_are_of_one_size_and_used_again(count, ours, monkeypatch):
    made = []
    empty = waiting.Bus.slab

    def slab(self):
        made.append(not self.slabs)
        return empty(self)

    monkeypatch.setattr(waiting.Bus, "slab", slab)
    run(ours, "decode", 1024, 600)
    assert sum(made) < len(made) / 2  # most are used again
