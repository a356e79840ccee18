"""Plans keep to their budget, grow with it, and need about what is measured."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.tiny import TinyConfig
from clip_vae_lora.vae_core.networks.wan_config import Clip, WanConfig
from clip_vae_lora.vae_core.tiling.plans import BudgetError, largest_plan, smaller_plans

SD1 = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
CONFIGS = [SD1, VAEConfig(128, (1, 2, 4, 4), 2, 128, True, 96, patch=2), VAEConfig(64, (1,), 1, 4, True), TinyConfig(4)]
SHAPES = st.tuples(st.integers(1, 3), st.just(4), st.integers(1, 300), st.integers(1, 300))
MB = 1_000_000


@given(st.sampled_from(CONFIGS), SHAPES, st.integers(1, 20_000), st.sampled_from(["decode", "encode"]))
def test_a_plan_keeps_to_its_budget_or_the_refusal_says_what_would_do(config, shape, budget_mb, way):
    try:
        plan = largest_plan(config, shape, budget_mb * MB, 4, way=way)
    except BudgetError as error:
        would_do = int(str(error).split(" need ")[1].split(" MB")[0].replace(",", ""))
        assert would_do > budget_mb
        plan, budget_mb = largest_plan(config, shape, would_do * MB, 4, way=way), would_do
    assert plan.needs_bytes <= budget_mb * MB
    if not plan.untiled:
        assert 1 <= plan.tile[0] <= shape[2] and 1 <= plan.tile[1] <= shape[3]


@pytest.mark.parametrize("cells", [(14, 28), (20, 20), (26, 14), (26, 26), (32, 32)])
def test_without_a_budget_tiles_are_taken_only_where_they_need_less_than_untiled(cells):
    five_frames = Clip(WanConfig(), 2)  # whose small videos need a little more in strips
    chosen = largest_plan(five_frames, (1, 16, *cells), None, 4, way="encode")
    untiled = largest_plan(five_frames, (1, 16, *cells), 10**15, 4, way="encode")
    assert untiled.untiled
    assert chosen.untiled or chosen.needs_bytes < untiled.needs_bytes


@given(SHAPES, st.integers(100, 9_000), st.integers(0, 9_000))
def test_a_larger_budget_never_gets_smaller_tiles(shape, budget_mb, more_mb):
    def cells(budget):
        try:
            plan = largest_plan(SD1, shape, budget * MB, 4)
        except BudgetError:
            return 0
        return shape[2] * shape[3] + 1 if plan.untiled else plan.tile[0] * plan.tile[1]

    assert cells(budget_mb) <= cells(budget_mb + more_mb)


@given(st.sampled_from(CONFIGS), SHAPES)
def test_plans_to_try_when_memory_runs_out_need_less_and_less(config, shape):
    first = largest_plan(config, shape, 10**15, 4)
    needs = [first.device_bytes, *(plan.device_bytes for plan in smaller_plans(config, shape, first, 4))]
    assert first.untiled and all(b <= 0.7 * a for a, b in zip(needs, needs[1:]))


def test_without_a_budget_the_plan_is_lean():
    small, large = (largest_plan(SD1, (1, 4, side, side), None, 4) for side in (16, 128))
    assert small.untiled and not large.untiled
    assert large.needs_bytes < 0.6 * largest_plan(SD1, (1, 4, 128, 128), 10**12, 4).needs_bytes


def test_the_2048_px_decode_that_the_budget_of_8000_mb_asks_for():
    plan = largest_plan(SD1, (1, 4, 256, 256), 8000 * MB, 4)
    assert not plan.untiled


def test_half_the_bytes_need_half_the_memory():
    libraries = 64 << 20
    wide, half = (largest_plan(SD1, (1, 4, 64, 64), 10**12, size) for size in (4, 2))
    assert (wide.needs_bytes - libraries) == 2 * (half.needs_bytes - libraries)


def test_another_way_is_refused():
    with pytest.raises(ValueError, match="decode or encode, not 'upscale'"):
        largest_plan(SD1, (1, 4, 8, 8), None, 4, way="upscale")


MEASURE = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("checkout", sys.argv[1] + "/headless/checkout.py")
checkout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkout)
checkout.bind()
from clip_vae_lora.vae_core.tiling import plans, tiled
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig
torch.set_grad_enabled(False)
way, untiled, kind = sys.argv[2], sys.argv[3] == "untiled", sys.argv[4]
build, config, px = {
    "tiny": (TinyAutoencoder, TinyConfig(4), 768),
    "kl": (AutoencoderKL, VAEConfig(64, (1, 1, 2), 1, 4, True), 512),
    "wan": (AutoencoderWan, WanConfig(16, (16, 32, 64, 64), (16, 32, 64, 64)), 192),
}[kind]
vae, latent = build(config).eval(), (config.latent, px // config.factor, px // config.factor)
clip = {"decode": (2,), "encode": (5,)}[way] if kind == "wan" else ()
x = torch.randn(1, latent[0] if way == "decode" else 3, *clip, *(latent[1:] if way == "decode" else (px, px)))
sized, shape = vae.sized(config, way, x.shape)
plan = plans.largest_plan(sized, shape, 10**12 if untiled else None, 4, way=way)
small = x[..., :8, :8] if clip == (2,) else x[..., :32, :32]  # in whole cells
run = getattr(vae, way) if untiled else lambda x: getattr(tiled, way)(vae, x, plan.tile)
run(small)
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
result = run(x)
sure = plan.needs_bytes if plan.untiled else plan.host_bytes + plan.tile_bytes + (64 << 20)
print(plan.needs_bytes, sure, status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's own account of resident memory")
@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize(("kind", "how"), [*product(("kl", "tiny"), ("untiled", "tiled")), ("wan", "untiled")])
def test_what_a_plan_needs_is_what_is_measured(way, how, kind):
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, root, way, how, kind], capture_output=True, text=True, check=True
    )
    needs, sure, measured = map(int, done.stdout.split())
    # at this size the 64 MB for the libraries are a third of it: they are counted here as its uncertainty; what the C
    # library keeps of freed tiles, which is in needs and not in sure, is another at each run
    assert measured - 64 * 2**20 < needs and sure < 1.25 * measured + 64 * 2**20, (needs, sure, measured)
