"""A dialect of this test's own, by one row: what the nodes offer, encode, count and say of it."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.prompts import oddities
from clip_vae_lora.clip_core.prompts.comfy import Span, Stretch, unmerged
from clip_vae_lora.clip_core.prompts.dialects import DIALECTS, Dialect, read
from clip_vae_lora.clip_core.prompts.plan import JOINING, Port, PromptSettings, plan_prompt
from clip_vae_lora.nodes.text.token_count import answer
from clip_vae_lora.nodes.text.token_report import of_prompt

from ...support import tiny


def stars(text: str):
    """*word* counts twice."""
    found, start = [], 0
    for number, piece in enumerate(text.split("*")):
        if piece:
            found.append(Stretch(start, start + len(piece), piece, 2.0 if number % 2 else 1.0))
        start += len(piece) + 1
    return found, []


def question_marks(part: oddities.Read):
    yield from (("asked", f"? {part.at(place)}") for place, sign in enumerate(part.text) if sign == "?")


@pytest.fixture
def dialect(monkeypatch):
    row = Dialect(
        "stars",
        "Starry",
        "stars double a word",
        stars,
        unmerged,
        weighting="a1111 no norm",
        split="word",
        odd=oddities.Own(find=question_marks, lines={"asked": "{}: nobody answers"}),
        compared="comfy",
    )
    monkeypatch.setitem(DIALECTS, "stars", row)
    return row


def test_its_grammar_gives_the_spans_and_its_oddities_the_notes(dialect):
    reading = read("a *red* (fox:1.3)?", "stars")
    assert reading.parts[0].spans == (Span("a "), Span("red", 2.0), Span(" (fox:1.3)?"))
    assert reading.notes == (
        "? at character 18: nobody answers",
        'these words would have another weight in the other dialect: "red" 2 here and 1 in ComfyUI, '
        '"fox" 1 here and 1.3 in ComfyUI',
    )
    assert read("why?").notes == ()


def test_a_dialect_that_is_compared_with_none_has_no_notes_of_others(dialect, monkeypatch):
    row = Dialect("alone", "Alone", "as stars", stars, unmerged, weighting="comfy", split="hard")
    monkeypatch.setitem(DIALECTS, "alone", row)
    assert read("a *red* (fox:1.3)", "alone").notes == ()


def test_its_splitting_and_weighting_are_those_of_text_encode_unless_others_are_chosen(dialect, place):
    settings = PromptSettings(dialect="stars")
    chosen = settings.chosen()
    assert (chosen.splitting, chosen.weighting, chosen.breaks) == ("word", "a1111 no norm", False)
    assert PromptSettings(dialect="stars", joining=JOINING).breaks
    port = Port("clip_l", "l", width=768, pad=49407, context=77, layers=12)
    (part,) = plan_prompt("a *red* BREAK fox", [port], settings).parts
    assert [token.emphasis for token in of_prompt(part.packed["l"].chunks[0])] == [1.0, 2.0, 1.0, 1.0]


def test_text_encode_offers_it_and_encodes_with_it(dialect, place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    clip = place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]
    node = place.node("CVL_TextEncode")
    widgets = node.INPUT_TYPES()["optional"]
    assert widgets["dialect"][0] == ["comfy", "a1111", "stars"]
    assert widgets["dialect"][1]["tooltip"].endswith(" stars: stars double a word.")
    assert "hard for comfy, comma for a1111, word for stars." in widgets["splitting"][1]["tooltip"]
    assert "BREAK in a1111, none in comfy and stars." in widgets["joining"][1]["tooltip"]
    assert ", or a1111 no norm. compel" in widgets["weighting"][1]["tooltip"]
    own, report = node.encode(clip, "a *red* fox", dialect="stars")["result"]
    assert (json.loads(report)["weighting"], json.loads(report)["splitting"]) == ("a1111 no norm", "word")
    same = node.encode(clip, "a (red:2) fox", weighting="a1111 no norm")["result"][0]
    other = node.encode(clip, "a red fox", weighting="a1111 no norm")["result"][0]
    assert torch.equal(own[0][0], same[0][0]) and not torch.equal(own[0][0], other[0][0])


def test_the_live_count_takes_it(dialect, place):
    assert answer({"text": "a *red* fox", "dialect": "stars"})["tokens"] == 3
    with pytest.raises(ValueError, match="one of comfy, a1111, stars"):
        answer({"text": "a", "dialect": "nai"})
