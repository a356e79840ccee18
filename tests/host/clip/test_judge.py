"""The judging nodes with ComfyUI's own objects: a stock CLIP_VISION and CLIP with the bundled CLIP's weights give its
scores, and what follows an empty side of the gate does not run.
"""

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from clip_vae_lora.files.images import read_image
from clip_vae_lora.files.tensors import open_tensors

from ...support.servers.serving import ROOT, served

SCORE = 1e-4  # asked for; fp32 on both sides leaves about 1e-6
SIDE_PX = 48  # the bundled CLIP's


@pytest.fixture(scope="module")
def weights():
    with open_tensors(ROOT / "models" / "tiny_clip.safetensors") as file:
        return {name: tensor.float() for name, tensor in file.read(file.shapes).items()}


@pytest.fixture(scope="module")
def whole(comfyui):
    return comfyui.nodes["CVL_LoadCLIPModel"]().load("bundled/tiny_clip.safetensors", dtype="fp32")["result"][0]


@pytest.fixture(scope="module")
def vision(comfyui, whole, weights, tmp_path_factory):
    """A stock CLIP_VISION of these weights."""
    import comfy.clip_vision

    sizes = whole.config.vision
    config = {
        "model_type": "clip_vision_model",
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.mlp,
        "patch_size": sizes.patch_px,
        "image_size": sizes.image_px,
        "projection_dim": sizes.embed,
        "hidden_act": sizes.activation,
        "num_channels": 3,
        "image_mean": list(whole.config.mean),
        "image_std": list(whole.config.std),
    }
    path = tmp_path_factory.mktemp("vision") / "config.json"
    path.write_text(json.dumps(config))
    model = comfy.clip_vision.ClipVisionModel(str(path))
    missing, _ = model.load_sd({name: tensor.clone() for name, tensor in weights.items() if "vis" in name})
    assert missing in ([], ["vision_model.embeddings.position_ids"])
    model.model.float()
    return model


@pytest.fixture(scope="module")
def clip(comfyui, whole, weights):
    """A stock CLIP of these weights."""
    import comfy.sd
    import folder_paths
    from comfy import sd1_clip

    sizes = whole.config.text
    options = {
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.mlp,
        "hidden_act": sizes.activation,
    }
    found = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=sd1_clip.SD1ClipModel, tokenizer=sd1_clip.SD1Tokenizer),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options={"dtype": torch.float32, "clip_l_model_config": options},
    )
    text = {name: tensor.clone() for name, tensor in weights.items() if name.startswith("text")}
    missing, unexpected = found.cond_stage_model.clip_l.transformer.load_state_dict(text, strict=False)
    assert not missing and not unexpected
    return found


@pytest.fixture(scope="module")
def shapes(comfyui):
    files = ("red_circle.png", "blue_star.png", "striped_green_heart.png")
    return torch.cat([read_image(ROOT / "example_workflows" / "input" / file)[0] for file in files])


@pytest.fixture(scope="module")
def small(shapes):
    """At the encoder's own size, where nothing depends on how pictures are scaled."""
    return torch.nn.functional.interpolate(shapes.movedim(-1, 1), (SIDE_PX, SIDE_PX), mode="area").movedim(1, -1)


def report(answer, which=-1):
    return json.loads(answer["result"][which])


@pytest.mark.parametrize("size", ["small", "shapes"])
def test_stock_objects_give_the_bundled_models_scores(comfyui, whole, vision, clip, request, size):
    image = request.getfixturevalue(size)
    rank = comfyui.nodes["CVL_RankImages"]().rank
    mine = report(rank(whole, image, "a photo of a blue star", "a red circle"))["pictures"]
    theirs = report(rank(vision, image, "a photo of a blue star", "a red circle", clip=clip))["pictures"]
    assert [one["index"] for one in mine] == [one["index"] for one in theirs]
    assert max(abs(one["score"] - other["score"]) for one, other in zip(mine, theirs)) <= SCORE


def test_a_stock_clip_vision_alone_compares_pictures(comfyui, whole, vision, small):
    compare = comfyui.nodes["CVL_ImageTextSimilarity"]().compare
    mine, theirs = (torch.tensor(report(compare(model, small), 1)["images"]["cosine"]) for model in (whole, vision))
    assert (mine - theirs).abs().max() <= SCORE
    with pytest.raises(ValueError, match="connect the CLIP of the same model"):
        compare(vision, small, "a star")


def test_stock_objects_answer_and_tag_alike(comfyui, whole, vision, clip, small):
    ask, tag = comfyui.nodes["CVL_VisualQuestion"]().ask, comfyui.nodes["CVL_RankTags"]().rank
    words = "red, green, blue, circle, star, heart"
    assert (
        ask(whole, small, "what colour is it?", "red, green, blue")["result"][3]
        == ["red", "blue", "green"]
        == ask(vision, small, "what colour is it?", "red, green, blue", clip=clip)["result"][3]
    )
    assert tag(whole, small, words, 2)["result"][1] == tag(vision, small, words, 2, clip=clip)["result"][1]


def test_an_empty_side_is_what_comfyui_does_not_run(comfyui, whole, shapes):
    from comfy_execution.graph_utils import ExecutionBlocker

    results = comfyui.nodes["CVL_ImageGate"]().route(whole, shapes, "a red circle", 1.5)["result"]
    assert isinstance(results[0], ExecutionBlocker) and "sent no picture to passed" in results[0].message
    assert torch.equal(results[1], shapes)
    silent = comfyui.nodes["CVL_ImageGate"]().route(whole, shapes, "a", 1.5, empty_side="stay silent")["result"]
    assert silent[0].message is None


def test_latents_of_several_parts_are_chosen_as_the_host_makes_them(comfyui):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this ComfyUI has no nested latents")
    parts = [torch.rand(3, 4, 2, 8, 8), torch.rand(3, 8, 16)]
    found = comfyui.nodes["CVL_SelectLatents"]().select({"samples": nested.NestedTensor(parts)}, "2,0")["result"][0]
    for got, part in zip(found["samples"].unbind(), parts):
        assert torch.equal(got, part[[2, 0]])


def test_one_latent_is_chosen_as_the_stock_node_chooses_it(comfyui):
    latent = {"samples": torch.rand(4, 4, 8, 8), "noise_mask": torch.rand(2, 1, 64, 64), "batch_index": [7, 3, 9, 1]}
    (theirs,) = comfyui.nodes["LatentFromBatch"]().frombatch(latent, 3, 1)
    mine = comfyui.nodes["CVL_SelectLatents"]().select(latent, "3")["result"][0]
    assert torch.equal(mine["samples"], theirs["samples"]) and mine["batch_index"] == theirs["batch_index"]
    assert torch.equal(mine["noise_mask"], theirs["noise_mask"])


# a whole server


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


def run(example, output, *more):
    command = [sys.executable, str(ROOT / "headless" / "run.py"), str(ROOT / "example_workflows" / "api" / example)]
    environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    done = subprocess.run([*command, "--output", str(output), "--json", *more], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["outputs"]


def reports(outputs):
    return {node: json.loads(ui["cvl_report"][0]) for node, ui in outputs.items() if "cvl_report" in ui}


@pytest.mark.parametrize(
    "example, node, key", [("judge.json", "311", "score"), ("questions.json", "404", "probabilities")]
)
def test_the_examples_give_the_same_numbers_on_the_server_as_without_one(server, tmp_path, example, node, key):
    here, there = reports(run(example, tmp_path / "h")), reports(run(example, tmp_path / "t", "--server", server))
    for mine, theirs in zip(here[node]["pictures"], there[node]["pictures"]):
        assert mine.keys() == theirs.keys()
        first, second = ([one[key]] if key == "score" else list(one[key].values()) for one in (mine, theirs))
        assert all(math.isclose(a, b, abs_tol=SCORE) for a, b in zip(first, second))


def test_what_follows_an_empty_side_says_why_on_both_hosts_and_the_rest_runs(server, tmp_path):
    here = run("judge.json", tmp_path / "h", "--set", "317.threshold=1.9")
    there = run("judge.json", tmp_path / "t", "--set", "317.threshold=1.9", "--server", server)
    for outputs in (here, there):
        (said,) = outputs["318"]["text"]
        assert said.startswith("did not run: Image Gate (CVL) sent no picture to passed")
        assert len(outputs["319"]["images"]) == 6 and "images" not in outputs["318"]
