"""Textual inversion beside ComfyUI's own `load_embed`: the same vectors from every file that it reads rightly."""

from importlib import import_module

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.clip_core.tokenizer import Tokenizer

KEYS = {"l": ("clip_l", 768), "g": ("clip_g", 1280), "h": ("clip_h", 1024)}


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def a1111(vectors: torch.Tensor) -> dict:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "cat",
        "step": 9,
        "sd_checkpoint": None,
        "sd_checkpoint_name": "x",
    }


def first(vectors: torch.Tensor) -> dict:
    words = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": words}


L, G, H = rows(3, 768, 1), rows(2, 1280, 2), rows(2, 1024, 3)
PAIR = {"clip_l": L, "clip_g": G}
SAME = [  # file name, what is in it, for which encoder
    ("a1111.pt", a1111(L), "l"),
    ("a1111_half.pt", a1111(L.half()), "l"),
    ("a1111_sd2.pt", a1111(H), "h"),
    ("first.pt", first(L), "l"),
    ("kohya.safetensors", {"emb_params": L}, "l"),
    ("kohya_sd2.pt", {"emb_params": H}, "h"),
    ("onetrainer.safetensors", {"emp_params": L, "emp_params_out": L * 2}, "l"),
    ("sdxl.safetensors", PAIR, "l"),
    ("sdxl.safetensors", PAIR, "g"),
    ("sdxl_pickled.pt", PAIR, "g"),
    ("sd3.safetensors", PAIR | {"t5": rows(2, 4096)}, "g"),
    ("learned_embeds.bin", {"<cat-toy>": L}, "l"),
    ("learned_embeds_1d.bin", {"<cat-toy>": L[0].clone()}, "l"),
    ("learned.safetensors", {"<cat-toy>": L}, "l"),
    ("list.pt", [{"a": L, "b": G}, {"c": L[0].clone()}], "l"),
    ("list.pt", [{"a": L, "b": G}, {"c": L[0].clone()}], "g"),
    ("bundled_sd1.safetensors", {"bundle_emb.cat.string_to_param.*": L, "lora_te_x.alpha": rows(1, 1)}, "l"),
    ("bundled.safetensors", {"bundle_emb.cat.clip_l": L, "bundle_emb.cat.clip_g": G}, "g"),
]
FAULTY = [  # where ComfyUI gives other vectors, or raises: file name, what is in it, encoder, what is right
    ("first_sd2.pt", first(rows(3, 1024)), "h", rows(3, 1024)),  # its reader takes them for 4 rows of 768
    ("first_half.pt", first(rows(2, 768).half()), "l", rows(2, 768).half().float()),  # and halves for one row
    ("bare.pt", L, "l", L),  # RuntimeError
    ("two_words.safetensors", {"bundle_emb.a.clip_l": L, "bundle_emb.b.clip_l": L + 1}, "l", "it holds 2 words"),
    ("two_tokens.bin", {"<a>": L, "<b>": L + 1}, "l", "it holds 2 words"),
    ("only_g.safetensors", {"clip_g": G}, "l", "it has vectors for clip_g, and none for clip_l"),
    ("sd2.safetensors", {"emb_params": H}, "l", "its vectors have 1024 numbers (made for SD2) and clip_l wants 768"),
]


@pytest.fixture(scope="module")
def stock(comfyui):
    return import_module("comfy.sd1_clip")


@pytest.fixture(scope="module")
def ours(comfyui):
    """Our nodes' embeddings, in the pack as ComfyUI has loaded it."""
    return import_module(f"{comfyui.ours.__name__}.nodes.text.embeddings")


@pytest.fixture
def folder(comfyui):
    folder = comfyui.models / "embeddings"
    before = set(folder.rglob("*"))
    yield folder
    for path in sorted(set(folder.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def put(path, document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in document.items()}, path)
    else:
        torch.save(document, path)


def theirs(stock, folder, name: str, key: str):
    encoder, width = KEYS[key]
    return stock.load_embed(name, [str(folder)], width, encoder)


@pytest.mark.parametrize("name, document, key", SAME)
def test_the_vectors_are_the_hosts(stock, ours, folder, name, document, key):
    put(folder / name, document)
    for asked in (name, name.rpartition(".")[0]):
        expected = theirs(stock, folder, asked, key).detach().float()
        found = ours.find(asked, key, KEYS[key][1])
        assert found.equal(expected.reshape(-1, expected.shape[-1]))


@pytest.mark.parametrize("name, document, key, right", FAULTY)
def test_where_the_host_is_wrong_ours_is_not(stock, ours, folder, name, document, key, right):
    put(folder / name, document)
    try:
        host_says = theirs(stock, folder, name, key)
    except RuntimeError:
        host_says = None
    found = ours.find(name, key, KEYS[key][1])
    if isinstance(right, str):
        assert found.startswith(right)
    else:
        assert found.equal(right) and not (host_says is not None and torch.equal(host_says.float(), right))


NAMES = [
    "cat",
    "cat.pt",
    "cat.bin",
    "sub/cat",
    "sub/cat.pt",
    "deep/dog",
    "sub/deep/dog.safetensors",
    "dog",
    "Cat",
    "./cat",
    "sub//cat",
    "sub/",
    "nothing",
    "cat.safetensors",
    "../secret",
    "sub/../../secret",
    "cat:1.2",
    "sub/../cat",
    "DOG",
    "sub\\cat",
    "cat.",
    "x.y",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_a_file_when_the_host_finds_one(stock, ours, folder, name):
    """One file of each name, because in which order the host looks through sub-folders is left to chance."""
    for number, path in enumerate(["cat.pt", "sub/deep/dog.safetensors", "sub/bird.bin", "x.y.pt", "cat.bin"], 1):
        put(folder / path, {"emb_params": torch.full((1, 768), float(number))})
    put(folder.parent / "secret.pt", {"emb_params": torch.full((1, 768), 9.0)})
    expected = theirs(stock, folder, name, "l")
    found = ours.find(name, "l", 768)
    if expected is None:
        assert isinstance(found, str)
    else:
        assert found.equal(expected)


def test_a_name_that_leaves_the_folder_and_comes_back_is_found_by_the_host_only(stock, ours, folder):
    put(folder / "cat.pt", {"emb_params": L})
    assert theirs(stock, folder, "../embeddings/cat", "l").equal(L)
    assert ours.find("../embeddings/cat", "l", 768).startswith("there is no embedding called")


def test_the_library_follows_the_hosts_list_of_files(ours, folder):
    put(folder / "cat.pt", {"emb_params": L})
    library = ours.library()
    assert "cat.pt" in library.names and ours.library() is library
    assert library.bare_name(Tokenizer())(Tokenizer().encode("cat")) == ("cat", 1)
    put(folder / "sub" / "new.pt", {"emb_params": L})
    assert ours.find("new", "l", 768).equal(L)
