"""Texts become the tokens that transformers makes of them, by the vocabulary beside the model."""

import pytest

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.features.whole_texts import WholeTexts
from clip_vae_lora.clip_core.siglip_config import SigLIPConfig, SigLIPVisionConfig
from clip_vae_lora.files.documents import read_vocabulary, vocabulary_beside
from clip_vae_lora.files.errors import FileFormatError

from ...support import siglip

TEXTS = [
    "a photo of a cat",
    "A Cat, on the MAT!",
    "",
    "  two   dogs  ",
    "漢字 and 🐱",
    "cat " * 90,
    "it's (well) done.",
]


def config(version: int) -> SigLIPConfig:
    text = TextConfig(32, 1, 1, 32, 32, vocab=300_000, context=64, activation="gelu_tanh")
    return SigLIPConfig(text, SigLIPVisionConfig(32, 1, 1, 32, 8, 16, 32), version=version)


def test_the_first_version_reads_sentence_pieces_as_transformers_does(tmp_path):
    pytest.importorskip("sentencepiece")
    from transformers import SiglipTokenizer

    path = siglip.sentence_pieces(tmp_path)
    theirs = SiglipTokenizer(vocab_file=str(path), model_max_length=64)
    rows, _ = WholeTexts(read_vocabulary(path)).rows(config(1), TEXTS)
    expected = theirs(TEXTS, padding="max_length", truncation=True, max_length=64)["input_ids"]
    assert [list(row) for row in rows] == expected


def test_the_second_version_reads_byte_pairs_as_transformers_does(tmp_path):
    from transformers import PreTrainedTokenizerFast

    path = siglip.gemma_json(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path))
    rows, cut = WholeTexts(read_vocabulary(path)).rows(config(2), TEXTS)
    for text, row, over in zip(TEXTS, rows, cut):
        ids = theirs(text.lower(), add_special_tokens=False)["input_ids"]  # Siglip2Tokenizer lowers first
        assert list(row) == [*ids[:63], 1, *[0] * (63 - len(ids))]
        assert over == max(0, len(ids) - 63)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["tokenizer.json", "spiece.model"], "tokenizer.json"),
        (["spiece.model"], "spiece.model"),
        (["tokenizer.json", "siglip.spiece.model"], "siglip.spiece.model"),
        (["other.tokenizer.json"], None),
    ],
)
def test_a_vocabulary_is_found_beside_its_model(tmp_path, names, found):
    for name in names:
        (tmp_path / name).touch()
    beside = vocabulary_beside(tmp_path / "siglip.safetensors")
    assert (beside and beside.name) == found


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff" * 50, b'{"model": {"type": "none"}}'])
def test_a_damaged_vocabulary_is_one_sentence(tmp_path, name, content):
    pytest.importorskip("sentencepiece")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match="fetch it again"):
        read_vocabulary(tmp_path / name)
