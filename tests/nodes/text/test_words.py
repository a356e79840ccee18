"""What a prompt node says about slips: embeddings without a name or with a blank, weights and marks that are text."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.prompts.comfy import without_nameless
from clip_vae_lora.files.tensors import write_tensors

from ...support import tiny


@pytest.fixture
def notes(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    clips = {
        family: place.node("CVL_LoadTextEncoder").load("c.safetensors", *more)["result"][0]
        for family, more in {"sd1": (), "sdxl": ("c.safetensors", "sdxl")}.items()
    }

    def notes(text, family="sd1", **options):
        answer = place.node("CVL_TextEncode").encode(clips[family], text, **options)
        return " ".join(json.loads(answer["result"][1])["notes"])

    return notes


@pytest.mark.parametrize("dialect", ["comfy", "a1111"])
@pytest.mark.parametrize("text", ["a (cat:1.2):1.3 dog", "(a):1.1", "((a) b):0.9, c"])
def test_a_weight_behind_a_closed_bracket_is_named(notes, text, dialect):
    assert "text, no weight; a weight stands inside the bracket" in notes(text, dialect=dialect)


@pytest.mark.parametrize("text", ["((cat):1.3)", "[(a):(b):0.5]", r"a \(b\):2.0", "(a): 2nd", "(a:1.2), 1.3"])
def test_what_only_looks_like_one_is_not(notes, text):
    assert "inside the bracket" not in notes(text)


def test_a_wildcard_is_named(notes):
    assert "__animals/cats__ is encoded as it stands: no file of wildcards" in notes("a __animals/cats__ on grass")
    assert "wildcards" not in notes("snake__case and ____ and __init")


@pytest.mark.parametrize("name", ["my sub/with space.safetensors", "two words.pt"])
def test_a_name_with_a_blank_in_it_is_told_with_its_file(place, notes, name):
    path = place.models / "embeddings" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path.with_suffix(".safetensors"), {"emb_params": torch.zeros(1, 64)}, {})
    written = name.rpartition(".")[0]
    said = notes(f"a cat, embedding:{written}")
    assert "a name ends at a blank, and" in said and written in said and "rename" in said


@pytest.mark.parametrize("text", ["a cat, embedding:", "a (embedding:) cat", "embedding:  ", "(embedding::1.2)"])
def test_an_embedding_without_a_name_is_said(notes, text):
    assert "embedding without a name not used: there is no name behind 'embedding:'" in notes(text)


def test_only_what_has_no_name_is_left_out_for_the_hosts_own_tokenizers():
    assert without_nameless("a cat, embedding:") == ("a cat, ", 1)
    assert without_nameless("a (embedding:) b (embedding::1.2)") == ("a () b ()", 2)
    assert without_nameless("embedding: embedding:x") == (" embedding:x", 1)
    for text in ("embedding:x", "embedding: x", "my_embedding:", "no embeddings at all"):
        assert without_nameless(text) == (text, 0)


def test_clip_skip_1_is_unusual_for_sdxl_and_usual_for_sd1(notes):
    assert "clip skip 1 reads the last layer" in notes("a cat", "sdxl", clip_skip=1)
    assert "clip skip" not in notes("a cat", "sdxl", clip_skip=2) + notes("a cat", clip_skip=1)
