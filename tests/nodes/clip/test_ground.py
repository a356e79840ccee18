"""Every node that judges pictures lays transparent ones on its ground, and says so."""

import json

import pytest
import torch

from ...support.judged import ROUNDING, cosines

WORDS = ["a circle", "a square"]
BLACK, WHITE, GRAY = 0.0, 1.0, 128 / 255


def drawn(clear: bool = True) -> torch.Tensor:
    """A black ring on a ground that is not there, and a grey picture. [2, 48, 48, 4]"""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    far = ((y - 24) ** 2 + (x - 24) ** 2).sqrt()
    image = torch.zeros(2, 48, 48, 4)
    image[0, ..., 3] = ((far > 12) & (far < 20)).float() if clear else 1.0
    image[1] = torch.tensor([0.5, 0.5, 0.5, 1.0])
    return image


def laid(image, level):
    return image[..., :3] * image[..., 3:] + level * (1 - image[..., 3:])


def zero_shot(place, model, image, **more):
    answer = place.node("CVL_ZeroShotClassify").classify(model, image, "\n".join(WORDS), "{label}", **more)
    data = json.loads(answer["result"][1])
    return answer, data, [[one["cosine"][word] for word in WORDS] for one in data["pictures"]]


def similarity(place, model, image, **more):
    answer = place.node("CVL_ImageTextSimilarity").compare(model, image, "\n".join(WORDS), **more)
    data = json.loads(answer["result"][1])
    return answer, data, data["texts"]["cosine"]


def question(place, model, image, **more):
    answer = place.node("CVL_VisualQuestion").ask(model, image, "{answer}", "\n".join(WORDS), **more)
    data = json.loads(answer["result"][1])
    return answer, data, [[one["cosine"][word] for word in WORDS] for one in data["pictures"]]


def tags(place, model, image, **more):
    answer = place.node("CVL_RankTags").rank(model, image, "\n".join(WORDS), template="{tag}", **more)
    data = json.loads(answer["result"][2])
    return answer, data, [[one.get(word) for word in WORDS] for one in data["pictures"]]


def _by_word(node, function, read):
    def scores(place, model, image, **more):
        answers = [getattr(place.node(node), function)(model, image, word, **more) for word in WORDS]
        data = json.loads(answers[0]["result"][-1])
        columns = [read(json.loads(answer["result"][-1])) for answer in answers]
        return answers[0], data, [list(row) for row in zip(*columns)]

    return scores


def _ranked(data):
    return [one["score"] for one in sorted(data["pictures"], key=lambda one: one["index"])]


rank = _by_word("CVL_RankImages", "rank", _ranked)


def gate(place, model, image, **more):
    node = place.node("CVL_ImageGate").route
    answers = [node(model, image, word, -2.0, **more) for word in WORDS]
    data = [json.loads(answer["result"][-1]) for answer in answers]
    return answers[0], data[0], [list(row) for row in zip(*(one["scores"] for one in data))]


EVERY = pytest.mark.parametrize("judge", [zero_shot, similarity, question, tags, rank, gate])


@EVERY
@pytest.mark.parametrize(("ground", "level"), [("white", WHITE), ("black", BLACK), ("gray", GRAY)])
def test_transparent_pictures_are_seen_on_the_ground_and_counted(place, model, judge, ground, level):
    image = drawn()
    answer, data, found = judge(place, model, image, ground=ground)
    expected = cosines(model, laid(image, level), WORDS)
    assert (torch.tensor(found) - expected).abs().max() <= ROUNDING
    assert data["ground"] == ground and data["transparent"] == 1
    said = f"1 of 2 pictures are transparent in part, and were laid over {ground}"
    assert said in data["notes"] and said in answer["ui"]["text"][0]


@EVERY
def test_white_is_the_ground_unless_another_is_chosen(place, model, judge):
    assert judge(place, model, drawn())[2] == judge(place, model, drawn(), ground="white")[2]


@EVERY
def test_a_fourth_channel_that_is_opaque_is_no_transparency(place, model, judge):
    answer, data, found = judge(place, model, drawn(clear=False))
    assert data["transparent"] == 0 and "transparent in part" not in answer["ui"]["text"][0]
    assert found == judge(place, model, drawn(clear=False)[..., :3])[2]


@pytest.mark.parametrize("judge", [similarity, question, tags, rank, gate])
def test_a_picture_without_numbers_in_its_transparency_cannot_be_judged(place, model, judge):
    image = drawn()
    image[0, 0, 0, 3] = float("nan")
    answer, _, found = judge(place, model, image)
    assert found[0] == [None, None] and None not in found[1]
    assert "the picture at 0 could not be judged" in answer["ui"]["text"][0]


def test_what_is_passed_on_keeps_its_transparency(place, model):
    image = drawn()
    ranked = place.node("CVL_RankImages").rank(model, image, "a circle")["result"]
    assert torch.equal(ranked[0], image[ranked[4]])
    passed = place.node("CVL_ImageGate").route(model, image, "a circle", -2.0)["result"][0]
    assert torch.equal(passed, image)


def test_the_second_batch_of_similarity_has_a_note_of_its_own(place, model):
    image = drawn()
    answer = place.node("CVL_ImageTextSimilarity").compare(model, image[1:, ..., :3], image_b=image, ground="black")
    said = "second batch: 1 of 2 pictures are transparent in part, and were laid over black"
    assert said in json.loads(answer["result"][1])["notes"]
