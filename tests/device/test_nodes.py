"""Every node on the standalone host with its models on a card that is not there and inputs as nodes get them."""

import pytest
import torch

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

from ..support.calls import DRAWN, Calls, latent, mask, pictures, tensors_of
from ..support.cards.card import card

NODES = [name.removeprefix("CVL_") for name in NODE_CLASS_MAPPINGS]
WITHOUT_TRAINING = [
    name for name in NODES if name not in ("TrainLoRA", "TrainVAE", "TrainCLIP")
]  # a pretended card has no backward pass
NEAR = {"rtol": 1e-3, "atol": 1e-3}  # pictures and vectors of size 1: attention in separate products, not fused


def test_every_node_of_the_pack_has_a_call():
    assert {name for name in vars(Calls) if name[0].isupper()} == set(NODES)


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_a_node_mixes_no_devices_and_gives_the_cpus_numbers_on_the_cpu(name, calls):
    with torch.inference_mode():
        expected = tensors_of(calls(name)["result"])
        with card() as cost:
            there = Calls(calls.node, calls.inputs)
            found = tensors_of(there(name)["result"])
    assert [tensor.device.type for tensor in found] == ["cpu"] * len(expected)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, **DRAWN.get(name, NEAR))
    if name in ("LoadTextEncoder", "LoadCLIPModel", "LoadVAE"):
        assert cost.moves > 10, "the weights did not go to the card"


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_a_node_waits_as_often_for_many_as_for_few(name, calls):
    """Pictures, texts, chunks of a prompt, labels: for all of them together, not for each."""
    waits = []
    with torch.inference_mode(), card() as cost:
        calls(name, 1)  # loads
        for n in (2, 4):
            cost.reset()
            calls(name, n)
            waits.append(sorted(cost.waits))
    assert len(waits[0]) == len(waits[1]), "; ".join(
        f"{place}: {waits[0].count(place)} and {waits[1].count(place)}" for place in dict.fromkeys(waits[1])
    )


@pytest.mark.parametrize("weighting", ["comfy", "a1111", "a1111 no norm", "compel", "comfy++", "down_weight", "perp"])
def test_every_weighting_of_a_prompt_gives_the_cpus_numbers(weighting, calls):
    options = {"weighting": weighting, "normalisation": "length+mean"}
    with torch.inference_mode():
        expected = tensors_of(calls.TextEncode(calls.node("CVL_TextEncode"), 2, **options)["result"])
        with card():
            there = Calls(calls.node, calls.inputs)
            found = tensors_of(there.TextEncode(there.node("CVL_TextEncode"), 2, **options)["result"])
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, **NEAR)


PAIRS = {  # nodes of two tensors, which may come from two places when the host keeps pictures on the card
    "CompareImages": lambda node, there: node.compare(there(pictures(2)), pictures(2, seed=1)),
    "CompareImages, turned": lambda node, there: node.compare(pictures(2), there(pictures(2, seed=1))),
    "CompositeInpaint": lambda node, there: node.composite(there(pictures(2)), pictures(2, seed=1), mask(2)),
    "CompositeInpaint, turned": lambda node, there: node.composite(pictures(2), there(pictures(2)), there(mask(2))),
    "LatentInterpolate": lambda node, there: node.interpolate(
        {"samples": there(latent(2)["samples"])}, latent(2, seed=1), 0.5
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_pictures_and_latents_that_stay_on_a_card_meet_those_that_do_not(name, kind, calls):
    node = calls.node(f"CVL_{name.split(',')[0]}")
    expected = tensors_of(PAIRS[name](node, lambda tensor: tensor)["result"])
    with card(kind):
        found = tensors_of(PAIRS[name](node, lambda tensor: tensor.to(kind))["result"])
        found = [tensor.cpu() for tensor in found]
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)  # the same sums, on the same processor


@pytest.mark.parametrize("name", ["CompareImages", "LatentDistribution", "VAEEncodeInpaint", "EncodeImage"])
def test_pictures_that_stay_on_the_card_are_taken_there(name, calls, monkeypatch):
    """With ComfyUI's --gpu-only."""
    from ..support import calls as module

    ordinary = module.pictures
    with torch.inference_mode(), card():
        monkeypatch.setattr(module, "pictures", lambda *a, **k: ordinary(*a, **k).to("cuda"))
        assert tensors_of(calls(name)["result"])
