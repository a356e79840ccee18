"""Graphs over the API: a prompt is read anew when its embedding comes or changes, and an invalid graph gets the answer
that stock nodes get.
"""

import json
import time
import urllib.error
import urllib.request

import pytest
import torch

from clip_vae_lora.files.tensors import open_tensors, write_tensors

from ...support.servers.serving import ROOT, served

BUNDLED = "bundled/tiny_clip.safetensors"


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    """The address of a server, and the folder of its files."""
    base = tmp_path_factory.mktemp("graphs")
    (base / "models" / "embeddings").mkdir(parents=True)
    with served(comfyui_path, base) as address:
        yield address, base


def post(address: str, graph: dict) -> tuple[int, dict]:
    data = json.dumps({"prompt": graph}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/prompt", data), timeout=600) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def outputs(address: str, graph: dict) -> dict:
    """Run a graph to its end; what its nodes showed."""
    status, answer = post(address, graph)
    assert status == 200, answer
    while True:
        with urllib.request.urlopen(f"{address}/history/{answer['prompt_id']}", timeout=600) as page:
            found = json.loads(page.read()).get(answer["prompt_id"])
        if found and found["status"]["completed"]:
            return found["outputs"]
        assert not found or found["status"]["status_str"] != "error", found
        time.sleep(0.2)


def vectors(base, count: int) -> None:
    with open_tensors(ROOT / "models" / "tiny_clip.safetensors") as file:
        width = next(shape[1] for name, shape in file.shapes.items() if name.endswith("token_embedding.weight"))
    path = base / "models" / "embeddings" / "late.safetensors"
    write_tensors(path, {"emb_params": torch.zeros(count, width)}, {})


def test_an_embedding_that_comes_late_or_is_replaced_is_read(server):
    address, base = server
    graph = {
        "1": {"class_type": "CVL_LoadTextEncoder", "inputs": {"file": BUNDLED}},
        "2": {"class_type": "CVL_InspectTokens", "inputs": {"clip": ["1", 0], "text": "embedding:late cat"}},
    }

    def report() -> dict:
        return json.loads(outputs(address, graph)["2"]["cvl_report"][0])

    assert "there is no embedding called late" in " ".join(report()["notes"])
    tokens = []
    for count in (2, 5):
        vectors(base, count)
        found = report()
        assert "no embedding called" not in " ".join(found["notes"])
        tokens.append(next(iter(found["tokens"].values())))
    assert tokens[1][0] - tokens[0][0] == 3


def scaled(method: str) -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
        "2": {
            "class_type": "ImageScale",
            "inputs": {"image": ["1", 0], "upscale_method": method, "width": 8, "height": 8, "crop": "disabled"},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }


BESIDE = {
    "a loader": {"7": {"class_type": "CVL_LoadVAE", "inputs": {"file": "bundled/tiny_vae.safetensors"}}},
    "an encoder": {
        "7": {"class_type": "CVL_LoadVAE", "inputs": {"file": "bundled/tiny_vae.safetensors"}},
        "8": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0], "vae": ["7", 0]}},
    },
    "a prompt": {
        "7": {"class_type": "CVL_LoadTextEncoder", "inputs": {"file": BUNDLED}},
        "8": {"class_type": "CVL_TextEncode", "inputs": {"clip": ["7", 0], "text": "a cat"}},
    },
}


@pytest.mark.parametrize("beside", BESIDE)
def test_an_invalid_graph_is_refused_with_our_nodes_in_it_as_without(server, beside):
    address, _ = server
    status, alone = post(address, scaled("bad"))
    assert status == 400
    status, answer = post(address, scaled("bad") | BESIDE[beside])
    assert status == 400 and answer["error"]["type"] == alone["error"]["type"]
    assert answer["node_errors"].keys() == alone["node_errors"].keys() == {"2"}


def test_a_menu_value_that_is_none_of_ours_is_refused(server):
    address, _ = server
    graph = {
        "1": {"class_type": "CVL_LoadTextEncoder", "inputs": {"file": BUNDLED}},
        "2": {"class_type": "CVL_TextEncode", "inputs": {"clip": ["1", 0], "text": "a cat", "dialect": "A1111"}},
        "3": {"class_type": "CVL_SaveConditioning", "inputs": {"conditioning": ["2", 0], "filename_prefix": "x"}},
    }
    status, answer = post(address, graph)
    assert status == 400 and "dialect" in json.dumps(answer["node_errors"]["2"])
