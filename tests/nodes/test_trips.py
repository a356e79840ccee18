"""How far a node's way through the pack is, without ComfyUI."""

from clip_vae_lora.tests.support.trip import trip

from ..support import tiny

MOST_FILES, MOST_CROSSINGS = 18, 14


def test_a_prompt_takes_a_short_way_through_the_house(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    clip = place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]
    node = place.node("CVL_TextEncode")
    node.encode(clip, "an (old:1.1) stone bridge")  # the model is warm, the next prompt is new
    way = trip(lambda: node.encode(clip, "a photo of a (red:1.3) fox in the snow"))
    assert "clip_core" in {file.split("/")[0] for file in way.files}
    assert len(way.files) <= MOST_FILES, "\n".join(sorted(way.files))
    assert len(way.crossings) <= MOST_CROSSINGS, "\n".join(way.crossings)
