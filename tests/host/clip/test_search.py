"""Index and search inside ComfyUI: its folders, its types, its order of execution."""

import asyncio
import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[3] / "example_workflows" / "input"


@pytest.fixture(scope="module")
def clip_model(comfyui):
    return comfyui.nodes["CVL_LoadCLIPModel"]().load("bundled/tiny_clip.safetensors")["result"][0]


def test_a_folder_below_output_is_indexed_and_searched(comfyui, clip_model):
    folder = comfyui.base / "output" / "shapes"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("red_circle.png", "blue_star.png"):
        shutil.copy(EXAMPLES / name, folder)
    report = json.loads(
        comfyui.nodes["CVL_IndexFolder"]().build(clip_model, "output", "shapes", "host test")["result"][1]
    )
    assert report["rows"] == 2 and (comfyui.base / "output" / "cvl_index" / "host test" / "index.sqlite").is_file()
    found = comfyui.nodes["CVL_SearchImages"]().search(clip_model, "host test", "a photo of a blue star", 1)
    name = found["result"][1]
    assert name == "shapes/blue_star.png [output]"
    image, _ = comfyui.nodes["LoadImage"]().load_image(name)
    assert (found["result"][0] == image).all()


@pytest.mark.parametrize("kind, taken", [("LATENT", True), ("IMAGE", True), ("VAE", True)])
def test_anything_may_come_before_and_a_wrong_model_may_not(comfyui, kind, taken):
    ask = comfyui.nodes["CVL_IndexFolder"].VALIDATE_INPUTS
    assert ask({"clip_model": "CVL_CLIP_MODEL", "after": kind}) is taken
    assert isinstance(ask({"clip_model": kind}), str)


def test_the_host_accepts_the_example_and_a_link_of_any_kind_before_it(comfyui):
    import execution

    prompt = json.loads((EXAMPLES.parent / "api" / "search.json").read_text(encoding="utf-8"))
    prompt["20"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    prompt["906"]["inputs"]["after"] = ["20", 0]
    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert valid and not problems and {"906", "907", "908", "909", "910", "912"} <= set(outputs)
    prompt["906"]["inputs"]["clip_model"] = ["20", 0]
    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert "LATENT is linked" in json.dumps(problems["906"])


@pytest.fixture(scope="module")
def alone(comfyui):
    """The standalone host in the same process."""
    folder = comfyui.ours.nodes.host.__name__
    files = importlib.import_module(f"{folder}.alone").FILES
    return importlib.import_module(f"{folder}.interface").gather_host(*files)


def clip_in(comfyui, host, dtype):
    """The bundled CLIP as one of the hosts loads it."""
    loading = importlib.import_module(f"{comfyui.ours.nodes.__name__}.clip.load")
    path = importlib.import_module(f"{comfyui.ours.nodes.__name__}.catalog").BUNDLED_FOLDER / "tiny_clip.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "host", host)
        return loading.load_clip_model(path, "auto", dtype)[0]


def changed(comfyui, host, model, strength):
    """A LoRA put on two of its weights."""
    lora = comfyui.ours.lora.__name__
    adapters = importlib.import_module(f"{lora}.kinds.adapters")
    fusing = importlib.import_module(f"{lora}.weights.fusing")
    names = [f"{half}_model.encoder.layers.0.mlp.fc1.weight" for half in ("text", "vision")]
    shapes, draw = host.weights(model), torch.Generator().manual_seed(0)
    return host.patched(
        model,
        {
            name: [
                fusing.Change(
                    adapters.LoRA(
                        torch.randn(shapes[name][0], 2, generator=draw),
                        torch.randn(2, shapes[name][1], generator=draw),
                        2.0,
                    ),
                    strength,
                )
            ]
            for name in names
        },
    )


def test_a_model_is_the_same_in_both_hosts_in_every_type_and_with_the_same_lora(comfyui, alone):
    is_same, hosts = comfyui.ours.index.model.is_same, (comfyui.ours.nodes.host.host, alone)
    models = [(host, clip_in(comfyui, host, dtype)) for host in hosts for dtype in ("fp32", "fp16", "bf16")]
    plain = [host.model_fingerprint(model) for host, model in models]
    striped = [(host, changed(comfyui, host, model, 1.0)) for host, model in models]
    with_lora = [host.model_fingerprint(model) for host, model in striped]
    weaker = [host.model_fingerprint(changed(comfyui, host, model, 0.01)) for host, model in models]
    for same in (plain, with_lora, weaker):
        assert all(is_same(one, other) for one in same for other in same)
    assert not any(is_same(one, other) for one in plain for other in (*with_lora, *weaker))
    assert not any(is_same(one, other) for one in with_lora for other in weaker)
    for (host, model), before in zip(striped, with_lora):  # while the patches are on the weights
        host.clip_network(model)
        assert is_same(host.model_fingerprint(model), before)


def test_a_stock_clip_vision_is_itself_in_every_type(comfyui):
    from comfy.clip_vision import ClipVisionModel

    host, is_same = comfyui.ours.nodes.host.host, comfyui.ours.index.model.is_same
    config = Path(sys.modules[ClipVisionModel.__module__].__file__).parent / "clip_vision_config_vitl.json"
    small = json.loads(config.read_text()) | {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 1,
        "num_hidden_layers": 2,
        "projection_dim": 32,
        "image_size": 28,
    }
    (comfyui.base / "small_config.json").write_text(json.dumps(small))
    model, draw = ClipVisionModel(str(comfyui.base / "small_config.json")), torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(weight.shape, generator=draw)
        for name, weight in model.model.state_dict().items()
        if weight.is_floating_point()
    }
    seen = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model.model.to(dtype).load_state_dict(state, strict=False)
        seen.append(host.model_fingerprint(model))
    assert all(is_same(one, other) for one in seen for other in seen)
    model.model.load_state_dict({name: weight * 1.1 for name, weight in state.items()}, strict=False)
    assert not is_same(host.model_fingerprint(model), seen[0])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_precision_is_that_of_the_activations(comfyui, clip_model, precision):
    host, dtype = comfyui.ours.nodes.host.host, {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    seen, network = [], host.clip_network(clip_model)
    layers = [half.encoder.layers[0].mlp.fc1 for half in (network.vision_model, network.text_model)]
    hooks = [layer.register_forward_hook(lambda module, given, result: seen.append(result.dtype)) for layer in layers]
    image, texts = torch.rand(3, 40, 40, 3), ["a red circle", "a star"]
    half = host.image_features(clip_model, image, lambda done, total: None, precision)
    words = host.text_features(clip_model, None, texts, None, precision).features
    assert set(seen) == {dtype} and len(seen) == 2
    for hook in hooks:
        hook.remove()
    exact = host.image_features(clip_model, image, lambda done, total: None)
    exact_words = host.text_features(clip_model, None, texts, None).features
    for some, other in ((half, exact), (words, exact_words)):
        assert some.dtype == torch.float32 and 0 < (some - other).norm(dim=1).max() < 0.1  # bf16 has 8 bits of each


def test_an_index_of_the_other_host_in_another_type_is_searched(comfyui, alone):
    folder, nodes = comfyui.base / "output" / "other", comfyui.ours.nodes.__name__
    indexing = importlib.import_module(f"{nodes}.search.indexing")
    precision = importlib.import_module(f"{nodes}.clip.precision")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("red_circle.png", "blue_star.png"):
        shutil.copy(EXAMPLES / name, folder)
    target, writing = comfyui.base / "output" / "cvl_index" / "of the shell", comfyui.ours.index.writing.writing
    with pytest.MonkeyPatch.context() as patch:
        for module in (indexing, precision):
            patch.setattr(module, "host", alone)
        embed = indexing.Embedder(model := clip_in(comfyui, alone, "bf16"), 32, precision="bf16")
        with writing(target, indexing.facts_of(model, embed.encoder, target, folder, "bf16")) as writer:
            comfyui.ours.index.update.update(writer, folder, embed)
    host = comfyui.ours.nodes.host.host
    for dtype in ("fp32", "fp16"):
        found = comfyui.nodes["CVL_SearchImages"]().search(
            clip_in(comfyui, host, dtype), "of the shell", "a photo of a blue star", 1
        )
        assert found["result"][1] == "other/blue_star.png [output]"
        assert "made with precision bf16" in found["ui"]["text"][0]
