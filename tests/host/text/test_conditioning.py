"""CVL_CombineConditioning beside the stock nodes, and saving and loading in ComfyUI's own folders."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.encoding.conditioning import same
from clip_vae_lora.files.tensors import open_tensors


def entry(tokens=77, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    hidden, pooled = torch.randn(1, tokens, 16, generator=generator), torch.randn(1, 8, generator=generator)
    return [hidden, {"pooled_output": pooled, **options}]


def combined(comfyui, *arguments):
    return comfyui.nodes["CVL_CombineConditioning"]().combine(*arguments)["result"][0]


@pytest.mark.parametrize("percent", range(0, 101, 10))
def test_an_average_equals_conditioning_average(comfyui, percent):
    strength = percent / 100
    first, second = [entry(154), entry(seed=2)], [entry(seed=1)]
    (stock,) = comfyui.nodes["ConditioningAverage"]().addWeighted(first, second, strength)
    assert same(combined(comfyui, first, second, "average", strength, 1.0 - strength), stock)


def test_concat_equals_conditioning_concat(comfyui):
    first, second = [entry(area=(1, 2, 3, 4)), entry(154, 2)], [entry(seed=1)]
    (stock,) = comfyui.nodes["ConditioningConcat"]().concat(first, second)
    assert same(combined(comfyui, first, second, "concat"), stock)


def test_what_stock_nodes_put_into_a_conditioning_is_saved_and_loaded_equal(comfyui):
    nodes = comfyui.nodes
    (conditioning,) = nodes["ConditioningSetAreaPercentage"]().append([entry()], 0.5, 0.25, 0.1, 0.2, 0.9)
    (conditioning,) = nodes["ConditioningSetMask"]().append(conditioning, torch.rand(8, 8), "mask bounds", 0.7)
    (conditioning,) = nodes["ConditioningSetTimestepRange"]().set_range(conditioning, 0.2, 0.8)
    (conditioning,) = nodes["ConditioningCombine"]().combine(conditioning, [entry(seed=3, guidance=3.5)])
    save = nodes["CVL_SaveConditioning"]().save
    answer = save(conditioning, "conditioning/stock", prompt={}, extra_pnginfo={"workflow": {}})
    report = json.loads(answer["result"][1])
    assert report["lost"] == [] and report["type"] == "output"
    path = comfyui.base / "output" / report["subfolder"] / report["filename"]
    with open_tensors(path) as file:
        assert {"prompt", "workflow"} < set(file.metadata)
    name = f"{report['subfolder']}/{report['filename']} [output]"
    load = nodes["CVL_LoadConditioning"]
    assert name in load.INPUT_TYPES()["required"]["file"][0] and load.IS_CHANGED(name) != "missing"
    assert same(load().load(name)["result"][0], conditioning)
    (comfyui.base / "input").mkdir(exist_ok=True)
    path.rename(comfyui.base / "input" / path.name)
    assert same(load().load(path.name)["result"][0], conditioning)


def test_a_control_net_is_named_and_the_workflow_is_left_out_where_comfyui_is_told_so(comfyui, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    answer = comfyui.nodes["CVL_SaveConditioning"]().save([entry(control=object())], "x", prompt={"secret": 1})
    report = json.loads(answer["result"][1])
    assert "ControlNet of entry 1 cannot be stored" in report["lost"][0]
    with open_tensors(comfyui.base / "output" / report["filename"]) as file:
        assert "prompt" not in file.metadata


def test_a_plot_is_an_image_that_stock_nodes_take(comfyui):
    plot = comfyui.nodes["CVL_CompareConditioning"]().compare([entry(154)], [entry(seed=1)])["result"][0]
    assert comfyui.nodes["ImageScale"]().upscale(plot, "bilinear", 64, 64, "disabled")[0].shape == (1, 64, 64, 3)
