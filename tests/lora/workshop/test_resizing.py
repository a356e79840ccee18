"""Resizing: every rule against dense SVD in fp64, the file's size, and what becomes of odd files."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import bytes_of_file, write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import DoRA
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.ranks import Rule
from clip_vae_lora.lora.workshop.resizing import resize, speller
from clip_vae_lora.lora.workshop.sources import Source

from ...support.loras.shop import (
    CONVOLUTION,
    KEY,
    NORM,
    OUT,
    PLACES,
    QUERY,
    SD1,
    TEXT,
    dense,
    lora_of,
    random,
    source_of,
)

RANKS = [1, 3, 7]


def decaying(shape, rank=12, seed=0, dtype=torch.float32):
    """A LoRA whose singular values fall."""
    lora = lora_of(shape, rank, 4.0, seed, dtype)
    fall = torch.logspace(0, -2, rank).reshape(-1, *[1] * (lora.down.ndim - 1))
    return LoRA(lora.up, (lora.down * fall).to(dtype), lora.alpha)


def file_of(dialect="kohya", places=PLACES, dtype=torch.float32, **more) -> Source:
    return source_of({at: decaying(SD1[at], seed=n, dtype=dtype) for n, at in enumerate(places)}, dialect, **more)


def values_of(source: Source):
    return {key: torch.linalg.svdvals(change.flatten(1)) for key, change in dense(source).items()}


def written(resized, dialect="kohya", metadata=None) -> Source:
    tensors, header = write(named(resized.gathered, resized.adapters, dialect)[0], dialect, metadata)
    return Source("out.safetensors", read(tensors, header), header)


RULES = [("rank", 5), ("energy", 0.9), ("frobenius", 0.97), ("sum", 0.8), ("ratio", 10)]


def expected_rank(rule, amount, values):
    squares = values.square()
    if rule == "ratio":
        return int((values > values[0] / amount).sum())
    if rule == "rank":
        return amount
    kept = values.cumsum(0) / values.sum() if rule == "sum" else squares.cumsum(0) / squares.sum()
    return int((kept < (amount**2 if rule == "frobenius" else amount)).sum()) + 1


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "onetrainer"])
@pytest.mark.parametrize("rule, amount", RULES)
def test_each_rule_gives_the_best_change_of_its_rank(rule, amount, dialect):
    source = file_of(dialect)
    resized = resize(gather([source]), Rule(rule, amount))
    before, after = dense(source), dense(written(resized, dialect))
    assert {layer.place for layer in resized.layers} == set(before) == set(after)
    lost = total = 0.0
    for layer in resized.layers:
        values = torch.linalg.svdvals(before[layer.place].flatten(1))[:12]
        assert layer.rank == expected_rank(rule, amount, values) and layer.before == 12
        best = values[layer.rank :].norm().item()
        error = (after[layer.place] - before[layer.place]).norm().item()
        assert error <= 1.0001 * best + 1e-6 * values.norm().item()  # factors in fp32
        assert layer.error * layer.size == pytest.approx(error, rel=1e-4, abs=1e-6)
        lost, total = lost + error**2, total + values.norm().item() ** 2
    assert resized.error == pytest.approx((lost / total) ** 0.5, rel=1e-4)


def test_the_factors_are_split_evenly_and_alpha_is_the_rank():
    resized = resize(gather([file_of()]), Rule("rank", 5))
    for adapter in resized.adapters.values():
        assert adapter.alpha == adapter.rank == 5
        up, down = adapter.up.flatten(1).norm(dim=0), adapter.down.flatten(1).norm(dim=1)
        torch.testing.assert_close(up, down, rtol=1e-4, atol=0)  # fp32
    assert resized.adapters[CONVOLUTION].down.shape[2:] == (3, 3)


def test_a_rank_above_that_of_the_file_keeps_the_numbers_of_the_file():
    source = file_of()
    resized = resize(gather([source]), Rule("rank", 900))
    for layer in resized.layers:
        assert layer.rank == 12 and layer.error < 1e-6  # fp32
    for key, change in dense(written(resized)).items():
        torch.testing.assert_close(change, dense(source)[key], rtol=1e-5, atol=1e-6)  # fp32 factors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_type_is_that_of_the_file_or_the_one_chosen(dtype):
    own = resize(gather([file_of(dtype=torch.float16)]), Rule("rank", 2))
    assert {adapter.up.dtype for adapter in own.adapters.values()} == {torch.float16}
    chosen = resize(gather([file_of(dtype=torch.float16)]), Rule("rank", 2), dtype=dtype)
    assert {adapter.down.dtype for adapter in chosen.adapters.values()} == {dtype}


# ---- a file's size


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.77])
def test_a_file_size_is_hit_within_one_percent_and_never_exceeded(share, dialect):
    gathered = gather([file_of(dialect, dtype=torch.float16)])
    metadata = {"ss_base_model_version": "sd_v1"}
    whole = bytes_of_file(
        *speller(gathered, dialect, metadata)({at: parts[0].adapter for at, parts in gathered.layers.items()})
    )
    target = round(share * whole / 1e6, 6)
    rule = Rule("size", target)
    resized = resize(gathered, rule, spell=speller(gathered, dialect, metadata))
    size = len(save(*write(named(gathered, resized.adapters, dialect)[0], dialect, metadata)))
    # these files are tiny: the smallest step is a row of 320 + 320 numbers
    step = 640 * (2 if dialect == "kohya" else 4) + 200
    assert target * 1e6 - max(0.01 * target * 1e6, step) <= size <= target * 1e6


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_a_file_size_loses_no_more_than_any_fixed_rank_of_that_size(dialect):
    gathered = gather([file_of(dialect, dtype=torch.float16)])
    for rank in range(1, 12):
        fixed = resize(gathered, Rule("rank", rank))
        bytes_ = bytes_of_file(*speller(gathered, dialect, {})(fixed.adapters))
        sized = resize(gathered, Rule("size", bytes_ / 1e6), spell=speller(gathered, dialect, {}))
        assert sized.error <= fixed.error * (1 + 1e-6) + 1e-4  # 1e-4: the rounding to fp16, which both have
        assert bytes_of_file(*speller(gathered, dialect, {})(sized.adapters)) <= bytes_


def test_with_a_model_a_file_size_is_spent_where_the_model_changes_most():
    source = file_of(places=(QUERY, OUT))
    weights = {QUERY: random(*SD1[QUERY]) * 100, OUT: random(*SD1[OUT], seed=1) * 0.01}
    gathered = gather([source])
    spell = speller(gathered, "kohya", {})
    resized = resize(gathered, Rule("size", 0.03), spell=spell, weight_of=weights.__getitem__)
    ranks = {layer.place: layer.rank for layer in resized.layers}
    assert ranks[OUT] > ranks[QUERY]
    alone = resize(gathered, Rule("size", 0.03), spell=spell)
    squares = [(layer.error * layer.size / weights[layer.place].norm().item()) ** 2 for layer in resized.layers]
    assert resized.of_base == pytest.approx((sum(squares) / 2) ** 0.5, rel=1e-4)
    for rank in range(1, 7):  # the measure that was made small is smaller than with any fixed rank of that size
        fixed = resize(gathered, Rule("rank", rank), weight_of=weights.__getitem__)
        if bytes_of_file(*spell(fixed.adapters)) <= 30_000:
            assert resized.of_base <= fixed.of_base * (1 + 1e-6)
    assert alone.of_base is None and all(layer.of_base is None for layer in alone.layers)


def test_a_size_in_which_nothing_fits_is_refused_and_a_large_one_keeps_all():
    gathered = gather([file_of()])
    with pytest.raises(LoRAError, match="a file of 0.001 MB is too small: with rank 1 in every layer it has 0.0"):
        resize(gathered, Rule("size", 0.001), spell=speller(gathered, "kohya", {}))
    resized = resize(gathered, Rule("size", 500), spell=speller(gathered, "kohya", {}))
    assert {layer.rank for layer in resized.layers} == {12} and resized.error < 1e-6
    with pytest.raises(LoRAError, match="needs to know"):
        resize(gathered, Rule("size", 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_bytes_of_a_file_are_those_that_safetensors_writes(dtype):
    tensors, header = write({"lora_unet_ä": lora_of((8, 6), dtype=dtype)}, "kohya", {"title": 'a "b"\n中'})
    assert bytes_of_file(tensors, header) == len(save(tensors, header))


# ---- automatic


def test_automatic_drops_what_the_rounding_of_the_factors_hides():
    lora = decaying(SD1[QUERY], rank=8)
    fall = torch.tensor([1, 1, 1, 1, 1e-6, 1e-6, 1e-6, 1e-6])
    faint = LoRA(torch.linalg.qr(lora.up).Q.half(), (torch.linalg.qr(lora.down.mT).Q * fall).mT.half(), 8.0)
    resized = resize(gather([source_of({QUERY: faint})]), Rule("automatic"))
    assert [layer.rank for layer in resized.layers] == [4]


# ---- other kinds


def test_every_kind_without_a_weight_is_cut_to_the_optimum():
    shape = SD1[QUERY]
    kinds = {
        QUERY: LoHa(random(320, 3), random(3, 320, seed=1), random(320, 3, seed=2), random(3, 320, seed=3), 3.0),
        OUT: LoKr(alpha=1.0, w1=random(4, 4), w2_a=random(80, 2), w2_b=random(2, 80, seed=2)),
        CONVOLUTION: Difference(random(*SD1[CONVOLUTION]) * 0.01),
    }
    source = source_of(kinds)
    resized = resize(gather([source]), Rule("rank", 4))
    before, after = dense(source), dense(written(resized))
    for key in kinds:
        best = torch.linalg.svdvals(before[key].flatten(1))[4:].norm()
        error = (after[key] - before[key]).norm()
        assert error <= 1.01 * best  # the convolution's by a randomised SVD, the others exact
    assert {adapter.kind for adapter in resized.adapters.values()} == {"LoRA", "LoCon"} and shape == (320, 320)


def test_a_dora_needs_its_weight_and_becomes_a_lora_with_it():
    weight = random(*SD1[QUERY]) * 0.05
    dora = DoRA(lora_of(SD1[QUERY]), weight.norm(dim=1, keepdim=True) * 1.1)
    source = source_of({QUERY: dora, OUT: decaying(SD1[OUT])})
    without = gather([source])
    assert "depends on the weight itself" in next(iter(without.left_out["a.safetensors"].values()))
    gathered = gather([source], SD1, weights=True)
    resized = resize(gathered, Rule("rank", 300), weight_of=lambda key: weight)
    change = dora.delta(weight).double()
    found = dense(written(resized))[QUERY]
    assert (found - change).norm() <= 1.01 * torch.linalg.svdvals(change)[300:].norm() + 1e-5 * change.norm()


def test_the_change_of_a_norm_is_kept_as_it_is():
    source = source_of({NORM: Difference(random(320), "norm difference"), QUERY: decaying(SD1[QUERY])})
    resized = resize(gather([source]), Rule("rank", 2))
    assert resized.whole == (NORM,) and torch.equal(resized.adapters[NORM].value, random(320))


def test_a_layer_that_changes_nothing_is_left_out_and_said():
    still = LoRA(torch.zeros(320, 4), random(4, 320), 4.0)
    resized = resize(gather([source_of({QUERY: still, OUT: decaying(SD1[OUT])})]), Rule("energy", 0.9))
    assert [layer.rank for layer in resized.layers if layer.place == QUERY] == [0]
    assert QUERY not in resized.adapters
    with pytest.raises(LoRAError, match="nothing is left to be written"):
        resize(gather([source_of({QUERY: still})]), Rule("rank", 4))


def test_numbers_that_fp16_cannot_hold_are_refused():
    huge = LoRA(torch.ones(320, 1) * 1e5, torch.ones(1, 768) * 1e5, 1.0)
    with pytest.raises(LoRAError, match="write the file as bf16 or fp32"):
        resize(
            gather([source_of({KEY: LoRA(huge.up, torch.ones(1, 768) * 1e5, 1.0)})]),
            Rule("rank", 1),
            dtype=torch.float16,
        )


def test_progress_reaches_its_end_and_may_stop_the_work():
    seen = []
    resize(gather([file_of()]), Rule("rank", 2), on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(n, len(PLACES)) for n in range(1, len(PLACES) + 1)]
    seen.clear()
    gathered = gather([file_of()])
    spell = speller(gathered, "kohya", {})
    resize(gathered, Rule("size", 0.1), spell=spell, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 2 * len(PLACES)) for n in range(1, 2 * len(PLACES) + 1)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resize(gathered, Rule("rank", 2), on_step=stop)


def test_text_encoders_are_resized_too():
    resized = resize(gather([file_of(places=(TEXT,))]), Rule("rank", 2))
    assert [layer.place for layer in resized.layers] == [TEXT]


@pytest.mark.parametrize("name", ["analog_svd_rank4", "lora_disney"])
@pytest.mark.parametrize("dialect", ["kohya", "cloneofsimo"])
def test_a_real_file_is_resized_and_read_back_as_in_fp64(shared_data, name, dialect):
    tensors = load_file(shared_data / "lora" / f"{name}.safetensors")
    with safe_open(shared_data / "lora" / f"{name}.safetensors", "pt") as file:
        metadata = file.metadata()
    source = Source(name, read(tensors, metadata), metadata)
    gathered = gather([source])
    resized = resize(gathered, Rule("rank", 2), dtype=torch.float32)
    back = written(resized, dialect, {})
    found = match(source.file, SD1).found
    assert set(match(back.file, SD1).found) == set(found) and len(found) > 100
    before, after = dense(source, every=16), dense(back, every=16)
    assert set(before) == set(after) and len(before) > 6
    for key, change in before.items():
        values = torch.linalg.svdvals(change.flatten(1))
        error = (after[key] - change).norm().item()
        assert error == pytest.approx(values[2:].norm().item(), rel=1e-4, abs=1e-6 * values.norm().item())
