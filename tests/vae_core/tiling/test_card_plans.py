"""Plans for a card keep to what is free there, take all of it where that is quicker, and say why."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.tiny import TinyConfig
from clip_vae_lora.vae_core.tiling import card_plans
from clip_vae_lora.vae_core.tiling.card_plans import (
    Limit,
    card_plan,
    resting_bytes,
    smaller_card_plans,
    untiled_card_plan,
)
from clip_vae_lora.vae_core.tiling.plans import BudgetError

SD1 = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
CONFIGS = [SD1, VAEConfig(128, (1, 2, 4, 4), 2, 128, True, 96, patch=2), VAEConfig(64, (1,), 1, 4, True), TinyConfig(4)]
SHAPES = st.tuples(st.integers(1, 9), st.just(4), st.integers(1, 300), st.integers(1, 300))
WAYS = st.sampled_from(["decode", "encode"])
MB = 1_000_000


def limit(mb: float) -> Limit:
    return Limit(round(mb * MB), f"{mb:,} MB free")


@settings(deadline=None)
@given(st.sampled_from(CONFIGS), SHAPES, st.integers(1, 30_000), WAYS, st.sampled_from([2, 4]))
def test_a_plan_keeps_to_the_card_or_the_refusal_says_what_would_do(config, shape, mb, way, width):
    try:
        plan = card_plan(config, shape, limit(mb), width, way=way)
    except BudgetError as error:
        would_do = int(str(error).split(" need ")[1].split(" MB")[0].replace(",", ""))
        assert would_do > mb
        plan, mb = card_plan(config, shape, limit(would_do), width, way=way), would_do
    assert plan.device_bytes <= mb * MB and 1 <= plan.pictures <= shape[0]
    assert plan.untiled or (1 <= plan.tile[0] <= shape[2] and 1 <= plan.tile[1] <= shape[3] and plan.pictures == 1)
    assert (plan.host_bytes == 0) == (plan.waiting_bytes is None)


@settings(deadline=None)
@given(st.sampled_from(CONFIGS), SHAPES, st.integers(100, 9_000), st.integers(0, 9_000), WAYS)
def test_more_memory_never_sends_more_over_the_bus_nor_makes_smaller_passes(config, shape, mb, more, way):
    plans = []
    for free in (mb, mb + more):
        try:
            plans.append(card_plan(config, shape, limit(free), 2, way=way))
        except BudgetError:
            return
    assert plans[1].host_bytes <= plans[0].host_bytes and plans[1].untiled >= plans[0].untiled
    assert plans[1].pictures >= plans[0].pictures


@settings(deadline=None)
@given(st.sampled_from(CONFIGS), SHAPES, st.integers(200, 30_000), WAYS)
def test_plans_to_try_when_memory_runs_out_need_less_and_less(config, shape, mb, way):
    try:
        first = card_plan(config, shape, limit(mb), 2, way=way)
    except BudgetError:
        return
    needs = [first.device_bytes, *(plan.device_bytes for plan in smaller_card_plans(config, shape, first, 2, way=way))]
    assert all(b <= 0.7 * a + 1 for a, b in zip(needs, needs[1:]))


def test_what_fits_is_done_at_once_and_a_batch_in_passes_of_one_size():
    whole = card_plan(SD1, (1, 4, 128, 128), limit(22_000), 2)
    assert whole.untiled and "untiled: about 1,4" in str(whole) and "MB of 22,000 MB free" in str(whole)
    batch = card_plan(SD1, (8, 4, 64, 64), limit(22_000), 2)
    assert batch.untiled and batch.pictures == 8 and "8 pictures at a time" in str(batch)
    parts = card_plan(SD1, (8, 4, 64, 64), limit(2_000), 2)
    assert parts.untiled and parts.pictures == 4  # five would fit: 4 and 4, not 5 and 3
    assert "one picture at a time" in str(card_plan(SD1, (2, 4, 64, 64), limit(500), 2))


def test_what_waits_stays_on_the_card_while_it_fits():
    plan = card_plan(SD1, (1, 4, 256, 256), limit(2_700), 2)  # 2048 px, 3 GB free
    assert not plan.untiled and plan.waiting_bytes is None and plan.host_bytes == 0
    assert "wait there between sweeps, because untiled needs 5,4" in str(plan)


def test_the_rest_waits_in_host_memory_and_the_plan_says_how_much_and_why():
    plan = card_plan(SD1, (1, 4, 256, 256), limit(1_500), 2)
    assert 0 < plan.waiting_bytes < plan.device_bytes <= 1_500 * MB and plan.host_bytes > 0
    assert "MB wait in host memory, because untiled needs 5,4" in str(plan)


def test_host_memory_that_does_not_suffice_is_a_sentence():
    with pytest.raises(BudgetError, match="in the computer's own memory, where 100 MB are free; close other programs"):
        card_plan(SD1, (1, 4, 256, 256), limit(1_500), 2, host_free_bytes=100 * MB)
    assert card_plan(SD1, (1, 4, 256, 256), limit(2_700), 2, host_free_bytes=0).host_bytes == 0


def test_a_full_card_is_a_sentence_that_names_the_least_and_what_to_do():
    full = Limit(90 * MB, "100 MB free on the card", "unload models")
    with pytest.raises(
        BudgetError,
        match=r"100 MB free on the card are not enough: even tiles of .* need [\d,]+ MB; "
        "unload models, or use a smaller picture",
    ):
        card_plan(SD1, (1, 4, 256, 256), full, 2)


def test_tensors_of_more_values_than_kernels_count_are_never_made():
    """4096 px make one of 256 x 4096 x 4096 values, twice what 32 bits count."""
    plan = card_plan(SD1, (1, 4, 512, 512), limit(500_000), 2)
    assert not plan.untiled and "more than kernels count" in str(plan)
    assert card_plan(SD1, (9, 4, 128, 128), limit(500_000), 2).pictures * 256 * 1024**2 < 2**31


def test_off_is_untiled_whatever_is_free():
    plan = untiled_card_plan(SD1, (3, 4, 256, 256), limit(10), 2)
    assert plan.untiled and plan.pictures == 1 and plan.device_bytes > 10 * MB


def test_tiles_that_were_asked_for_are_the_largest_there_are():
    plan = card_plan(SD1, (1, 4, 256, 200), limit(22_000), 2, most=(64, 999))
    assert plan.tile == (64, 200) and "tiles were asked for" in str(plan)
    smaller = card_plan(SD1, (1, 4, 256, 200), limit(2_000), 2, most=(64, 999))
    assert smaller.tile[0] * smaller.tile[1] < 64 * 200


def test_what_rests_on_the_card_is_what_its_plan_needs():
    needs = resting_bytes(SD1, (1, 4, 256, 256), 2)
    assert card_plan(SD1, (1, 4, 256, 256), Limit(needs, "it"), 2).waiting_bytes is None
    assert needs < 0.55 * untiled_card_plan(SD1, (1, 4, 256, 256), limit(1), 2).device_bytes


def test_half_the_bytes_need_about_half_the_memory(monkeypatch):
    monkeypatch.setattr(card_plans, "LIBRARY_BYTES", 0)
    wide, half = (untiled_card_plan(SD1, (1, 4, 128, 128), limit(1), size).device_bytes for size in (4, 2))
    assert 1.9 < wide / half <= 2  # attention's scores are in float32 in both
