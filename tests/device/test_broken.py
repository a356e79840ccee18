"""A card that is full of something else, and one that vanishes in the middle: one sentence, and the host goes on."""

import pytest
import torch

from ..support.calls import tensors_of
from ..support.cards.card import card

FULL = torch.OutOfMemoryError if hasattr(torch, "OutOfMemoryError") else torch.cuda.OutOfMemoryError
GONE = getattr(torch, "AcceleratorError", RuntimeError)  # from torch 2.8
MISHAPS = {
    "full": lambda: FULL(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8.00 GiB\nSee"
    ),
    "gone": lambda: _gone(
        "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"
    ),
}
NODES = [  # whose first work on the card is not the VAE's
    "TextEncode",
    "TextEncodeSDXL",
    "ZeroShotClassify",
    "EncodeImage",
    "IndexFolder",
    "SearchImages",
    "ImageTextSimilarity",
    "RankImages",
    "ImageGate",
    "VisualQuestion",
    "RankTags",
]


def _gone(words: str) -> Exception:
    try:
        return GONE(words)
    except TypeError:  # some versions want a code too
        return RuntimeError(words)


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("name", NODES)
def test_a_mishap_on_the_card_is_told_in_one_sentence(name, mishap, calls):
    with torch.inference_mode(), card() as cost:
        calls(name, 1)  # models loaded
        cost.broken = MISHAPS[mishap]()
        with pytest.raises((ValueError, RuntimeError)) as told:
            calls(name, 3)
    said = str(told.value)
    assert type(told.value) is not GONE and "\n" not in said  # a full card keeps the kind that hosts know
    assert ("memory" if mishap == "full" else "gave up") in said and ";" in said, "what to do is missing"


@pytest.mark.parametrize("name", ["TextEncode", "EncodeImage", "VAEDecode"])
def test_after_a_mishap_the_node_works_again_with_the_same_numbers(name, calls):
    with torch.inference_mode(), card() as cost:
        expected = tensors_of(calls(name, 2)["result"])
        cost.broken = MISHAPS["full"]()
        with pytest.raises((ValueError, RuntimeError)):
            calls(name, 3)
        cost.broken = None
        for got, wanted in zip(tensors_of(calls(name, 2)["result"]), expected, strict=True):
            assert torch.equal(got, wanted)
