"""Image-Text Similarity: cosines both ways, best matches, one picture alone, thousands of texts."""

import json

import torch

from ...support.judged import CIRCLE, ROUNDING, STAR, cosines


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
