"""The tokens that stock nodes ask a CLIP for are packed into chunks as long as each encoder's own context."""

from types import SimpleNamespace

import pytest

from clip_vae_lora.clip_core.families import FAMILIES
from clip_vae_lora.nodes.host.shared.towers import PromptTokenizer


def tokenizer(family: str, *contexts: int) -> PromptTokenizer:
    """The tokenizer of a CLIP whose encoders take so many tokens."""
    sources = [SimpleNamespace(config=SimpleNamespace(width=64, context=context)) for context in contexts]
    return PromptTokenizer(FAMILIES[family], sources, lambda name, key, width: "there is none")


@pytest.mark.parametrize("context", [32, 77, 248])
@pytest.mark.parametrize("words", [1, 60, 400])
def test_chunks_are_as_long_as_the_context(context, words):
    (chunks,) = tokenizer("sd1", context).tokenize_with_weights("cat " * words).values()
    assert {len(chunk) for chunk in chunks} == {context}
    assert len(chunks) == -(-words // (context - 2))


def test_each_encoder_of_a_family_has_its_own_context():
    lists = tokenizer("sdxl", 248, 77).tokenize_with_weights("cat " * 100)
    assert [len(chunk) for chunk in lists["l"]] == [248]
    assert [len(chunk) for chunk in lists["g"]] == [77, 77]
