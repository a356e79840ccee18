"""What the nodes that judge pictures have in common: what they refuse, the bar, cancelling."""

import math

import pytest
import torch

from clip_vae_lora.nodes.host.alone.place import HERE

CALLS = {
    "CVL_ImageTextSimilarity": lambda node, model, image: node.compare(model, image, "a star"),
    "CVL_RankImages": lambda node, model, image: node.rank(model, image, "a star"),
    "CVL_ImageGate": lambda node, model, image: node.route(model, image, "a star", 0.2),
    "CVL_VisualQuestion": lambda node, model, image: node.ask(model, image, "what is it?", "star"),
    "CVL_RankTags": lambda node, model, image: node.rank(model, image, "star"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "image, says",
    [
        (torch.full((2, 8, 8, 3), math.nan), "no picture of this batch has numbers"),
        (torch.rand(0, 8, 8, 3), "has no pixels"),
        (torch.rand(8, 8, 3), "an IMAGE of shape"),
    ],
    ids=["NaN", "empty", "no batch"],
)
def test_pictures_that_cannot_be_looked_at_are_refused_in_one_sentence(place, model, name, image, says):
    with pytest.raises(ValueError, match=says) as error:
        CALLS[name](place.node(name), model, image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CALLS)
def test_a_picture_with_alpha_or_a_little_outside_the_range_is_judged(place, model, shapes, name):
    image = torch.cat([shapes * 1.4 - 0.2, torch.ones(3, 256, 256, 1)], -1)
    assert CALLS[name](place.node(name), model, image)["result"]


@pytest.mark.parametrize(
    "call",
    [
        lambda place, model, image: place.node("CVL_RankImages").rank(model, image, " \n"),
        lambda place, model, image: place.node("CVL_ImageGate").route(model, image, "", 0.1),
    ],
)
def test_an_empty_prompt_is_refused(place, model, shapes, call):
    with pytest.raises(ValueError, match="there is no prompt"):
        call(place, model, shapes)


@pytest.mark.parametrize("name", CALLS)
def test_the_bar_moves_and_cancelling_stops(place, model, shapes, name):
    class Cancelled(BaseException):
        pass

    steps = []
    HERE.on_step = lambda done, total: steps.append((done, total))
    CALLS[name](place.node(name), model, shapes)
    assert (3, 3) in steps

    def cancel(done, total):
        raise Cancelled

    HERE.on_step = cancel
    with pytest.raises(Cancelled):
        CALLS[name](place.node(name), model, shapes)
