"""Textual inversion: every layout of names gives its vectors to the encoder they are for, and nothing else does."""

import pytest
import torch

from clip_vae_lora.clip_core.prompts.textual_inversion import (
    MAX_VECTORS,
    EmbeddingError,
    EmbeddingFile,
    find_embeddings,
)

WIDTHS = {"l": 768, "g": 1280, "h": 1024, "t5xxl": 4096}


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def parse(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> EmbeddingFile:
    return find_embeddings({name: tuple(tensor.shape) for name, tensor in tensors.items()}, metadata).translate(tensors)


L, G, H, T5 = rows(3, 768), rows(3, 1280), rows(2, 1024), rows(2, 4096)
ONE_WORD = [
    ({"string_to_param.*": L, "string_to_token.*": torch.tensor(265)}, {"name": "x"}, "l", L),
    ({"string_to_param.*": H}, {}, "h", H),
    ({"emb_params": L}, {}, "l", L),
    ({"emb_params": H}, {}, "h", H),
    ({"emp_params": L, "emp_params_out": L * 2}, {}, "l", L),
    ({"clip_l": L, "clip_g": G}, {}, "l", L),
    ({"clip_l": L, "clip_g": G}, {}, "g", G),
    ({"clip_g": G, "clip_l": L, "clip_g_out": G * 2, "clip_l_out": L * 2}, {}, "g", G),
    ({"clip_l": L, "clip_g": G, "t5": T5}, {}, "t5xxl", T5),
    ({"text_encoders_0": L, "text_encoders_1": G}, {}, "g", G),
    ({"<cat-toy>": L[0]}, {}, "l", L[:1]),
    ({"<cat-toy>": L}, {}, "l", L),
    ({"cat-toy": L}, {}, "l", L),
    ({"tensor": L}, {}, "l", L),
    ({"tensor": G[1]}, {}, "g", G[1:2]),
    ({"0.a": L, "1.a": G, "2.b": L[0]}, {}, "l", torch.cat([L, L[:1]])),
    ({"0.a": L, "1.a": G, "2.b": L[0]}, {}, "g", G),
    ({"bundle_emb.my.cat.string_to_param.*": L, "lora_te_x.lora_up.weight": rows(4, 4)}, {}, "l", L),
    ({"bundle_emb.cat.clip_l": L, "bundle_emb.cat.clip_g": G, "bundle_emb.cat.clip_l_out": L * 2}, {}, "g", G),
    ({"<s1>": L[0], "text_encoder:0:up": rows(4, 4)}, {"<s1>": "<embed>"}, "l", L[:1]),
    ({"word": L[0], "text_encoder:0:up": rows(4, 4)}, {"word": "<embed>"}, "l", L[:1]),
]


@pytest.mark.parametrize("tensors, metadata, key, expected", ONE_WORD)
def test_each_layout_gives_its_vectors(tensors, metadata, key, expected):
    found = parse(tensors, metadata).vectors(key, WIDTHS[key])
    assert found.equal(expected) and found.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_vectors_are_given_in_float32_whatever_they_are_stored_in(dtype):
    stored = L.to(dtype)
    found = parse({"emb_params": stored}).vectors("l", 768)
    assert found.dtype == torch.float32 and found.equal(stored.to(torch.float32))


def test_the_wrong_width_is_a_sentence_that_says_what_the_vectors_were_made_for():
    why = parse({"emb_params": H}).vectors("l", 768)
    assert why == "its vectors have 1024 numbers (made for SD2) and clip_l wants 768"
    assert "(made for SD1) and clip_g wants 1280" in parse({"string_to_param.*": L}).vectors("g", 1280)
    assert parse({"emb_params": rows(1, 5)}).vectors("h", 1024) == "its vectors have 5 numbers and clip_h wants 1024"


def test_the_name_of_an_encoder_comes_before_the_width():
    same = {"clip_l": rows(1, 32, 1), "clip_g": rows(2, 32, 2)}
    assert parse(same).vectors("l", 32).equal(same["clip_l"]) and parse(same).vectors("g", 32).equal(same["clip_g"])
    assert parse({"clip_l": rows(1, 32)}).vectors("g", 32) == "it has vectors for clip_l, and none for clip_g"
    assert "clip_g wants 1280" in parse({"clip_g": L}).vectors("g", 1280)


def test_a_width_of_no_published_model_is_taken_where_the_encoder_has_it():
    tiny = rows(2, 32)
    assert parse({"emb_params": tiny}).vectors("l", 32).equal(tiny)


def test_several_words_in_one_file_are_kept_apart_and_asked_for_by_name():
    tensors = {"bundle_emb.cat.clip_l": L, "bundle_emb.cat.clip_g": G, "bundle_emb.dog.clip_l": L + 1}
    found = parse(tensors)
    assert found.vectors("l", 768, "cat").equal(L) and found.vectors("l", 768, "dog").equal(L + 1)
    assert found.vectors("l", 768) == "it holds 2 words: put one of cat, dog behind its name and a colon"
    assert found.vectors("g", 1280, "dog") == "it has vectors for clip_l, and none for clip_g"
    assert found.vectors("g", 1280, "cow") == "it has no word cow; it has cat, dog"
    pair = parse({"<s1>": L[0], "<s2>": L[1]}, {"<s1>": "<embed>", "<s2>": "<embed>"})
    assert pair.vectors("l", 768, "s2").equal(L[1:2])


def test_a_word_asked_for_in_a_file_with_one_nameless_word_is_a_sentence():
    assert parse({"emb_params": L}).vectors("l", 768, "x") == "it has no word x; it has one, without a name"


def test_output_vectors_are_not_used_and_a_note_says_so():
    for tensors in ({"emp_params": L, "emp_params_out": L}, {"clip_l": L, "clip_l_out": L}):
        (note,) = parse(tensors).notes
        assert "_out) are not used" in note and "behind the encoder" in note
    with pytest.raises(EmbeddingError):
        parse({"emp_params_out": L})


def test_what_is_no_learned_word_is_told_with_the_reason():
    found = parse({"emb_params": L, "v": H, "clip_l": rows(2, 3).reshape(1, 2, 3), "clip_g": torch.ones(2, 3).long()})
    assert found.unread.keys() == {"v", "clip_l", "clip_g"}
    assert "[1, 2, 3]" in found.unread["clip_l"] and "int64" in found.unread["clip_g"]


@pytest.mark.parametrize(
    "tensors, said",
    [
        ({}, "no tensor"),
        ({"string_to_token.*": torch.tensor(265)}, "no tensor"),
        ({"emb_params": torch.tensor(1.0)}, "its shape is []"),
        ({"emb_params": torch.ones(0, 768)}, "[0, 768]"),
        ({"emb_params": torch.ones(2, 768).long()}, "int64"),
        ({"emb_params": torch.empty(MAX_VECTORS + 1, 2)}, "token table"),
        ({"model.a.weight": L, "model.a.bias": L[0], "betas": L[0]}, "and 1 more tensors"),
        ({"lora_te_x.lora_up.weight": L, "lora_te_x.alpha": L[0]}, "not a learned word"),
        ({"bundle_emb.x.who_knows": L}, "not a learned word"),
    ],
)
def test_a_file_without_a_learned_word_is_refused_in_one_sentence(tensors, said):
    with pytest.raises(EmbeddingError) as caught:
        parse(tensors)
    text = str(caught.value)
    assert said in text and "learned word" in text and len(text) < 300


def test_a_long_name_does_not_make_a_long_sentence():
    name = "x" * 100_000
    with pytest.raises(EmbeddingError) as caught:
        parse({name + ".weight": L})
    assert len(str(caught.value)) < 300
    assert len(parse({name: L, name + "y": L}).vectors("l", 768)) < 300


def test_a_source_names_the_tensors_to_read_before_any_is_read():
    shapes = {"<s1>": (768,), "unet:0:up": (320, 4), "bundle_emb.x.clip_l": (2, 768)}
    source = find_embeddings(shapes, {})
    assert list(source.names) == ["<s1>", "bundle_emb.x.clip_l"] and list(source.unread) == ["unet:0:up"]


def test_nothing_given_is_changed():
    tensors, metadata = {"emb_params": L.half()}, {"a": "b"}
    parse(tensors, metadata)
    assert list(tensors) == ["emb_params"] and tensors["emb_params"].equal(L.half()) and metadata == {"a": "b"}
