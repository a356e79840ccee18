"""The nodes that judge, with the bundled CLIP on drawn shapes: what they choose, what they say, what they refuse."""

import json
import math

import pytest
import torch

from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.images import read_image
from clip_vae_lora.nodes.clip.selection import PictureSelection
from clip_vae_lora.nodes.host.alone.absence import Absent
from clip_vae_lora.nodes.host.alone.place import HERE
from clip_vae_lora.nodes.image import EXAMPLES, EXAMPLES_FOLDER

ROUNDING = 2e-6  # six digits printed, and float32 sums in another order
CIRCLE, STAR, HEART = range(3)


@pytest.fixture(scope="module")
def shapes():
    """[3, 256, 256, 3]: a red circle, a blue star, a striped green heart."""
    files = [EXAMPLES[name] for name in ("red circle", "blue star", "striped heart")]
    return torch.cat([read_image(EXAMPLES_FOLDER / file)[0] for file in files])


@pytest.fixture
def model(place):
    return place.node("CVL_LoadCLIPModel").load("bundled/tiny_clip.safetensors")["result"][0]


@pytest.fixture
def broken(shapes):
    """The shapes, the star without numbers."""
    image = shapes.clone()
    image[STAR, 3, 4, 1] = math.nan
    return image


def cosines(model, image, texts):
    """By the network's own functions, one picture at a time."""
    network = model.network
    with torch.no_grad():
        words = network.text_features(Tokenizer().batch(texts, context=network.config.text.context)[0]).double()
        vision = network.config
        seen = [
            network.image_features(preprocess(one[None], vision.vision.image_px, vision.mean, vision.std)).double()
            for one in image
        ]
    return torch.nn.functional.cosine_similarity(torch.cat(seen)[:, None], words[None], dim=-1)


# similarity


def test_the_best_match_is_told_with_its_cosine(place, model, shapes):
    answer = place.node("CVL_ImageTextSimilarity").compare(model, shapes, "a blue star\na red circle", shapes)
    data = json.loads(answer["result"][1])
    lines = answer["ui"]["text"][0].split("\n")
    assert lines[STAR] == f"#{STAR}: a blue star ({data['texts']['cosine'][STAR][0]:.3f})"
    assert lines[3 + STAR] == f"#{STAR}: nearest is #{STAR} of image_b (1.000)"


def test_similarity_is_every_cosine_both_ways(place, model, shapes):
    heat, matrix, for_images, for_texts = place.node("CVL_ImageTextSimilarity").compare(
        model, shapes, "a blue star\na red circle"
    )["result"]
    data = json.loads(matrix)["texts"]
    expected = cosines(model, shapes, ["a blue star", "a red circle"])
    assert (torch.tensor(data["cosine"]) - expected).abs().max() <= ROUNDING
    share = (expected * model.network.logit_scale.exp().double()).softmax(-1)
    assert (torch.tensor(data["probabilities"]) - share).abs().max() <= 1e-4  # the scale makes the rounding larger
    assert for_images.splitlines()[:2] == ["a red circle", "a blue star"] and for_texts == "1\n0"
    assert heat.shape[0] == 1


def test_pictures_alone_are_compared_with_one_another(place, model, shapes):
    answer = place.node("CVL_ImageTextSimilarity").compare(model, shapes)["result"]
    data = json.loads(answer[1])["images"]
    matrix = torch.tensor(data["cosine"])
    assert (matrix.diagonal() - 1).abs().max() <= ROUNDING and torch.equal(matrix, matrix.T)
    assert all(best != place for place, best in enumerate(data["best_for_images"]))
    two = torch.cat([shapes[STAR : STAR + 1], shapes[CIRCLE : CIRCLE + 1]])[:, ::2, ::2]  # of another size
    assert json.loads(place.node("CVL_ImageTextSimilarity").compare(model, shapes, "", two)["result"][1])["images"][
        "best_for_columns"
    ] == [STAR, CIRCLE]


def test_texts_and_a_second_batch_give_two_maps_in_one_picture(place, model, shapes):
    compare = place.node("CVL_ImageTextSimilarity").compare
    both, texts, images = (
        compare(model, shapes, *more)["result"][0].shape[1] for more in (("a star", shapes), ("a star",), ("", shapes))
    )
    assert both == texts + images


def test_one_picture_alone_has_no_other(place, model, shapes):
    answer = place.node("CVL_ImageTextSimilarity").compare(model, shapes[:1])
    assert answer["result"][2:] == ("-", "-") and "none" in answer["ui"]["text"][0]


def test_thousands_of_texts_are_all_in_the_matrix_and_not_all_in_the_report(place, model, shapes):
    texts = [f"a photo of thing number {n}" for n in range(2500)]
    answer = place.node("CVL_ImageTextSimilarity").compare(model, shapes, "\n".join(texts))
    assert [len(row) for row in json.loads(answer["result"][1])["texts"]["cosine"]] == [2500] * 3
    assert len(answer["ui"]["cvl_report"][0]) < len(answer["result"][1]) / 2


# rank


def test_make_three_keep_the_best(place, model, shapes):
    results = place.node("CVL_RankImages").rank(model, shapes, "a photo of a blue star", keep=1)["result"]
    images, selection, indices, scores, index_list, score_list, ranks, report = results
    assert torch.equal(images, shapes[STAR : STAR + 1]) and selection == PictureSelection((STAR,), 3)
    assert indices == "1" and index_list == [1] and json.loads(scores) == [round(score_list[0], 6)]
    assert [one["index"] for one in json.loads(report)["pictures"]][0] == STAR and ranks.shape[0] == 1


def test_all_are_sorted_by_the_prompts_cosine(place, model, shapes):
    results = place.node("CVL_RankImages").rank(model, shapes, "a red circle")["result"]
    expected = cosines(model, shapes, ["a red circle"])[:, 0]
    order = expected.argsort(descending=True).tolist()
    assert results[4] == order and torch.equal(results[0], shapes[order])
    assert (torch.tensor(results[5]) - expected[order]).abs().max() <= ROUNDING


def test_a_negative_changes_the_order(place, model, shapes):
    rank = place.node("CVL_RankImages").rank
    best = rank(model, shapes, "a drawing", "a red circle\na blue star", keep=1)["result"][4]
    assert best == [HEART]
    share = rank(model, shapes, "a green heart", "a red circle\na blue star", score="probability")["result"][5]
    assert all(0 <= value <= 1 for value in share) and share[0] > 0.9


def test_a_negative_threshold_and_more_than_there_are_keep_what_passes(place, model, shapes):
    answer = place.node("CVL_RankImages").rank(model, shapes, "a red circle", keep=9, threshold=-0.5)
    assert len(answer["result"][0]) == 3 and "9 were to be kept, and there are 3" in answer["ui"]["text"][0]


def test_when_none_passes_the_best_is_kept_or_an_error_or_nothing(place, model, shapes):
    rank = place.node("CVL_RankImages").rank
    answer = rank(model, shapes, "a red circle", threshold=1.5)
    assert answer["result"][4] == [CIRCLE] and "kept all the same" in answer["ui"]["text"][0]
    with pytest.raises(ValueError, match="no picture reaches the threshold 1.5"):
        rank(model, shapes, "a red circle", threshold=1.5, when_none_pass="stop with an error")
    answer = rank(model, shapes, "a red circle", threshold=1.5, when_none_pass="pass nothing on")
    *first, ranks, report = answer["result"]
    assert all(isinstance(one, Absent) and "threshold 1.5" in one.why for one in first) and len(first) == 6
    assert ranks.shape[0] == 1 and json.loads(report)["kept"] == []


def test_a_picture_without_numbers_is_last_never_kept_and_named(place, model, broken):
    answer = place.node("CVL_RankImages").rank(model, broken, "a blue star")
    report = json.loads(answer["result"][-1])
    assert STAR not in answer["result"][4] and len(answer["result"][4]) == 2
    assert report["pictures"][-1] == {"index": STAR, "rank": 3, "score": None} and "at 1" in report["notes"][0]


def test_one_picture_is_ranked_too(place, model, shapes):
    assert place.node("CVL_RankImages").rank(model, shapes[:1], "x", keep=2)["result"][2] == "0"


# latents


def test_latents_follow_the_selection(place, model, shapes):
    selection = place.node("CVL_RankImages").rank(model, shapes, "a blue star", keep=2)["result"][1]
    latent = {"samples": torch.rand(3, 4, 8, 8), "noise_mask": torch.rand(3, 1, 8, 8)}
    found, report = place.node("CVL_SelectLatents").select(latent, selection=selection)["result"]
    places = list(selection.places)
    assert torch.equal(found["samples"], latent["samples"][places]) and found["batch_index"] == places
    assert torch.equal(found["noise_mask"], latent["noise_mask"][places])
    typed = place.node("CVL_SelectLatents").select(latent, indices=str(places))["result"][0]
    assert torch.equal(typed["samples"], found["samples"]) and json.loads(report)["indices"] == places


@pytest.mark.parametrize(
    "indices, selection, says",
    [
        ("", None, "nothing says which"),
        ("1, x", None, "whole numbers"),
        ("1.5", None, "whole numbers"),
        ("3", None, "the picture at 3, but this batch has 3"),
        ("-1", None, "the picture at -1"),
        ("", PictureSelection((0,), 8), "a batch of 8 pictures, but this LATENT has 3"),
        ("0,1", PictureSelection((1, 0), 3), "keep one of them"),
    ],
)
def test_places_that_cannot_be_meant_are_refused_in_one_sentence(place, indices, selection, says):
    with pytest.raises(ValueError, match=says) as error:
        place.node("CVL_SelectLatents").select({"samples": torch.rand(3, 4, 8, 8)}, indices, selection)
    assert "\n" not in str(error.value)


# gate


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


# questions and tags


def test_a_question_is_answered_for_every_picture(place, model, shapes):
    shown = place.node("CVL_VisualQuestion").ask(model, shapes, "what colour is the shape?", "red, green, blue")
    answer, report, chart, answers, shares = shown["result"]
    said = [line.split(",")[0] for line in shown["ui"]["text"][0].split("\n")]
    assert said[:3] == ["#0: red", "#1: blue", "#2: green"] and "  the shape is red" in said
    assert answers == ["red", "blue", "green"] and answer == "red\nblue\ngreen" and len(chart) == 3
    data = json.loads(report)
    assert data["statements"]["red"] == "the shape is red" and data["rule"] == "what colour"
    expected = cosines(model, shapes, [f"the shape is {colour}" for colour in ("red", "green", "blue")])
    got = torch.tensor([list(one["cosine"].values()) for one in data["pictures"]])
    assert (got - expected).abs().max() <= ROUNDING and all(0.5 < share <= 1 for share in shares)


def test_a_denial_is_warned_of_and_a_broken_picture_has_no_answer(place, model, broken):
    answer = place.node("CVL_VisualQuestion").ask(model, broken, "is it red?", "yes, no")
    report = json.loads(answer["result"][1])
    assert answer["result"][3][STAR] == "" and report["pictures"][STAR]["answer"] is None
    assert any("not" in note and "CLIP" in note for note in report["notes"])


def test_tags_are_a_prompt_for_each_picture(place, model, shapes):
    words = "red, green, blue\ncircle\nstar, heart, red"
    tags, tag_list, report = place.node("CVL_RankTags").rank(model, shapes, words, keep=2)["result"]
    assert [set(text.split(", ")) for text in tag_list] == [{"red", "circle"}, {"blue", "star"}, {"green", "heart"}]
    assert tags.splitlines() == tag_list and "red" in json.loads(report)["notes"][0]


def test_ten_thousand_tags_are_ranked_and_bounded(place, model, shapes):
    words = ["blue_star", *(f"w{n}" for n in range(9999))]
    rank = place.node("CVL_RankTags").rank
    assert rank(model, shapes[1:2], ",".join(words), keep=1)["result"][1] == ["blue_star"]
    with pytest.raises(ValueError, match="10,001 came"):
        rank(model, shapes, ",".join([*words, "one more"]))


def test_no_tag_over_the_threshold_is_an_empty_text_and_said(place, model, shapes):
    answer = place.node("CVL_RankTags").rank(model, shapes, "car, red circle", threshold=0.3)
    assert answer["result"][1] == ["red circle", "", ""] and "for 2 of 3 pictures" in answer["ui"]["text"][0]


# bad input

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
def test_a_picture_with_alpha_or_outside_the_range_is_judged(place, model, shapes, name):
    image = torch.cat([shapes * 3 - 1, torch.ones(3, 256, 256, 1)], -1)
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
