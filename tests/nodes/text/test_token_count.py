"""The count that the canvas shows under a prompt: the question and the answer, as JSON has them."""

import itertools
import json

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.nodes.text import token_count
from clip_vae_lora.nodes.text.token_count import MOST_PIECES, answer

from ...support.growth import check_linear


def chunks(found: dict) -> list[int]:
    return [chunk["used"] for chunk in found["chunks"]]


def test_a_short_prompt_is_one_chunk_with_the_tokenizers_count(place):
    found = answer({"text": "a red circle on a blue background"})
    assert found["tokens"] == len(Tokenizer("transformers").encode("a red circle on a blue background")) == 7
    assert (chunks(found), found["limit"], found["notes"], found["more"]) == ([7], 75, [], 0)


def test_an_empty_prompt_has_one_empty_chunk(place):
    assert chunks(answer({"text": ""})) == [0]


def test_a_long_prompt_is_counted_by_chunk(place):
    assert chunks(answer({"text": "cat " * 151})) == [75, 75, 1]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["comfy", "a1111"])
def test_counting_takes_time_in_proportion_to_the_prompts_length(place, dialect):
    number = itertools.count()  # no prompt twice: what is kept would cost nothing

    def count(size):
        answer({"text": f"{next(number)} " + "a (painting:1.2) of [dawn], " * (size // 28), "dialect": dialect})

    check_linear(count, 60_000)


def test_the_dialect_says_what_brackets_and_break_are(place):
    question = {"text": "a cat BREAK a [dog]"}
    assert chunks(answer(question | {"dialect": "a1111"})) == [2, 2]
    assert chunks(answer(question)) == [7]
    assert chunks(answer(question | {"joining": "BREAK CONCAT AVERAGE"})) == [2, 4]


def test_the_splitting_moves_the_border(place):
    question = {"text": "cat " * 70 + ", " + "dog " * 10}
    assert chunks(answer(question | {"splitting": "hard"})) == [75, 6]
    assert chunks(answer(question | {"splitting": "comma"})) == [71, 10]


def test_joined_parts_say_how_they_are_joined(place):
    found = answer({"text": "a cat CONCAT(0.8) a dog", "joining": "BREAK CONCAT AVERAGE"})
    joined = [(chunk["join"], chunk["weight"], chunk["used"]) for chunk in found["chunks"]]
    assert joined == [("", 1, 2), ("CONCAT", 0.8, 2)]


def test_pieces_come_only_when_asked_for_and_carry_id_and_weight(place):
    assert "pieces" not in answer({"text": "a (red:1.3) cat"})["chunks"][0]
    pieces = answer({"text": "a (red:1.3) cat", "pieces": True})["chunks"][0]["pieces"]
    ids = Tokenizer("transformers").encode("a red cat")
    assert [(piece["text"].strip(), piece["id"], piece["weight"]) for piece in pieces] == [
        ("a", ids[0], 1.0),
        ("red", ids[1], 1.3),
        ("cat", ids[2], 1.0),
    ]


def test_the_list_of_pieces_is_bounded_and_the_rest_is_counted(place):
    found = answer({"text": "cat " * (MOST_PIECES + 50), "pieces": True})
    assert sum(len(chunk["pieces"]) for chunk in found["chunks"] if "pieces" in chunk) == MOST_PIECES
    assert found["more"] == 50 and sum(chunks(found)) == found["tokens"] == MOST_PIECES + 50


def test_what_is_odd_or_lost_is_in_the_notes(place):
    notes = " ".join(answer({"text": "a (cat embedding:nowhere"})["notes"])
    assert "never closed" in notes and "nowhere" in notes


def test_an_embedding_is_one_piece_with_its_number_of_vectors(place):
    save_file({"emb_params": torch.ones(3, 768)}, place.models / "embeddings" / "moss.safetensors")
    found = answer({"text": "a (embedding:moss:1.2)", "pieces": True})
    assert found["tokens"] == 4 and found["embeddings"] == ["moss"] and found["notes"] == []
    assert found["chunks"][0]["pieces"][-1] == {"text": "", "id": None, "vectors": 3, "weight": 1.2}


@pytest.mark.parametrize("width, encoder", [(1280, "clip_g"), (1024, "clip_h")])
def test_an_embedding_of_another_encoder_is_counted_for_that_one_and_it_is_said(place, width, encoder):
    save_file({"emb_params": torch.ones(2, width)}, place.models / "embeddings" / "fern.safetensors")
    found = answer({"text": "a embedding:fern"})
    assert (found["tokens"], found["encoder"], found["notes"]) == (3, encoder, [])


def test_two_embeddings_beside_each_other_are_two_pieces(place):
    for name in ("one", "two"):
        save_file({"emb_params": torch.ones(2, 768)}, place.models / "embeddings" / f"{name}.safetensors")
    pieces = answer({"text": "embedding:one embedding:two", "pieces": True})["chunks"][0]["pieces"]
    assert [piece["vectors"] for piece in pieces] == [2, 2]


@pytest.mark.parametrize("text", ["(cat:1e400)", "(cat:nan)", "(" * 9000 + "cat" + ")" * 9000])
def test_a_prompt_that_cannot_be_read_is_answered_with_a_sentence(place, text):
    found = answer({"text": text})
    assert set(found) == {"error"} and len(found["error"]) > 20


@pytest.mark.parametrize("text", ["\ud800 cat", "\0\1", "((((", "embedding:../../secret", "[" * 5000, "a\u200b" * 3000])
def test_hostile_prompts_are_counted_and_the_answer_is_json(place, text):
    found = answer({"text": text, "pieces": True, "dialect": "a1111"})
    assert json.loads(json.dumps(found))["tokens"] >= 0


@pytest.mark.parametrize(
    "question, said",
    [
        (7, '"text"'),
        ([], '"text"'),
        ({}, '"text"'),
        ({"text": 5}, '"text"'),
        ({"text": "a", "dialect": "latin"}, "dialect was expected to be one of comfy, a1111, but 'latin' came"),
        ({"text": "a", "dialect": ["comfy"]}, "dialect"),
        ({"text": "a", "splitting": None}, "splitting"),
        ({"text": "a", "joining": "AND"}, "joining"),
        ({"text": "a", "encoder": "t5"}, "encoder"),
        ({"text": "a", "pieces": 1}, "pieces"),
    ],
)
def test_a_question_that_is_none_is_refused_in_a_sentence(place, question, said):
    with pytest.raises(ValueError, match=said):
        answer(question)


def test_the_choices_are_those_of_the_node(place):
    widgets = place.node("CVL_TextEncode").INPUT_TYPES()["optional"]
    for name in ("dialect", "splitting", "joining"):
        assert list(token_count.CHOICES[name]) == list(widgets[name][0])
