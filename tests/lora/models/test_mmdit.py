"""Flux and SD3: names against diffusers' own modules, rows of fused weights, every dialect there and back."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.kinds.magnitude import DoRA
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.match import match, part_of, shape_at
from clip_vae_lora.lora.models.names import target_map
from clip_vae_lora.lora.models.places import Slice
from clip_vae_lora.lora.models.rows import Swapped

from ...support.files.lora_layouts import flux, sd3

SMALL = {"Flux": flux(128, 2, 3, 32), "SD3": sd3(128, 3, 32)}


@pytest.fixture(scope="module")
def theirs():
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    torch_device = torch.device("meta")
    with torch_device:
        return {
            "Flux": diffusers.FluxTransformer2DModel(
                in_channels=64,
                num_layers=2,
                num_single_layers=3,
                attention_head_dim=128,
                num_attention_heads=1,
                joint_attention_dim=32,
                pooled_projection_dim=768,
                guidance_embeds=True,
                axes_dims_rope=(16, 56, 56),
            ),
            "SD3": diffusers.SD3Transformer2DModel(
                num_layers=3,
                attention_head_dim=64,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=128,
                pooled_projection_dim=2048,
                out_channels=16,
                in_channels=16,
            ),
        }


@pytest.mark.parametrize("family", SMALL)
def test_every_layer_of_diffusers_has_a_place_of_its_own_shape(family, theirs):
    shapes, targets, places = SMALL[family], target_map(SMALL[family]), []
    for name, part in theirs[family].named_modules():
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d):
            target = targets[f"transformer.{name}"]
            places.append(target.place)
            assert shape_at(target.place, shapes) == tuple(part.weight.shape), name
            for other in (
                f"lycoris_{name.replace('.', '_')}",
                f"lora_transformer_{name.replace('.', '_')}",
                f"base_model.model.{name}",
            ):
                assert targets[other] == target
    covered = {}
    for place in places:
        key, first, rows = (place.key, *place.rows[1:]) if isinstance(place, Slice) else (place, 0, shapes[place][0])
        covered.setdefault(key, []).append((first, rows))
    assert covered.keys() == {key for key in shapes if key.endswith(".weight")}
    for key, spans in covered.items():  # every row once
        assert sorted(row for first, rows in spans for row in range(first, first + rows)) == list(range(shapes[key][0]))


def lora(shape, seed, rank=2, alpha=1.0):
    g = torch.Generator().manual_seed(seed)
    return LoRA(torch.randn(shape[0], rank, generator=g), torch.randn(rank, *shape[1:], generator=g), alpha)


def applied(found, shapes):
    weights = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for place, adapter in found.items():
        part_of(weights[place if isinstance(place, str) else place.key], place).add_(
            adapter.delta(shape_at(place, shapes))
        )
    return weights


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "lycoris", "onetrainer", "diffusers_0.2", "bfl"])
def test_a_whole_model_goes_through_every_dialect_and_changes_the_same(family, dialect):
    if (family, dialect) == ("SD3", "bfl"):
        pytest.skip("BFL has no SD3")
    shapes = {key: shape for key, shape in SMALL[family].items() if key.endswith(".weight")}
    found = {key: lora(shape, n) for n, (key, shape) in enumerate(shapes.items())}
    told = rename(found, shapes, dialect)
    if dialect == "diffusers_0.2":  # it has no names for what it cannot hold in the same order of rows
        assert all("final_layer" in key or "context_block.adaLN" in key for key in told.unnamed)
        found = {place: adapter for place, adapter in found.items() if place not in told.unnamed}
    else:
        assert not told.unnamed
    result = match(read(*write(told.named, dialect)), shapes)
    assert not result.homeless and not result.misfit
    before, after = applied(found, shapes), applied(result.found, shapes)
    for key in shapes:
        torch.testing.assert_close(after[key], before[key], rtol=1e-5, atol=1e-5)


def test_parts_are_joined_to_the_whole_and_split_again():
    shapes, key = SMALL["Flux"], "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    parts = {Slice(key, (0, 128 * n, 128)): lora((128, 128), n, rank=n + 1, alpha=0.5 + n) for n in (0, 2)}
    whole = rename(parts, shapes, "kohya").named
    assert list(whole) == ["lora_unet_double_blocks_0_img_attn_qkv"]
    expected = applied(parts, shapes)[key]
    torch.testing.assert_close(next(iter(whole.values())).delta(shapes[key]), expected, rtol=1e-5, atol=1e-5)
    again = rename({key: next(iter(whole.values()))}, shapes, "diffusers").named
    assert set(again) == {f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"}


def test_another_kind_on_rows_is_not_joined_but_said():
    shapes, key = SMALL["Flux"], "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    place = Slice(key, (0, 128, 128))
    told = rename({place: DoRA(lora((128, 128), 0), torch.ones(128, 1))}, shapes, "kohya")
    assert not told.named and "joined" in told.unnamed[place]


@pytest.mark.parametrize(
    "family, name",
    [
        ("Flux", "transformer.norm_out.linear"),
        ("SD3", "transformer.norm_out.linear"),
        ("SD3", "transformer.transformer_blocks.2.norm1_context.linear"),
    ],
)
def test_the_last_norms_halves_are_exchanged(family, name):
    shapes = SMALL[family]
    target = target_map(shapes)[name]
    assert target.swapped
    adapter = lora(shapes[target.place], 0)
    magnitude = torch.rand(shapes[target.place][0], 1) + 0.5
    tensors = {f"{name}.lora_A.weight": adapter.down, f"{name}.lora_B.weight": adapter.up}
    plain = match(read(tensors), shapes).found[target.place].delta(shapes[target.place])
    first, second = LoRA(adapter.up, adapter.down, 2.0).delta(shapes[target.place]).chunk(2)
    torch.testing.assert_close(plain, torch.cat([second, first]))
    dora = match(read(tensors | {f"{name}.dora_scale": magnitude}), shapes).found[target.place]
    weight = torch.randn(shapes[target.place])
    assert isinstance(dora, Swapped) and dora.kind == "DoRA of LoRA"
    one, two = weight.chunk(2)
    expected = dora.inner.delta(torch.cat([two, one])).chunk(2)
    torch.testing.assert_close(dora.delta(weight), torch.cat([expected[1], expected[0]]))


def test_xlabs_processors_lie_in_the_fused_weights():
    shapes = SMALL["Flux"]
    names = {
        "double_blocks.1.processor.qkv_lora1": (384, 128),
        "double_blocks.1.processor.proj_lora2": (128, 128),
        "single_blocks.2.processor.qkv_lora": (384, 128),
        "single_blocks.2.processor.proj_lora": (128, 640),
    }
    adapters = {name: lora(shape, 1, alpha=2.0) for name, shape in names.items()}
    file = read(*write(adapters, "xlabs"))
    assert file.dialect == "xlabs"
    found = match(file, shapes).found
    single = Slice("diffusion_model.single_blocks.2.linear1.weight", (0, 0, 384))
    assert set(found) == {
        "diffusion_model.double_blocks.1.img_attn.qkv.weight",
        single,
        "diffusion_model.double_blocks.1.txt_attn.proj.weight",
        "diffusion_model.single_blocks.2.linear2.weight",
    }
    assert torch.equal(found[single].up, adapters["single_blocks.2.processor.qkv_lora"].up)


def test_bfl_control_loras_change_biases_and_replace_norms():
    shapes = SMALL["Flux"]
    qkv, norm = "double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.norm.key_norm.scale"
    adapter, bias, scale = lora((384, 128), 0), torch.randn(384), torch.rand(128)
    found = match(
        read(
            {
                f"{qkv}.lora_A.weight": adapter.down,
                f"{qkv}.lora_B.weight": adapter.up,
                f"{qkv}.lora_B.bias": bias,
                norm: scale,
            }
        ),
        shapes,
    ).found
    assert isinstance(found[f"diffusion_model.{qkv}.bias"], Difference)
    weight = torch.ones(128)
    torch.testing.assert_close(weight + found[f"diffusion_model.{norm}"].delta(weight), scale)


def test_a_whole_weight_and_its_rows_in_one_file_are_refused():
    shapes = SMALL["Flux"]
    tensors = {}
    for name, rows in (
        ("diffusion_model.double_blocks.0.img_attn.qkv", 384),
        ("transformer.transformer_blocks.0.attn.to_q", 128),
    ):
        tensors |= {f"{name}.lora_A.weight": torch.ones(2, 128), f"{name}.lora_B.weight": torch.ones(rows, 2)}
    result = match(read(tensors), shapes)
    assert not result.found and len(result.misfit) == 2 and "either the whole" in next(iter(result.misfit.values()))
