"""Names of learned words: how they find their files, what is said when they do not, and what is read again when."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.text import embeddings


@pytest.fixture
def folder(place):
    return place.models / "embeddings"


def put(path, value: float, width: int = 768) -> None:
    """An embedding of one vector that can be told by its value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors = torch.full((1, width), float(value))
    if path.suffix == ".safetensors":
        write_tensors(path, {"emb_params": vectors}, {})
    else:
        torch.save({"emb_params": vectors}, path)


def value(name: str) -> float | str:
    found = embeddings.find(name, "l", 768)
    return found if isinstance(found, str) else float(found[0, 0])


def test_a_name_finds_its_file_with_the_extension_or_without_in_comfyuis_order(folder):
    put(folder / "a.bin", 1)
    assert value("a") == 1
    put(folder / "a.pt", 2)
    assert value("a") == 2
    put(folder / "a.safetensors", 3)
    assert [value(name) for name in ("a", "a.bin", "a.pt", "a.safetensors")] == [3, 1, 2, 3]


def test_other_extensions_are_found_by_their_whole_name_only(folder):
    put(folder / "a.pth", 1)
    assert value("a.pth") == 1 and isinstance(value("a"), str)


def test_sub_folders_are_named_or_searched_and_what_is_nearest_to_the_root_wins(folder):
    put(folder / "x" / "deep" / "cat.pt", 1)
    assert [value(name) for name in ("cat", "deep/cat", "x/deep/cat", "x/deep/cat.pt", "./x//deep/cat")] == [1] * 5
    put(folder / "z" / "cat.pt", 2)
    assert value("cat") == 2 and value("deep/cat") == 1
    put(folder / "cat.bin", 3)
    assert value("cat") == 3 and value("cat.pt") == 2


def test_capitals_count_and_the_name_that_differs_in_them_only_is_the_first_of_the_nearest(folder):
    for name in ("Cat_A", "cat_b", "cat_c", "cat_d"):
        put(folder / f"{name}.pt", 1)
    assert value("cat_a").startswith("there is no embedding called cat_a; the nearest are Cat_A, cat_")
    assert value("CAT_A.pt").startswith("there is no embedding called CAT_A.pt; the nearest are Cat_A, ")


def test_a_misspelt_name_is_told_with_its_nearest_and_without_any_there_is_no_list(folder):
    assert value("cat") == "there is no embedding called cat; the embeddings folder is empty"
    put(folder / "sub" / "easynegative.safetensors", 1)
    assert value("easynegatve") == "there is no embedding called easynegatve; the nearest are easynegative"
    assert value("sub/easynegatve").endswith("the nearest are sub/easynegative")
    assert value("qqq") == "there is no embedding called qqq, nor one with a name like it"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "../secret.pt",
        "sub/../../secret",
        "..",
        ".",
        "/",
        "",
        " ",
        "\0",
        "a\0b",
        "..\\secret",
        "sub\\..\\..\\secret",
        "//secret",
        "~",
        "\udc80",
        "x" * 100_000,
        "/" * 5000,
        "../" * 5000,
        ":",
        "::",
        "a:b:c",
        "\n",
        "C:secret",
        "*",
        "embedding:",
    ],
)
def test_no_name_leaves_the_folder_or_raises(folder, name):
    put(folder / "sub" / "a.pt", 1)
    put(folder.parent / "secret.pt", 2)
    for asked in (name, name + str(folder.parent / "secret.pt")):
        why = embeddings.find(asked, "l", 768)
        assert why.startswith("there is no embedding called") and len(why.encode("utf-8")) < 300


def test_an_absolute_path_and_a_link_out_of_the_folder_are_refused(folder):
    put(folder.parent / "secret.pt", 2)
    assert isinstance(value(str(folder.parent / "secret.pt")), str)
    (folder / "link.pt").symlink_to(folder.parent / "secret.pt")
    assert value("link") == "link.pt is gone from the embeddings folder, or lies outside of it"


def test_broken_and_hostile_files_are_a_sentence(folder):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(folder / "it-ran"),)

    (folder / "empty.pt").write_bytes(b"")
    (folder / "page.safetensors").write_bytes(b"<!DOCTYPE html>" + b" " * 99)
    torch.save({"emb_params": torch.ones(2, 768), "x": Code()}, folder / "code.pt")
    torch.save({"emb_params": torch.full((2, 768), float("nan"))}, folder / "nan.pt")
    write_tensors(folder / "lora.safetensors", {"a.lora_up.weight": torch.ones(2, 2)}, {})
    for name, said in {
        "empty": "empty.pt: the file is empty",
        "page": "web page",
        "code": "nothing was run",
        "nan": "has NaN",
        "lora": "lora.safetensors: a textual inversion was expected",
    }.items():
        why = value(name)
        assert said in why and "\n" not in why
    assert not (folder / "it-ran").exists()


def test_embeddings_in_pictures_are_refused_by_name(folder):
    put(folder / "cat.pt", 1)
    for name in ("cat.png", "sub/Cat.WEBP"):
        assert value(name).startswith(f"{name}: embeddings in pictures")


def test_a_word_of_a_file_with_several_stands_behind_a_colon(folder):
    words = {"bundle_emb.cat.clip_l": torch.ones(1, 768), "bundle_emb.dog.clip_l": torch.ones(1, 768) * 2}
    write_tensors(folder / "pets.safetensors", words, {})
    assert value("pets:dog") == 2 and value("pets.safetensors:cat") == 1 and "one of cat, dog" in value("pets")


def test_a_weight_without_brackets_is_answered_with_what_to_write(folder):
    put(folder / "cat.pt", 1)
    assert value("cat:1.2").endswith("a weight needs brackets: (embedding:cat:1.2)")
    put(folder / "cat:1.2.pt", 3)  # as in ComfyUI, a file of that very name is found
    assert value("cat:1.2") == 3


@pytest.mark.parametrize("vectors", [torch.ones(3, 1024), torch.ones(2, 768).half(), torch.ones(2, 768)])
def test_the_first_textual_inversions_keep_their_shape_where_comfyui_guesses_it(folder, vectors):
    """ComfyUI reads the storage as 32-bit rows of 768 if they divide: (4, 768) and (1, 768) for the first two."""
    words = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": words}, folder / "first.pt")
    assert embeddings.find("first", "x", vectors.shape[1]).equal(vectors.float())


def test_a_bare_tensor_is_read_where_comfyui_raises(folder):
    torch.save(torch.ones(2, 768), folder / "bare.pt")
    assert value("bare") == 1


def test_the_wrong_encoder_is_told_with_both_widths(folder):
    put(folder / "old.pt", 1, 1024)
    assert value("old") == "its vectors have 1024 numbers (made for SD2) and clip_l wants 768"


def test_what_is_not_used_of_a_file_is_told(folder):
    write_tensors(folder / "a.safetensors", {"clip_l": torch.ones(1, 768), "clip_l_out": torch.ones(1, 768)}, {})
    assert "clip_l_out" in embeddings.library().notes("a")[0] and embeddings.library().notes("b") == ()


def test_the_library_is_the_same_until_a_name_changes_and_a_file_is_read_again_when_it_changes(folder):
    put(folder / "a.pt", 1)
    before = embeddings.library()
    first = before.find("a", "l", 768)
    assert embeddings.library() is before and before.find("a", "l", 768) is first
    put(folder / "a.pt", 2)
    os.utime(folder / "a.pt", ns=(1, time.time_ns() + 10**9))
    assert embeddings.library() is before and value("a") == 2
    put(folder / "b.pt", 3)
    assert embeddings.library() is not before and value("b") == 3
    (folder / "a.pt").unlink()
    assert "no embedding called a" in value("a")


def test_a_file_that_is_gone_since_the_list_was_made_is_a_sentence(folder):
    put(folder / "a.pt", 1)
    library = embeddings.library()
    (folder / "a.pt").unlink()
    assert "gone" in library.find("a", "l", 768)


def test_no_more_files_are_kept_than_the_bound(folder, monkeypatch):
    monkeypatch.setattr(embeddings, "_KEPT_FILES", 3)
    for number in range(6):
        put(folder / f"f{number}.pt", number)
    assert [value(f"f{number}") for number in range(6)] == list(range(6))
    assert len(embeddings._files) == 3
    monkeypatch.setattr(embeddings, "_KEPT_BYTES", 10)
    put(folder / "large.pt", 7)
    assert value("large") == 7 and not any("large" in key[0] for key in embeddings._files)


def test_bare_names_are_file_names_matched_by_their_token_ids_the_longest_first(folder):
    for name in ("cat", "Black Cat", "sub/cat-toy", "picture.ckpt"):
        put(folder / (name if "." in name else f"{name}.pt"), 1)
    tokenizer = Tokenizer()
    match = embeddings.library().bare_name(tokenizer)
    for text, expected in {
        "cat": ("cat", 1),
        "CAT food": ("cat", 1),
        "cat-toy": ("cat-toy", 3),
        "cat-": ("cat", 1),
        "black": None,
        "black cat": ("Black Cat", 2),
        "picture": None,
        "cats": None,
        "": None,
    }.items():
        assert match(tokenizer.encode(text)) == expected, text
    assert value("Black Cat") == 1


def test_of_two_names_with_the_same_ids_one_is_taken_always(folder):
    put(folder / "CAT.pt", 1)
    put(folder / "cat.pt", 2)
    assert embeddings.library().bare_name(Tokenizer())(Tokenizer().encode("cat")) == ("CAT", 1)


def test_names_are_tokenized_once_for_each_rule(folder):
    put(folder / "cat.pt", 1)
    encoded = []
    tokenizer = SimpleNamespace(rules="openai", encode=lambda text: encoded.append(text) or [320])
    library = embeddings.library()
    assert library.bare_name(tokenizer)([320]) == library.bare_name(tokenizer)([320]) == ("cat", 1)
    assert encoded == ["cat"]


def test_many_threads_may_ask_at_once(folder):
    for number in range(6):
        put(folder / f"cat{number}.pt", number)
    asked = [f"cat{number % 8}" for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(value, asked))
    assert answers == [value(name) for name in asked]


def test_the_words_of_a_published_lora_are_found(folder, shared_data):
    (folder / "disney.safetensors").symlink_to(shared_data / "lora" / "lora_disney.safetensors")
    assert "lies outside" in value("disney:s1")
    (folder / "disney.safetensors").unlink()
    (folder / "disney.safetensors").write_bytes((shared_data / "lora" / "lora_disney.safetensors").read_bytes())
    assert value("disney") == "it holds 2 words: put one of s1, s2 behind its name and a colon"
    assert embeddings.find("disney:s2", "l", 768).shape == (1, 768)
