"""How far a node's way through the pack is, in ComfyUI; as tests/nodes/test_trips.py."""

import pytest

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.tests.support.trip import trip

from ..support.small_clips import stock_clip

MOST_FILES, MOST_CROSSINGS = 18, 14


@pytest.fixture(scope="module")
def clips(comfyui):
    """A stock CLIP and ours, of the same weights."""
    stock = stock_clip("sd1")
    weights = stock.cond_stage_model.clip_l.transformer.state_dict()
    state = {name: tensor.clone() for name, tensor in weights.items() if "text_projection" not in name}
    write_tensors(comfyui.models / "text_encoders" / "trip.safetensors", state, {})
    return {"stock": stock, "ours": comfyui.nodes["CVL_LoadTextEncoder"]().load("trip.safetensors")["result"][0]}


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_a_prompt_takes_a_short_way_through_the_house(comfyui, clips, whose):
    node = comfyui.nodes["CVL_TextEncode"]()
    node.encode(clips[whose], "an (old:1.1) stone bridge")  # the model is warm, the next prompt is new
    way = trip(lambda: node.encode(clips[whose], "a photo of a (red:1.3) fox in the snow"))
    assert ("clip_core/networks/text.py" in way.files) == (whose == "ours")
    assert len(way.files) <= MOST_FILES, "\n".join(sorted(way.files))
    assert len(way.crossings) <= MOST_CROSSINGS, "\n".join(way.crossings)
