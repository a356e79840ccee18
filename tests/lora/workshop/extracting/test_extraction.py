"""Extraction from two models, against dense SVD in fp64: the error, the planted ranks, and what is not a layer."""

import gc

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.models.match import key_of, match, part_of
from clip_vae_lora.lora.workshop.extracting.extraction import EQUAL, ROUNDING, extract, record
from clip_vae_lora.lora.workshop.extracting.pairing import Model, pair
from clip_vae_lora.lora.workshop.extracting.spelling import Piecewise, spell_of
from clip_vae_lora.lora.workshop.ranks import Rule

from ....support.loras.shop import SD1, random

_BLOCK = "diffusion_model.input_blocks.1.1.transformer_blocks.0."
QUERY, KEY = f"{_BLOCK}attn1.to_q.weight", f"{_BLOCK}attn2.to_k.weight"
CONVOLUTION = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
POINTWISE = "diffusion_model.input_blocks.1.1.proj_in.weight"
NORM, BIAS = f"{_BLOCK}norm1.weight", "diffusion_model.input_blocks.1.0.in_layers.2.bias"
TEXT = "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
TABLE = "clip_l.transformer.text_model.embeddings.position_embedding.weight"
LAYERS = (QUERY, KEY, CONVOLUTION, POINTWISE, TEXT)
SHAPES = {**SD1, BIAS: (320,)}


def model(name, weights):
    return Model(name, {key: tuple(weight.shape) for key, weight in weights.items()}, weights.__getitem__)


def base_weights(keys=(*LAYERS, NORM, BIAS, TABLE), dtype=torch.float16):
    return {key: (random(*SHAPES[key], seed=n) * 0.03).to(dtype) for n, key in enumerate(keys)}


def planted(weights, rank=8, size=0.02, seed=100, dtype=None, keys=LAYERS):
    """The weights with a random change of this rank, as a fine-tune would be stored."""
    tuned = dict(weights)
    for n, key in enumerate(keys):
        own = weights[key]
        flat = own.flatten(1)
        change = random(len(flat), rank, seed=seed + n) @ random(rank, flat.shape[1], seed=seed + 50 + n)
        tuned[key] = (own.float() + (change * size / rank**0.5).reshape(own.shape)).to(dtype or own.dtype)
    return tuned


def run(base, tuned, rule, dialect="kohya", **more):
    """What was extracted, and the change that the file makes of each weight when it is read again."""
    tensors, steps = {}, []
    models = pair(model("base", base), model("tuned", tuned))
    piecewise = Piecewise(models.base.shapes, dialect, tensors.__setitem__)
    more.setdefault("dtype", torch.float32)
    found = extract(models, rule, on_step=lambda done, total: steps.append((done, total)), **more)
    extracted = record(found, piecewise.take)
    file = read(tensors, piecewise.header({}))
    changes = {key: torch.zeros(weight.shape, dtype=torch.float64) for key, weight in base.items()}
    for place, adapter in match(file, models.base.shapes).found.items():
        part = part_of(changes[key_of(place)], place)
        part += adapter.delta(part.shape).double()
    assert steps and steps[-1] == (steps[-1][1], steps[-1][1])
    return extracted, changes, tensors


RULES = [("rank", 5), ("energy", 0.9), ("frobenius", 0.97), ("ratio", 3)]


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "onetrainer"])
@pytest.mark.parametrize("rule, amount", RULES)
def test_each_layer_is_within_one_percent_of_the_best_of_its_rank(rule, amount, dialect):
    base = base_weights(LAYERS)
    tuned = {key: (weight.float() + random(*weight.shape, seed=9) * 0.01) for key, weight in base.items()}
    extracted, changes, _ = run(base, tuned, Rule(rule, amount, most=40), dialect)
    assert {layer.place for layer in extracted.layers} == set(LAYERS) and not extracted.left_out
    lost = total = 0.0
    for layer in extracted.layers:
        difference = (tuned[layer.place].double() - base[layer.place].double()).flatten(1)
        values = torch.linalg.svdvals(difference)
        error = (changes[layer.place].flatten(1) - difference).norm().item()
        assert error <= 1.01 * values[layer.rank :].norm().item()
        assert layer.error * layer.size == pytest.approx(error, rel=1e-4)
        lost, total = lost + error**2, total + values.norm().item() ** 2
    assert extracted.error == pytest.approx((lost / total) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 8, 40])
def test_automatic_finds_the_planted_rank_in_every_layer(rank, dtype):
    base = base_weights(LAYERS, dtype)
    extracted, changes, _ = run(base, planted(base, rank, size=0.05), Rule("automatic", most=128))
    assert {layer.place: layer.rank for layer in extracted.layers} == dict.fromkeys(LAYERS, rank)
    assert not extracted.capped


def test_a_largest_rank_bounds_automatic_and_says_where_it_did():
    base = base_weights(LAYERS)
    extracted, _, _ = run(base, planted(base, 20), Rule("automatic", most=6))
    assert {layer.rank for layer in extracted.layers} == {6} and set(extracted.capped) == set(LAYERS)


def test_the_file_at_strength_1_gives_the_tuned_model_back_within_the_stated_error():
    base = base_weights()
    tuned = planted(base, 8)
    tuned[NORM] = (base[NORM].float() * 1.1).half()
    tuned[BIAS] = base[BIAS] + 0.01
    extracted, changes, _ = run(base, tuned, Rule("automatic", most=64), dtype=torch.float16)
    for layer in extracted.layers:
        difference = tuned[layer.place].double() - base[layer.place].double()
        error = (changes[layer.place] - difference).norm().item()
        assert error <= (layer.error + 1e-6) * layer.size
        assert error < 0.05 * layer.size  # what is lost is the rounding to fp16
    assert set(extracted.whole) == {NORM, BIAS}
    for key in extracted.whole:
        torch.testing.assert_close(changes[key], tuned[key].double() - base[key].double(), rtol=1e-3, atol=1e-6)
    assert extracted.equal == (TABLE,)


def test_norms_and_biases_are_listed_where_they_are_not_wanted_or_cannot_be_held():
    base = base_weights()
    tuned = planted(base, 4)
    tuned[NORM], tuned[BIAS] = base[NORM] + 0.5, base[BIAS] + 0.5
    extracted, changes, _ = run(base, tuned, Rule("rank", 4), with_vectors=False)
    assert set(extracted.left_out) == {NORM, BIAS} and not extracted.whole and not changes[NORM].any()
    assert "listed and not written" in extracted.left_out[NORM]
    diffusers, _, _ = run(base, tuned, Rule("rank", 4), "diffusers")
    assert "which diffusers files cannot hold" in diffusers.left_out[NORM]


def test_layers_without_a_difference_are_skipped_and_said():
    base = base_weights(LAYERS)
    extracted, _, tensors = run(base, planted(base, 4, keys=(QUERY, TEXT)), Rule("rank", 4))
    assert set(extracted.equal) == {KEY, CONVOLUTION, POINTWISE}
    assert sum(name.endswith("lora_up.weight") for name in tensors) == 2


def test_a_difference_that_is_only_rounding_is_not_written_by_automatic():
    exact = {key: random(*SHAPES[key], seed=n) * 0.03 for n, key in enumerate(LAYERS)}
    base = {key: weight.half() for key, weight in exact.items()}
    tuned = planted(base, 4, keys=(QUERY,))
    tuned[KEY] = exact[KEY].bfloat16().half()
    models = {**base, KEY: exact[KEY].bfloat16()}
    tuned[KEY] = exact[KEY].half()
    extracted, changes, _ = run(models, tuned, Rule("automatic", most=64))
    assert extracted.left_out == {KEY: ROUNDING} and not changes[KEY].any()
    assert [layer.rank for layer in extracted.layers if layer.place == KEY] == [0]


def test_what_one_model_lacks_or_has_in_another_shape_is_listed():
    base, first = base_weights(), "diffusion_model.input_blocks.0.0.weight"
    tuned = planted(base, 4)
    base["diffusion_model.only.weight"] = torch.ones(4, 4)
    base[first], tuned[first] = torch.ones(320, 4, 3, 3), torch.ones(320, 9, 3, 3)
    extracted, _, _ = run(base, tuned, Rule("rank", 4))
    assert extracted.left_out["diffusion_model.only.weight"] == "tuned has no such weight"
    assert extracted.left_out[first] == "its shape is [320, 4, 3, 3] in base and [320, 9, 3, 3] in tuned"


def test_a_rank_above_the_weights_keeps_all_of_the_difference():
    small = "diffusion_model.out.2.weight"
    base = {small: random(4, 320, 3, 3) * 0.03, QUERY: random(320, 320, seed=1)}
    tuned = {small: base[small] + random(4, 320, 3, 3, seed=2) * 0.01, QUERY: base[QUERY] + 0.01}
    extracted, changes, _ = run(base, tuned, Rule("rank", 4096))
    ranks = {layer.place: (layer.rank, layer.before) for layer in extracted.layers}
    assert ranks[small] == (4, 4) and extracted.error < 1e-4  # fp32


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_a_file_size_is_hit(dialect):
    base = base_weights()
    tuned = {key: (weight.float() + random(*weight.shape, seed=9) * 0.01).half() for key, weight in base.items()}
    spell = spell_of({key: tuple(weight.shape) for key, weight in base.items()}, dialect, {})
    extracted, _, tensors = run(base, tuned, Rule("size", 0.25, most=64), dialect, spell=spell, dtype=torch.float16)
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert 0.97 * 250_000 < size <= 250_000  # the names take the rest of so small a file
    fixed, _, own = run(base, tuned, Rule("rank", 5), dialect, dtype=torch.float16)
    bytes_ = sum(tensor.nbytes for tensor in own.values())
    sized, _, _ = run(
        base, tuned, Rule("size", bytes_ / 1e6 + 0.003, most=64), dialect, spell=spell, dtype=torch.float16
    )
    assert sized.error <= fixed.error * 1.0005  # both by a randomised SVD


# ---- what cannot be extracted


def test_equal_models_are_refused():
    base = base_weights()
    with pytest.raises(LoRAError, match="the two models are equal: none of their 8 weights differs"):
        run(base, dict(base), Rule("rank", 4))


def test_models_of_different_families_are_refused():
    other = "diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"
    with pytest.raises(LoRAError, match="expected"):
        pair(model("a", {other: torch.ones(6, 2)}), model("b", base_weights()))
    sd1, sdxl = {KEY: torch.ones(320, 768)}, {KEY: torch.ones(320, 2048)}
    with pytest.raises(LoRAError, match="base is SD 1 and tuned is SDXL: the difference of two models of one family"):
        pair(model("base", sd1), model("tuned", sdxl))


def test_models_of_different_shapes_are_refused():
    base = {QUERY: torch.ones(320, 320), NORM: torch.ones(320), TEXT: torch.ones(768, 768)}
    tuned = {QUERY: torch.ones(640, 640), NORM: torch.ones(640), TEXT: torch.ones(768, 768)}
    with pytest.raises(LoRAError, match="of 3 weights with the same names 2 differ in shape"):
        pair(model("base", base), model("tuned", tuned))


@pytest.mark.parametrize("key", [QUERY, NORM])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named_with_its_model(key, bad):
    base = base_weights()
    tuned = {name: weight + 0.01 for name, weight in base.items()}
    tuned[key] = tuned[key].clone()
    tuned[key].view(-1)[5] = bad
    with pytest.raises(LoRAError, match=f"{key} of tuned holds NaN or infinity"):
        run(base, tuned, Rule("rank", 4))


def test_an_unknown_dialect_is_refused():
    with pytest.raises(LoRAError, match="the dialect is 'a1111'"):
        run(base_weights(), base_weights(), Rule("rank", 4), "a1111")


def test_the_work_may_be_stopped():
    base = base_weights(LAYERS)
    models = pair(model("base", base), model("tuned", planted(base)))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(extract(models, Rule("rank", 4), on_step=stop))
    assert EQUAL


def test_the_largest_weights_come_first_so_that_what_they_free_holds_the_others():
    shapes = {f"diffusion_model.{n}.weight": (side, side) for n, side in enumerate((8, 32, 16))}
    base = {key: torch.randn(shape) for key, shape in shapes.items()}
    sides = [Model(name, shapes, lambda key, by=by: base[key] * by) for name, by in (("base", 1.0), ("tuned", 2.0))]
    found = extract(pair(*sides), Rule("rank", 4), on_step=lambda done, total: None)
    assert [one.key for one in found] == [f"diffusion_model.{n}.weight" for n in (1, 2, 0)]


def test_nothing_of_torch_is_kept_of_a_written_layer():
    """Neither numbers nor tensors without any, whose small pieces of memory would lie between the layers to come."""
    base = base_weights()
    models = pair(model("base", base), model("tuned", planted(base)))
    pieces = Piecewise(models.base.shapes, "kohya", lambda name, tensor: None)
    record(extract(models, Rule("rank", 4), on_step=lambda done, total: None), pieces.take)
    reached, rest = set(), [vars(pieces)]
    while rest:
        one = rest.pop()
        if id(one) not in reached and isinstance(one, (dict, list, tuple, torch.Tensor)):
            reached.add(id(one))
            assert not isinstance(one, torch.Tensor)
            rest += gc.get_referents(one)
    assert len(reached) > len(LAYERS)
