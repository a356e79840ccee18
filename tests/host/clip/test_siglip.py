"""A SigLIP of ours under the host's memory management, and its image half beside the stock CLIP_VISION of the same
weights.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from ...support import siglip

ROUNDING = 2e-4  # of the largest 3: stock norms have an epsilon of 1e-5 in place of SigLIP's 1e-6


@pytest.fixture(scope="module")
def loaded(comfyui):
    """A SigLIP of transformers, and what Load CLIP Model makes of its file and vocabulary."""
    with torch.inference_mode(False):
        theirs = siglip.hugging_face(width=64, vocab=600).half().float()  # the stock encoder keeps fp16
        folder = comfyui.models / "clip_vision"
        save_file(theirs.state_dict(), folder / "small_siglip.safetensors")
        siglip.gemma_json(folder).rename(folder / "small_siglip.tokenizer.json")
    return theirs, comfyui.nodes["CVL_LoadCLIPModel"]().load("small_siglip.safetensors")["result"]


def test_stock_nodes_get_the_hidden_states_that_the_stock_encoder_gives(comfyui, loaded, tmp_path):
    import comfy.clip_vision

    theirs, (_, _, ours) = loaded
    config = {
        "hidden_act": "gelu_pytorch_tanh", "hidden_size": 64, "image_size": 64, "intermediate_size": 128,
        "model_type": "siglip_vision_model", "num_attention_heads": 1, "num_channels": 3, "num_hidden_layers": 2,
        "patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    stock = comfy.clip_vision.ClipVisionModel(str(tmp_path / "config.json"))
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name.startswith("vision_model.")}
    missing, _ = stock.load_sd({name: tensor for name, tensor in state.items() if ".head." not in name})
    assert not missing
    encode = comfyui.nodes["CLIPVisionEncode"]()
    image = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))  # of its size: nothing is resized
    image = image.mul(255).round() / 255  # of 8 bits, as ours are made
    found, expected = encode.encode(ours, image, "none")[0], encode.encode(stock, image, "none")[0]
    for name in ("last_hidden_state", "penultimate_hidden_states"):
        assert (getattr(found, name) - getattr(expected, name)).abs().max() <= ROUNDING, name
    assert found.image_embeds.shape == (2, 64)


def test_labels_are_judged_by_the_sigmoid_of_transformers(comfyui, loaded):
    theirs, (model, _, _) = loaded
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255
    answer = comfyui.nodes["CVL_ZeroShotClassify"]().classify(model, image, "cat\ndog", "{label}")
    picture = json.loads(answer["result"][1])["pictures"][0]
    rows, _ = model.tokenizer.rows(model.config, ["cat", "dog"])
    with torch.no_grad():
        pixels = (image.movedim(-1, 1) - 0.5) / 0.5
        expected = theirs(input_ids=torch.tensor(rows), pixel_values=pixels).logits_per_image.sigmoid()[0]
    assert [picture["probabilities"][name] for name in ("cat", "dog")] == pytest.approx(expected.tolist(), abs=1e-5)
