"""Comparing files: every number against dense matrices in fp64, and what chance gives against many strangers."""

import math

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.comparing.compare import compare, distance_of, judge, suggest
from clip_vae_lora.lora.workshop.comparing.copies import close_pairs, sketch_of
from clip_vae_lora.lora.workshop.gathering import gather

from ...support.loras.shop import CONVOLUTION, KEY, PLACES, QUERY, SD1, TEXT, dense, lora_of, plain, random, source_of


def flat(source):
    return {key: change.flatten(1) for key, change in dense(source).items()}


def pair(one, two):
    return compare(gather([one, two]))


def test_cosines_and_sizes_are_those_of_the_dense_changes():
    one, two = plain(4, 0, strength_model=0.3), plain(6, 9, "peft", places=(QUERY, KEY, TEXT))
    found = pair(one, two)
    a = {key: change / (0.3 if key != TEXT else 1) for key, change in flat(one).items()}
    b = flat(two)
    for key in (QUERY, KEY, TEXT):
        expected = ((a[key] * b[key]).sum() / (a[key].norm() * b[key].norm())).item()
        assert found.weights[0, 1][key].cosine == pytest.approx(expected, abs=1e-6)
        assert found.weights[0, 1][key].chance == pytest.approx(1 / math.sqrt(a[key].numel()))
    assert found.blocks[0, 1].keys() == {"clip_l", "IN01"} and found.pairs[0, 1].layers == 3
    squares = sum(change.square().sum().item() for change in a.values())
    assert found.portraits[0].norm == pytest.approx(math.sqrt(squares), rel=1e-6)
    inner = sum((a[key] * b[key]).sum().item() for key in b)
    assert found.gram[0, 1].item() == pytest.approx(inner, rel=1e-5, abs=1e-6)


def test_overlaps_are_those_of_orthonormal_bases_and_stand_beside_their_chance():
    one, two = plain(4, 0, places=(QUERY,)), plain(6, 9, places=(QUERY,))
    met = pair(one, two).pairs[0, 1]
    u1, u2 = (torch.linalg.svd(flat(source)[QUERY])[0][:, :rank] for source, rank in ((one, 4), (two, 6)))
    assert met.mean("outputs") == pytest.approx(((u1.mT @ u2).square().sum() / 4).item(), abs=1e-6)
    assert met.mean("outputs_of_chance") == pytest.approx(6 / 320)


def test_strangers_meet_as_often_as_chance_says():
    several = compare(gather([plain(4, 100 * n, name=str(n), places=(QUERY,)) for n in range(10)]))
    pairs = several.pairs.values()
    shares = [met.mean("inputs") / met.mean("inputs_of_chance") for met in pairs]
    assert sum(shares) / 45 == pytest.approx(1, abs=0.15)  # the mean of 45; one alone varies by a third
    deviation = math.sqrt(sum((met.cosine / met.chance) ** 2 for met in pairs) / 45)
    assert 0.7 < deviation < 1.3


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda a, b: a, "duplicate"),
        (lambda a, b: a * 0.5, "scaled"),
        (lambda a, b: -a, "opposite"),
        (lambda a, b: a + 0.3 * b, "near_copy"),
        (lambda a, b: a + 1.5 * b, "alike"),
        (lambda a, b: -0.1 * a + b, "opposed"),
        (lambda a, b: b, "unrelated"),
    ],
)
def test_kinship_is_told_from_the_changes(change, word):
    a, b = lora_of(SD1[QUERY], seed=1), lora_of(SD1[QUERY], seed=2)
    matrix = change(a.delta(SD1[QUERY]), b.delta(SD1[QUERY]))
    u, s, vt = torch.linalg.svd(matrix)
    other = LoRA(u[:, :8] * s[:8], vt[:8], 8.0)
    one, two = source_of({QUERY: a}), source_of({QUERY: other}, "diffusers", "b")
    assert judge(pair(one, two), (0, 1)) == word


def test_files_that_share_no_weight_are_apart():
    found = pair(plain(4, 0, places=(QUERY,)), plain(4, 0, places=(KEY,)))
    assert judge(found, (0, 1)) == "apart" and found.pairs[0, 1].cosine is None
    assert distance_of(found, (0, 1)) == pytest.approx(
        math.sqrt(1 + (found.gram.diagonal().min() / found.gram.max()).item())
    )


def test_the_spectrum_says_how_many_directions_hold_the_energy():
    s = torch.tensor([8.0, 4.0, 1.0, 1.0])
    u, v = torch.linalg.qr(random(320, 4)).Q, torch.linalg.qr(random(320, 4, seed=1)).Q
    found = compare(gather([source_of({QUERY: LoRA(u * s, v.mT, 4.0)})])).portraits[0]
    assert found.ranks == [4]
    assert found.needed == {0.5: [1], 0.9: [2], 0.99: [4]}  # 64, 16, 1, 1 of 82
    torch.testing.assert_close(torch.tensor(found.curve), s.square() / 82, rtol=1e-5, atol=0)


def test_a_file_is_measured_against_the_weights_that_it_touches():
    norms = {place: 10.0 + n for n, place in enumerate(PLACES)}
    source = plain(4, 0)
    found = compare(gather([source]), base_norm=norms.get).portraits[0]
    expected = math.sqrt(sum(c.square().sum() for c in flat(source).values()) / sum(n * n for n in norms.values()))
    assert found.relative == pytest.approx(expected, rel=1e-6)
    assert compare(gather([source])).portraits[0].relative is None


@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.8, -0.5), (0.2, 1.4)])
def test_suggested_strengths_change_the_model_as_much_as_the_strongest_alone(strengths):
    sources = [
        plain(4, n, places=(QUERY, CONVOLUTION), strength_model=s, strength_clip=s) for n, s in enumerate(strengths)
    ]
    found = suggest(compare(gather(sources)))
    parts = [dense(source) for source in sources]
    strongest = max(math.sqrt(sum(c.square().sum() for c in part.values())) for part in parts)
    together = math.sqrt(sum((parts[0][k] + parts[1][k]).square().sum() for k in parts[0]))
    assert found.strongest == pytest.approx(strongest, rel=1e-6) and found.together == pytest.approx(together, rel=1e-6)
    assert found.factor * together == pytest.approx(strongest, rel=1e-6)
    assert found.strengths[1][0] == pytest.approx(strengths[1] * found.factor)
    ones = [dense(plain(4, n, places=(QUERY, CONVOLUTION))) for n in range(2)]
    sizes = [abs(e) * math.sqrt(sum(c.square().sum() for c in one.values())) for e, one in zip(found.even, ones)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-6)
    even = math.sqrt(sum((found.even[0] * ones[0][k] + found.even[1] * ones[1][k]).square().sum() for k in ones[0]))
    assert even == pytest.approx(strongest, rel=1e-5)


def test_a_stack_of_nothing_has_no_strengths_to_suggest():
    with pytest.raises(LoRAError, match="nothing is left of the stack"):
        suggest(pair(plain(4, 0), plain(4, 0, strength_model=-1, strength_clip=-1)))


def test_copies_are_found_whatever_their_dialect_strength_rank_and_type():
    loras = {place: lora_of(SD1[place], seed=n) for n, place in enumerate(PLACES)}
    wide = {
        place: LoRA(torch.cat([lora.up, lora.up * 0], 1), torch.cat([lora.down, lora.down]), lora.alpha * 2)
        for place, lora in loras.items()
    }
    half = {place: LoRA(lora.up.half(), lora.down.half(), lora.alpha * 3) for place, lora in loras.items()}
    files = [
        source_of(loras, name="a"),
        plain(4, 77, name="stranger"),
        source_of(wide, "diffusers", "b"),
        plain(4, 99, name="another"),
        source_of(half, "peft", "c"),
    ]
    sketches = [sketch_of(gather([file])) for file in files]
    found = close_pairs(sketches)
    assert sorted((i, j) for i, j, _ in found) == [(0, 2), (0, 4), (2, 4)]
    exact = compare(gather([files[i] for i in (0, 2, 4)]))
    assert [judge(exact, pair) for pair in ((0, 1), (0, 2))] == ["duplicate", "scaled"]


def test_rows_of_a_fused_weight_have_the_same_sketch_as_the_whole():
    flux = {key: shape for key, shape in PUBLISHED["Flux"][1]().items() if ".1." not in key}
    key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    whole, split = (source_of({key: lora_of(flux[key])}, d, d, flux) for d in ("kohya", "diffusers"))
    assert len(match(split.file, flux).found) == 3
    assert close_pairs([sketch_of(gather([one])) for one in (whole, split)])[0][2] == pytest.approx(1, abs=1e-5)


def test_progress_counts_the_weights():
    steps = []
    compare(gather([plain(2, 0)]), on_step=lambda *step: steps.append(step))
    assert steps[-1] == (4, 4)
