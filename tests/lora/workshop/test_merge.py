"""Merging: what a merged file changes is what the stack of its files changes, whatever their kinds and dialects."""

import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.merging.merge import merge
from clip_vae_lora.lora.workshop.merging.methods import Recipe
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.sources import Source

from ...support.loras.shop import (
    CONVOLUTION,
    FP32,
    KEY,
    NORM,
    PLACES,
    QUERY,
    SD1,
    TEXT,
    agree,
    dense,
    lora_of,
    plain,
    random,
    relative,
    source_of,
    stack,
    written,
)


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "lycoris", "onetrainer", "diffusers_0.2"])
def test_the_merged_file_at_1_is_the_stack_in_every_dialect(dialect):
    sources = [
        plain(4, 0, "kohya", strength_model=0.7, strength_clip=0.3),
        plain(7, 10, "diffusers", strength_model=-0.4, strength_clip=1.2),
        plain(2, 20, "peft", places=(QUERY, CONVOLUTION), strength_model=1.5),
    ]
    merged = merge(gather(sources))
    expected = stack(sources)
    agree(dense(written(merged, dialect)), {k: c for k, c in expected.items() if k != TEXT or dialect != "lycoris"})
    assert merged.error < 1e-6 and merged.from_stack < 1e-6
    assert {layer.place: layer.ranks for layer in merged.layers}[QUERY] == (4, 7, 2)
    assert {layer.place: layer.rank for layer in merged.layers}[QUERY] == 13


def kinds():
    shape = SD1[QUERY]
    kernel = SD1[CONVOLUTION]
    return [
        source_of({QUERY: lora_of(shape), CONVOLUTION: lora_of(kernel)}, name="lora"),
        source_of(
            {
                QUERY: LoHa(
                    *(random(*s, seed=n) * 0.3 for n, s in enumerate(((320, 3), (3, 320), (320, 3), (3, 320)))), 1.0
                )
            },
            name="loha",
        ),
        source_of(
            {
                QUERY: LoKr(2.0, w1=random(4, 4), w2_a=random(80, 3), w2_b=random(3, 80)),
                CONVOLUTION: LoKr(1.0, w1=random(4, 4), w2_a=random(2, 80), w2_b=random(2, 80), t2=random(2, 2, 3, 3)),
            },
            name="lokr",
        ),
        source_of({KEY: Difference(random(320, 768) * 0.01), NORM: Difference(random(320))}, name="full"),
        source_of(
            {CONVOLUTION: LoRA(random(320, 3, 1, 1), random(3, 320, 1, 1), 1.0, random(3, 3, 3, 3))}, name="tucker"
        ),
    ]


def test_all_kinds_that_add_are_merged_exactly():
    sources = kinds()
    merged = merge(gather(sources))
    agree(dense(written(merged)), stack(sources), 2e-6)
    ranks = {layer.place: layer.ranks for layer in merged.layers}
    assert ranks[QUERY] == (4, 9, 12, 0, 0)
    assert ranks[NORM] == (0, 0, 0, 1, 0) and isinstance(merged.adapters[NORM], Difference)
    assert isinstance(merged.adapters[KEY], Difference)


def test_a_dialect_that_holds_lora_alone_gets_a_full_difference_as_a_lora_and_says_what_it_cannot_hold():
    merged = merge(gather(kinds()))
    adapters, unnamed = named(merged.gathered, merged.adapters, "diffusers")
    assert list(unnamed) == [NORM] and "diffusers files cannot hold" in unnamed[NORM]
    tensors, header = write(adapters, "diffusers")
    found = dense(Source("x", read(tensors, header), header))
    expected = stack(kinds())
    agree(found, {key: expected[key] for key in found}, 2e-6)
    assert set(found) == {QUERY, KEY, CONVOLUTION}


def test_what_depends_on_the_weight_is_left_out_by_name_or_merged_with_the_base():
    weights = {QUERY: random(320, 320, seed=5)}
    sources = [
        plain(4, 0, places=(QUERY,)),
        source_of({QUERY: DoRA(lora_of(SD1[QUERY]), random(320, 1).abs()), KEY: lora_of(SD1[KEY])}, name="dora"),
        source_of({QUERY: IA3(random(320) * 0.1, False)}, name="ia3"),
    ]
    without = gather(sources)
    assert {name: list(why.values())[0].split(" depends")[0] for name, why in without.left_out.items()} == {
        "dora": "DoRA of LoRA",
        "ia3": "(IA)^3",
    }
    merged = merge(gather(sources, weights=True), weight_of=weights.__getitem__)
    agree(dense(written(merged)), stack(sources, weights=weights), 2e-6)


def test_strengths_by_block_are_those_of_the_loader():
    sources = [plain(4, 0, blocks="IN01: 0.5, text: 0", strength_model=2.0), plain(4, 5, places=(QUERY, TEXT))]
    found = dense(written(merge(gather(sources))))
    one, two = dense(sources[0]), dense(sources[1])
    assert relative(found[QUERY], one[QUERY] * 0.5 + two[QUERY]) < FP32
    assert relative(found[TEXT], two[TEXT]) < FP32


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_another_type_rounds_once_and_the_rounding_is_in_the_error(dtype, tolerance):
    sources = [plain(4, 0), plain(7, 10)]
    merged = merge(gather(sources), dtype=dtype)
    assert all(adapter.up.dtype == dtype for adapter in merged.adapters.values())
    found, expected = dense(written(merged)), stack(sources)
    for layer in merged.layers:
        assert layer.error == pytest.approx(relative(found[layer.place], expected[layer.place]), rel=1e-2)
        assert 0 < layer.error < tolerance


def test_the_type_is_by_default_the_one_that_holds_all_files():
    half, brain = plain(2, 0, dtype=torch.float16), plain(2, 1, dtype=torch.bfloat16)
    assert merge(gather([half, half])).dtype == torch.float16
    assert merge(gather([half, brain])).dtype == torch.float32


def test_fused_and_split_attention_meet_in_one_weight():
    flux = PUBLISHED["Flux"][1]()
    key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    small = {name: shape for name, shape in flux.items() if ".1." not in name}
    fused, split = (
        source_of({key: lora_of(flux[key], 2, seed=n)}, d, d, small) for n, d in enumerate(("kohya", "peft"))
    )
    assert len(split.file.adapters) == 3
    merged = merge(gather([fused, split]))
    assert [(layer.place, layer.ranks) for layer in merged.layers] == [(key, (2, 2))]  # shared down: no rank is lost
    adapters, _ = named(merged.gathered, merged.adapters, "kohya")
    assert list(adapters) == ["lora_unet_double_blocks_0_img_attn_qkv"]
    one, two = (dense(source, flux)[key] for source in (fused, split))
    assert relative(merged.adapters[key].delta(flux[key]), one + two) < FP32


def test_files_of_no_known_model_are_merged_by_their_own_names():
    name = "base_model.model.encoder.layer.3.output.dense"
    sources = []
    for n in range(3):
        up, down = random(16, 2, seed=n), random(2, 8, seed=n + 9)
        tensors = {f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": down}
        sources.append(Source(f"{n}", read(tensors), {}, strength_model=n - 0.5))
    merged = merge(gather(sources), Recipe("sum"))
    adapters, _ = named(merged.gathered, merged.adapters, "peft")
    expected = sum(s.file.adapters[name].delta((16, 8), s.strength_model).double() for s in sources)
    assert relative(adapters[name].delta((16, 8)), expected) < FP32
    with pytest.raises(LoRAError, match="kohya"):
        named(merged.gathered, merged.adapters, "kohya")


def test_what_has_no_place_in_the_connected_model_is_said():
    shapes = {key: shape for key, shape in SD1.items() if key != TEXT}
    found = gather([plain(2, 0, name="a")], shapes)
    assert list(found.left_out["a"].values()) == ["it has no place in what is connected"] and TEXT not in found.layers


def test_progress_counts_the_weights_and_may_stop():
    steps = []
    merge(gather([plain(2, 0)]), on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(n, len(PLACES)) for n in range(1, len(PLACES) + 1)]

    class Cancelled(Exception):
        pass

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        merge(gather([plain(2, 0)]), on_step=stop)


@pytest.mark.parametrize(
    "sources, more, message",
    [
        ([], {}, "choose at least one"),
        ([plain(2, 0, strength_model=math.nan, name="bad")], {}, "strength of bad on the model is nan"),
        ([plain(2, 0, strength_clip=math.inf, name="bad")], {}, "on the text encoders is inf"),
        ([plain(2, 0, strength_model=0, strength_clip=0)], {}, "nothing is left"),
        ([plain(2, 0), plain(2, 0, strength_model=-1, strength_clip=-1)], {}, "nothing is left"),
        ([plain(2, 0, blocks="double.0: 1", name="bad")], {}, "the blocks for bad: 'double.0' selects nothing"),
    ],
)
def test_what_cannot_be_merged_is_said(sources, more, message):
    with pytest.raises(LoRAError, match=message):
        merge(gather(sources), **more)


def test_files_of_different_families_are_refused_by_name():
    flux = PUBLISHED["Flux"][1]()
    key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    other = source_of({key: lora_of(flux[key])}, "kohya", "flux.safetensors", flux)
    with pytest.raises(LoRAError, match="sd.safetensors was made for SD 1 and flux.safetensors for .*Flux"):
        gather([plain(2, 0, name="sd.safetensors"), other])


def file_of(sizes, name):
    tensors = {}
    for module, (out, inputs) in sizes.items():
        tensors |= {f"{module}.lora_up.weight": random(out, 2), f"{module}.lora_down.weight": random(2, inputs)}
    return Source(name, read(tensors, {}), {})


Q, K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "diffusion_model.blocks.0.self_attn.q"
FC, OWN = "lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_unet_own_"


@pytest.mark.parametrize(
    "one, two",
    [
        ({K: (1536, 1536)}, {K: (5120, 5120)}),  # Wan 1.3B and 14B
        ({FC: (3072, 768)}, {FC: (4096, 1024)}),  # the text encoders of SD 1 and SD 2
        ({Q: (320, 320), FC: (3072, 768)}, {FC: (4096, 1024)}),
        ({OWN: (8, 8), f"{OWN}0": (8, 8)}, {OWN: (8, 12), f"{OWN}0": (8, 12), f"{OWN}1": (8, 8)}),
    ],
)
def test_files_with_the_names_of_one_family_and_the_sizes_of_two_models_are_refused_with_both_shapes(one, two):
    module = next(module for module in two if module in one)
    for sources in ([file_of(one, "one"), file_of(two, "two")], [file_of(two, "two"), file_of(one, "one")]):
        with pytest.raises(LoRAError, match=r"(two|one) was made for another model than (one|two)") as said:
            gather(sources)
        assert str(list(two[module])) in str(said.value) and str(list(one[module])) in str(said.value)


def test_a_module_of_another_size_in_a_file_that_fits_is_left_out_and_said():
    sizes = {f"{OWN}{n}": (8, 8) for n in range(3)}
    found = gather([file_of(sizes, "one"), file_of(sizes | {f"{OWN}0": (8, 12)}, "two")])
    assert list(found.left_out) == ["two"] and "[8, 12]" in found.left_out["two"][f"{OWN}0"]


def test_a_change_that_fp16_cannot_hold_is_said():
    huge = {QUERY: LoRA(torch.full((320, 1), 1e6), torch.full((1, 320), 1e5), 1.0)}
    with pytest.raises(LoRAError, match="float16"):
        merge(gather([source_of(huge)]), dtype=torch.float16)
