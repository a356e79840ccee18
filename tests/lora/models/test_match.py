"""A file's adapters to a model's weights, real files included."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import LoRAFile, read
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.kinds.magnitude import IA3
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.names import spellings

from ...support.files.lora_layouts import LAYOUTS


def adapter(shape, rank=1):
    return LoRA(torch.zeros(shape[0], rank), torch.zeros(rank, *shape[1:]), 1.0)


def holding(adapters):
    return LoRAFile("kohya", adapters, {}, (), {})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_an_adapter_for_every_weight_finds_every_weight(layout, dialect):
    shapes = LAYOUTS[layout]()
    names = {key: name for key, name in spellings(shapes, dialect).items() if len(shapes[key]) > 1}
    file = holding(
        {
            name: LoRA(
                torch.empty(shapes[key][0], 1, device="meta"), torch.empty(1, *shapes[key][1:], device="meta"), 1.0
            )
            for key, name in names.items()
        }
    )
    result = match(file, shapes)
    assert result.found.keys() == names.keys() and not result.homeless and not result.misfit
    assert all(result.found[key] is file.adapters[name] for key, name in names.items())


@pytest.mark.parametrize("name, words", [("analog_svd_rank4.safetensors", 0), ("lora_disney.safetensors", 2)])
def test_the_real_files_fit_sd15_whole(name, words, shared_data):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(shared_data / "lora" / name, "pt") as handle:
        file = read({key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata())
    shapes = LAYOUTS["SD15"]()
    result = match(file, shapes)
    assert (len(result.found), file.unread, result.homeless, result.misfit) == (192, {}, {}, {})
    assert len(file.embeddings) == words
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight"
    assert result.found[key].scale == 1.0
    assert result.found[key].delta(shapes[key]).abs().max() > 0


def test_a_real_file_does_not_fit_sd2_and_every_misfit_has_both_shapes(shared_data):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(shared_data / "lora" / "lora_disney.safetensors", "pt") as handle:
        file = read({key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata())
    result = match(file, LAYOUTS["SD2"]())
    assert len(result.found) + len(result.homeless) + len(result.misfit) == 192
    assert "768]" in result.misfit["unet:6"] and "1024]" in result.misfit["unet:6"]


def test_a_homeless_module_gets_the_nearest_key():
    shapes = LAYOUTS["SD15"]()
    result = match(
        holding(
            {
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn3_to_q": adapter((1, 1)),
                "lora_unt_mid_block_attentions_0_proj_in": adapter((1, 1)),
            }
        ),
        shapes,
    )
    near = list(result.homeless.values())
    assert near[0] in [f"diffusion_model.input_blocks.4.1.transformer_blocks.0.attn{n}.to_q.weight" for n in (1, 2)]
    assert near[1] == "diffusion_model.middle_block.1.proj_in.weight"


def test_a_model_without_keys_leaves_all_homeless():
    assert match(holding({"a": adapter((2, 2))}), {}).homeless == {"a": ""}


def test_a_whole_file_of_another_model_is_answered_soon():
    file = holding({f"lora_unet_double_blocks_{n}_img_attn_qkv": adapter((2, 2)) for n in range(600)})
    assert len(match(file, LAYOUTS["SDXL"]()).homeless) == 600


def test_two_names_of_one_weight_are_both_refused():
    key = "diffusion_model.input_blocks.1.1.proj_in.weight"
    names = ("lora_unet_input_blocks_1_1_proj_in", "lora_unet_down_blocks_0_attentions_0_proj_in")
    result = match(holding({name: adapter((320, 320)) for name in names}), {key: (320, 320, 1, 1)} | LAYOUTS["SD15"]())
    assert not result.found and set(result.misfit) == set(names)
    assert all(key in reason and names[0] in reason and names[1] in reason for reason in result.misfit.values())


def test_a_linear_adapter_fits_a_1x1_convolution_of_the_model():
    result = match(holding({"lora_unet_input_blocks_1_1_proj_in": adapter((320, 320))}), LAYOUTS["SD15"]())
    assert len(result.found) == 1


PROJ, BIASED = "diffusion_model.input_blocks.1.1.proj_in", {"diffusion_model.input_blocks.1.1.proj_in.bias": (320,)}
NAME = "lora_unet_input_blocks_1_1_proj_in"


def test_a_bias_lies_beside_its_weight():
    file = holding({NAME: adapter((320, 320)), f"{NAME}.bias": Difference(torch.ones(320))})
    result = match(file, LAYOUTS["SD15"]() | BIASED)
    assert result.found.keys() == {f"{PROJ}.weight", f"{PROJ}.bias"} and not result.homeless and not result.misfit
    assert result.modules == {f"{PROJ}.weight": NAME, f"{PROJ}.bias": f"{NAME}.bias"}


@pytest.mark.parametrize(
    "weight, bias, shapes",
    [
        (adapter((320, 320)), Difference(torch.ones(319)), BIASED),
        (adapter((320, 319)), Difference(torch.ones(320)), BIASED),
        (adapter((320, 320)), Difference(torch.ones(320)), {}),
    ],
)
def test_a_weight_and_its_bias_are_taken_together_or_not_at_all(weight, bias, shapes):
    result = match(holding({NAME: weight, f"{NAME}.bias": bias}), LAYOUTS["SD15"]() | shapes)
    assert not result.found and not result.modules
    assert {*result.homeless, *result.misfit} == {NAME, f"{NAME}.bias"}
    assert "belongs to it" in " ".join(result.misfit.values())


def test_pefts_ia3_scales_the_bias_where_there_is_one():
    file = holding({NAME: IA3(torch.ones(320), False, with_bias=True)})
    assert len(match(file, LAYOUTS["SD15"]()).found) == 1
    found = match(file, LAYOUTS["SD15"]() | BIASED).found
    assert torch.equal(found[f"{PROJ}.bias"].delta(torch.full((320,), 2.0), 0.5), torch.ones(320))


@pytest.mark.parametrize(
    "name",
    [
        "oft_unet_input_blocks_1_1_proj_in",
        "lycoris_down_blocks_0_attentions_0_proj_in",
        "oft_unet_down_blocks_0_attentions_0_proj_in",
        "lora_prior_unet_input_blocks_1_1_proj_in",
    ],
)
def test_the_prefixes_of_other_trainers_are_known(name):
    assert f"{PROJ}.weight" in match(holding({name: adapter((320, 320))}), LAYOUTS["SD15"]()).found
