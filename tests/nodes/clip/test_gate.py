"""Image Gate: every picture goes one way, and an empty side says why."""

import json

import pytest
import torch

from clip_vae_lora.nodes.clip.selection import PictureSelection
from clip_vae_lora.nodes.host.alone.absence import Absent


def test_the_gate_keeps_the_order_and_loses_nobody(place, model, broken):
    image = torch.cat([broken, broken.flip(0)])
    results = place.node("CVL_ImageGate").route(model, image, "a red circle", 0.25)["result"]
    passed, rejected, good, bad, report = results
    assert good == PictureSelection((0, 5), 6) and bad == PictureSelection((1, 2, 3, 4), 6)
    assert torch.equal(passed, image[[0, 5]]) and torch.equal(rejected.nan_to_num(), image[1:5].nan_to_num())
    assert json.loads(report)["scores"][1] is None


@pytest.mark.parametrize("threshold, empty, full", [(1.5, 0, 1), (-1.5, 1, 0)])
def test_an_empty_side_of_the_gate_says_why_or_stays_silent(place, model, shapes, threshold, empty, full):
    route = place.node("CVL_ImageGate").route
    results = route(model, shapes, "a red circle", threshold)["result"]
    assert isinstance(results[empty], Absent) and isinstance(results[empty + 2], Absent)
    assert ("passed", "rejected")[empty] in results[empty].why and torch.equal(results[full], shapes)
    assert route(model, shapes, "x", threshold, empty_side="stay silent")["result"][empty] == Absent(None)
