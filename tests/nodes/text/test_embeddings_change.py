"""A prompt's result is made anew when an embedding comes, goes or changes that it names, and not when others do."""

import os

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

NODES = {
    "CVL_TextEncode": lambda text, **more: {"text": text, **more},
    "CVL_InspectTokens": lambda text, **more: {"text": text, **more},
    "CVL_TextEncodeSDXL": lambda text, **more: {"text_g": "a dog", "text_l": text, **more},
}


def put(place, name, value=0.0):
    path = place.models / "embeddings" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    write_tensors(path, {"emb_params": torch.full((2, 768), value)}, {})
    return path


@pytest.fixture(params=list(NODES))
def mark(request, place):
    node = place.node(request.param)
    return lambda text, **more: node.IS_CHANGED(**NODES[request.param](text, **more))


@pytest.mark.parametrize("text", ["embedding:late cat", "(embedding:late:1.2)", "embedding:sub/late.safetensors"])
def test_one_that_comes_changes_or_goes_is_seen(place, mark, text):
    seen = [mark(text)]
    path = put(place, "sub/late.safetensors")
    seen.append(mark(text))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    put(place, "sub/late.safetensors", 1.0)
    os.utime(path, ns=times)  # as large and as old as before
    seen.append(mark(text))
    path.unlink()
    seen.append(mark(text))
    assert len(set(seen[:3])) == 3 and seen[3] == seen[0]


def test_one_that_is_not_named_is_nothing_to_a_prompt(place, mark):
    put(place, "late.safetensors")
    before = [mark("embedding:late cat"), mark("a cat")]
    put(place, "late.safetensors.txt")
    path = put(place, "zebra.safetensors")
    named, plain = mark("embedding:late cat"), mark("a cat")
    assert plain == before[1]
    put(place, "zebra.safetensors", 1.0)
    os.utime(path)
    assert mark("embedding:late cat") == named and mark("a cat") == before[1]


def test_a1111_names_have_no_mark_before_them(place, mark):
    before = mark("a late cat", dialect="a1111")
    put(place, "late.safetensors")
    assert mark("a late cat", dialect="a1111") != before
    assert mark("a late cat", dialect="comfy") == mark("a late cat")


def test_behind_a_link_every_embedding_counts(place, mark):
    before = mark(None)
    put(place, "late.safetensors")
    after = mark(None)
    put(place, "late.safetensors", 1.0)
    assert len({before, after, mark(None)}) == 3 and mark(None) == mark(None)
    assert mark("a cat", dialect=None) == mark("a cat", dialect=None)
