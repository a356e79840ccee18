"""A node of the workshop that lies unconnected beside a workflow says what it lacks, and the workflow runs."""

import json

import pytest

from clip_vae_lora.nodes.workshop.bake import BakeLoRA
from clip_vae_lora.nodes.workshop.compare import CompareLoRAs
from clip_vae_lora.nodes.workshop.merge import MergeLoRAs

CALLS = {
    "merge": lambda **more: MergeLoRAs().merge("gone : 1", "sum", "all", 0.0, "kohya", "as the files", "x", **more),
    "compare": lambda **more: CompareLoRAs().compare("gone : 1", "those listed", **more),
    "bake": lambda **more: BakeLoRA().bake("bundled/tiny_clip.safetensors", "gone : 1", "x", **more),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_lora_that_is_not_there_stops_only_what_is_connected(place, call):
    answer = call()
    report = json.loads(answer["ui"]["cvl_report"][0])
    assert report["state"] == "failed" and "gone" in report["problem"]
    assert answer["ui"]["text"][0] == f"✖ {report['problem']}"
    with pytest.raises(ValueError, match="gone"):
        call(lora_stack=[("gone too", 1.0, 1.0)])
