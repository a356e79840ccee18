"""Wan's VAE by tiles == at once, for every tile, size and length; its memory, plans and progress."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig
from clip_vae_lora.vae_core.tiling import plans, tiled, work
from clip_vae_lora.vae_core.tiling.room import Room, Tiling

ROUNDING = 1e-5  # of the range: fp32 sums in another order
CPU = torch.device("cpu")


@torch.no_grad()
def network(config):
    """Every number random, so that no tensor can hide behind ones or zeros."""
    torch.manual_seed(0)
    vae = AutoencoderWan(config).eval()
    for name, parameter in vae.named_parameters():
        if parameter.ndim == 1 or name.endswith("gamma"):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return vae


NETWORKS = [
    network(WanConfig(4, (4, 8, 8, 8), (4, 8, 8, 8), 1, 4)),
    network(WanConfig(4, (4, 6), (4, 8), 2, 3, (True,))),
    network(WanConfig(4, (4, 8, 8), (8, 8, 16), 1, 6, (False, True), residual=True, patch=2)),
    network(WanConfig(6, (6,), (8,), 1, 4, ())),
]
SIDES, TILES, FRAMES = st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)


def assert_same(got, wanted, tolerance=ROUNDING):
    reach = max(1.0, (wanted.max() - wanted.min()).item())
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * reach)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NETWORKS), st.tuples(SIDES, SIDES), st.tuples(TILES, TILES), FRAMES, st.integers(1, 2))
def test_decoding_by_tiles_is_decoding_at_once(vae, size, tile, frames, batch):
    z = torch.randn(batch, vae.config.latent, frames, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert_same(tiled.decode(vae, z, tile), vae.decode(z))


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NETWORKS), st.tuples(SIDES, SIDES), st.tuples(TILES, TILES), FRAMES, st.integers(1, 2))
def test_encoding_by_tiles_is_encoding_at_once(vae, size, tile, frames, batch):
    sides = [side * vae.config.factor for side in size]
    shape = (batch, 3, vae.config.video_frames(frames), *sides)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got, wanted = tiled.encode(vae, pixels, tile), vae.encoding(pixels)
    assert_same(got.mean, wanted.mean)
    assert_same(got.logvar, wanted.logvar)


@torch.no_grad()
def test_later_frames_change_nothing_before_them():
    vae = NETWORKS[0]
    z = torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    assert_same(tiled.decode(vae, z, (3, 3))[:, :, :5], vae.decode(z[:, :, :2]))
    assert_same(vae.decode(z)[:, :, :1], vae.decode(z[:, :, :1]))


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("tiling", [Tiling("off"), Tiling("tile", tile=(3, 4))], ids=["at once", "by tiles"])
def test_progress_counts_to_its_total(way, frames, tiling):
    for vae in NETWORKS:
        seen, config = [], vae.config
        room = Room(CPU, CPU, None)
        if way == "decode":
            values = torch.randn(2, config.latent, frames, 8, 6)
        else:
            values = torch.randn(2, 3, config.video_frames(frames), 8 * config.factor, 6 * config.factor)
        run = work.decode if way == "decode" else work.encode
        run(vae, values, tiling, room, lambda *step, seen=seen: seen.append(step), lambda vae=vae: vae)
        assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
        assert {total for _, total in seen} == {len(seen)}


def test_plans_count_the_frames_that_layers_remember():
    config = WanConfig()
    needs = {}
    for frames in (1, 2, 5, 21):
        sized, cells = AutoencoderWan.sized(config, "decode", (1, 16, frames, 128, 128))
        untiled = plans.untiled_plan(sized, cells, 2)
        needs[frames] = untiled.needs_bytes
        tiles = plans.largest_plan(sized, cells, None, 2)
        assert tiles.tile is not None and tiles.needs_bytes <= untiled.needs_bytes / 2, frames
    assert needs[2] > 2 * needs[1]  # of a picture nothing is remembered
    # a longer video needs no more but its own frames
    assert needs[21] - needs[5] < 1.01 * 2 * 3 * 64 * 1024 * 1024


MEASURED = [  # way, channels, px, frames, tile, MB of resident memory at the fullest (benchmarks/video)
    ("decode", 24, 1024, 17, None, 3835),
    ("decode", 24, 1024, 17, (43, 43), 1227),
    ("decode", 24, 1024, 1, None, 501),
    ("decode", 24, 1024, 1, (32, 43), 192),
    ("encode", 24, 1024, 17, None, 2878),
    ("encode", 24, 1024, 1, (32, 43), 135),
    ("decode", 16, 512, 9, None, 816),
    ("decode", 16, 512, 9, (32, 32), 279),
    ("decode", 16, 512, 9, (16, 16), 161),
    ("encode", 16, 512, 9, None, 546),
    ("encode", 16, 512, 9, (32, 32), 260),
    ("decode", 32, 512, 5, None, 1166),
    ("encode", 32, 512, 5, None, 797),
]


@pytest.mark.parametrize(("way", "channels", "px", "frames", "tile", "mb"), MEASURED)
def test_a_plan_names_no_less_than_was_measured(way, channels, px, frames, tile, mb):
    widths = (channels, 2 * channels, 4 * channels, 4 * channels)
    config = WanConfig(channels, widths, widths)
    cells = (1, 16, config.latent_frames(frames), px // 8, px // 8)
    sized, shape = AutoencoderWan.sized(config, way, cells if way == "decode" else (1, 3, frames, px, px))
    if tile is None:
        plan = plans.untiled_plan(sized, shape, 4, way=way)
    else:
        plan = plans.plan_of_tile(sized, shape, tile, 4, way=way)
    assert plan.needs_bytes >= 0.95 * mb * 1e6  # two runs of one plan differ by some percent


@pytest.mark.parametrize("dtype_bytes", [2, 4])
@pytest.mark.parametrize("frames", [1, 17])
@pytest.mark.parametrize("way", ["decode", "encode"])
def test_tiles_of_published_widths_need_at_most_half_at_1024_px(way, frames, dtype_bytes):
    config = WanConfig()
    given = (1, 16, config.latent_frames(frames), 128, 128) if way == "decode" else (1, 3, frames, 1024, 1024)
    sized, shape = AutoencoderWan.sized(config, way, given)
    plan = plans.largest_plan(sized, shape, None, dtype_bytes, way=way)
    untiled = plans.untiled_plan(sized, shape, dtype_bytes, way=way)
    assert plan.tile is not None and plan.needs_bytes <= untiled.needs_bytes / 2
