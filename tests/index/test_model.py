"""Which model an index belongs to: the same weights in every type they can be loaded in, and no others."""

from dataclasses import replace

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.index.model import fingerprint, is_same
from clip_vae_lora.index.reading import open_index

from ..support.files.index_parts import FACTS, make, run

HALVES = (torch.float16, torch.bfloat16)


def weights(seed: int = 0, count: int = 300) -> dict[str, torch.Tensor]:
    """Of many sizes, some of them so small that fp16 has hardly a number for them."""
    dice = torch.Generator().manual_seed(seed)
    sizes = [10.0 ** -(n % 8) for n in range(count)]
    return {f"layer {n}": torch.randn(40, 3, generator=dice) * size for n, size in enumerate(sizes)}


def loaded(state, *dtypes):
    """Rounded to each of these in turn."""
    for dtype in dtypes:
        state = {name: tensor.to(dtype) for name, tensor in state.items()}
    return fingerprint(state, "facts")


@pytest.mark.parametrize("seed", range(20))
def test_one_model_is_the_same_whatever_types_it_was_rounded_to(seed):
    state = weights(seed)
    seen = [loaded(state), *(loaded(state, dtype) for dtype in HALVES), loaded(state, *HALVES)]
    assert all(is_same(one, other) for one in seen for other in seen)


@pytest.mark.parametrize("change", [0.02, 0.003])  # of a weight, in the root of the mean square
def test_a_model_trained_further_is_another_one(change):
    state, noise = weights(), weights(1)
    other = {name: tensor * (1 + change * noise[name] / noise[name].std()) for name, tensor in state.items()}
    assert not is_same(loaded(state), loaded(other))
    assert not is_same(loaded(state, torch.bfloat16), loaded(weights(2), torch.bfloat16))


def test_other_facts_sizes_and_names_make_another_model():
    state = weights(count=3)
    mine = fingerprint(state, "facts")
    assert not is_same(mine, fingerprint(state, "other facts"))
    assert not is_same(mine, fingerprint({**state, "more": torch.zeros(2)}, "facts"))
    assert not is_same(mine, fingerprint({**state, "layer 0": state["layer 0"].T}, "facts"))


def test_what_is_no_fingerprint_is_nobodys():
    mine = loaded(weights(count=2))
    for text in ("", ":", "abc", "abc:???", mine[:-5], mine.partition(":")[0] + ":"):
        assert not is_same(text, mine) and not is_same(text, text)


def facts(dtype=None, **changes):
    state = weights() if dtype is None else {name: tensor.to(dtype) for name, tensor in weights().items()}
    return replace(FACTS, **{"model_key": f"key {dtype}", "fingerprint": fingerprint(state, "facts"), **changes})


@pytest.fixture
def places(tmp_path):
    make(tmp_path / "pictures", 10)
    return tmp_path / "indexes" / "a", tmp_path / "pictures"


def test_an_index_is_written_on_by_the_same_model_in_another_type(places):
    index, pictures = places
    run(index, pictures, facts())
    make(pictures, 3, first=10)
    done = run(index, pictures, facts(torch.bfloat16))
    assert (done.new, done.unchanged, done.rows, done.notes) == (3, 10, 13, ())
    assert open_index(index).facts == facts()  # one name for all its shards
    with pytest.raises(FileFormatError, match="connect that model, or use another index"):
        run(index, pictures, facts(fingerprint=fingerprint(weights(5), "facts"), model_key="other"))


def test_an_index_of_an_older_version_opens_with_its_key_and_learns_the_fingerprint(places):
    index, pictures = places
    run(index, pictures, facts(fingerprint=""))
    with pytest.raises(FileFormatError, match="an older version made this index"):
        run(index, pictures, facts(torch.bfloat16))
    assert run(index, pictures, facts()).unchanged == 10
    assert open_index(index).facts.fingerprint == facts().fingerprint
    assert run(index, pictures, facts(torch.bfloat16)).unchanged == 10


def test_rows_of_another_precision_are_remembered_and_told_once(places):
    index, pictures = places
    run(index, pictures, facts())
    assert run(index, pictures, facts(precision="fp16")).notes == ()  # nothing new, nothing to tell
    assert open_index(index).facts.precision == "fp32"
    make(pictures, 3, first=10)
    (note,) = run(index, pictures, facts(precision="fp16")).notes
    assert "made with fp32" in note and "with fp16" in note
    make(pictures, 3, first=13)
    assert run(index, pictures, facts(precision="fp16")).notes == ()
    assert open_index(index).facts.precision == "fp32, fp16"
