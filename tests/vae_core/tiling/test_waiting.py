"""What waits partly in host memory comes back as it was; no stream reads or writes what another is not done with."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig
from clip_vae_lora.vae_core.tiling import sweeps, tiled, waiting
from clip_vae_lora.vae_core.tiling.tiles import Tile
from clip_vae_lora.vae_core.tiling.waiting import Bus, Waiting

ROUNDING = 1e-5  # of the range, float32: as of tiles whose activations are all on one device (test_tiled)
VIEWS = ("slice", "view", "permute", "select", "unsqueeze", "as_strided", "alias", "detach", "expand", "empty")


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    """So that these small pictures need several, and end in the middle of one."""
    monkeypatch.setattr(waiting, "SLAB_BYTES", 1 << 15)


@torch.no_grad()
def kl():
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(32, (1, 2, 2), 1, 4, True)).eval()
    for parameter in vae.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return vae


def assert_same(got, wanted):
    reach = max(1.0, (wanted.max() - wanted.min()).item())
    torch.testing.assert_close(got, wanted, rtol=0, atol=ROUNDING * reach)


SIDES = st.integers(1, 30)


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.integers(0, 30), st.data())
def test_what_is_written_is_read_wherever_it_waits(size, rows, data):
    values = torch.randn(1, 5, *size, generator=torch.Generator().manual_seed(0))
    there = Waiting(torch.empty(1, 5, min(rows, size[0]), size[1]), size, Bus(values.device))
    edges = [sorted(data.draw(st.lists(st.integers(1, side), max_size=3))) for side in size]
    rows_of, columns_of = ([0, *dict.fromkeys(at), side] for at, side in zip(edges, size))
    tiles = [
        Tile(top, left, bottom, right)
        for top, bottom in zip(rows_of, rows_of[1:])
        for left, right in zip(columns_of, columns_of[1:])
        if bottom > top and right > left
    ]
    for tile in tiles:
        there.write(tile, values[:, :, tile.top : tile.bottom, tile.left : tile.right])
    for tile in [*tiles, *(tile.widened(1, size) for tile in tiles), Tile(0, 0, *size)]:
        assert torch.equal(there.read(tile), values[:, :, tile.top : tile.bottom, tile.left : tile.right])


def test_slabs_go_back_when_nobody_waits_in_them():
    bus = Bus(torch.empty(0).device)
    there = Waiting(torch.empty(1, 8, 0, 64), (50, 64), bus)
    taken = len(there.slabs)
    assert taken == 4 and not bus.slabs  # 16 rows of 2 kB a slab
    del there
    assert len(bus.slabs) == taken
    Waiting(torch.empty(1, 8, 10, 64), (50, 64), bus)
    assert len(bus.slabs) == taken


def test_a_row_too_long_for_a_slab_is_a_sentence():
    with pytest.raises(ValueError, match="use a narrower picture"):
        Waiting(torch.empty(1, 8, 0, 64 << 10), (2, 64 << 10), Bus(torch.empty(0).device))


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize(
    "network",
    [kl(), TinyAutoencoder(TinyConfig(4)).eval(), TinyAutoencoder(TinyConfig(16, pooled=True, patch=2)).eval()],
    ids=["kl", "tiny", "pooled"],
)
@pytest.mark.parametrize("waiting_bytes", [0, 100_000, 1_000_000])
@torch.no_grad()
def test_the_result_is_the_untiled_one_wherever_activations_wait(network, way, waiting_bytes):
    config, generator = network.config, torch.Generator().manual_seed(1)
    shape = (2, config.latent, 19, 13) if way == "decode" else (2, 3, 19 * config.factor, 13 * config.factor)
    x = torch.randn(shape, generator=generator)
    got = getattr(tiled, way)(network, x, (5, 13), waiting_bytes=waiting_bytes)
    wanted = getattr(network, {"encode": "encoding"}.get(way, way))(x)
    if isinstance(got, torch.Tensor):
        assert_same(got, wanted)
    else:
        assert_same(got.mean, wanted.mean), assert_same(got.logvar, wanted.logvar)


class Streams(TorchDispatchMode):
    """Stands for torch.cuda: copies on a side stream are done as late as they may be, and only if the stream has
    waited for all that the computing did with their memory before.
    """

    def __init__(self):
        super().__init__()
        self.time, self.touched, self.side, self.copies = 0, {}, None, 0
        self.computing = SimpleNamespace(
            wait_event=lambda event: event.stream.run_to(event.place) if event.stream else None,
            record_event=lambda: SimpleNamespace(stream=None, time=self.time),
        )

    def current_stream(self, device):
        return self.computing

    def Stream(self, device):
        return Side(self)

    @contextmanager
    def stream(self, side):
        self.side = side
        yield
        self.side = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.side is not None and "copy_" in func.__name__:
            (buffer,) = (tensor for tensor in args[:2] if tensor.untyped_storage().nbytes() != waiting.SLAB_BYTES)
            last = self.touched.get(buffer.untyped_storage().data_ptr(), 0)
            assert last <= self.side.seen, "a copy that may be too early"
            self.copies += 1
            into, source = args[:2]
            self.side.queue.append(lambda: into.copy_(source))
            return into
        result = func(*args, **(kwargs or {}))
        if self.side is None and func.__name__.split(".")[0] not in VIEWS:
            self.time += 1
            for tensor in tree_leaves((args, kwargs, result)):
                if isinstance(tensor, torch.Tensor):
                    self.touched[tensor.untyped_storage().data_ptr()] = self.time
        return result


class Side:
    def __init__(self, streams):
        self.streams, self.queue, self.done, self.seen = streams, [], 0, 0

    def wait_stream(self, other):
        if other is self.streams.computing:
            self.seen = self.streams.time
        else:
            place = len(other.queue)
            self.queue.append(lambda: other.run_to(place))

    def wait_event(self, event):
        self.seen = max(self.seen, event.time)

    def record_event(self):
        return SimpleNamespace(stream=self, place=len(self.queue), time=0)

    def run_to(self, place):
        while self.done < place:
            self.done += 1
            self.queue[self.done - 1]()


@pytest.mark.parametrize("way, shape", [("decode", (1, 4, 19, 13)), ("encode", (1, 3, 76, 52))])
@pytest.mark.parametrize("tile", [(5, 13), (4, 5)])
@torch.no_grad()
def test_copies_beside_the_computing_are_neither_early_nor_late(monkeypatch, way, shape, tile):
    network, x = kl(), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if x.device.type != "cpu":
        pytest.skip("stands for a card's streams on the CPU")
    wanted, streams = getattr(network, {"encode": "encoding"}.get(way, way))(x), Streams()
    monkeypatch.setattr(sweeps, "Bus", lambda device: Bus(device, streams if device.type == "cpu" else None))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    with streams:
        got = getattr(tiled, way)(network, x, tile, waiting_bytes=50_000)
    assert streams.copies > 100
    for mine, whole in [(got, wanted)] if way == "decode" else [(got.mean, wanted.mean), (got.logvar, wanted.logvar)]:
        assert_same(mine, whole)
