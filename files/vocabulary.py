"""The vocabulary beside a model, through the library that its kind is made for: tokenizer.json through `tokenizers`,
SentencePiece's .model through `sentencepiece`. Both come with ComfyUI; they are imported when such a file is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import FileFormatError

VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model")  # names beside a model, the best first
MOST_BYTES = 64 << 20  # of a vocabulary: SigLIP 2's, with 256,000 tokens, has 34 MB

Pieces = Callable[[str], list[int]]


def vocabularies_of(name: str) -> list[str]:
    """The names that a model file's vocabulary can have beside it, the best first: `NAME.tokenizer.json` for
    NAME.safetensors, or tokenizer.json, or SentencePiece's names in the same two ways.
    """
    return [*(f"{Path(name).stem}.{own}" for own in VOCABULARIES), *VOCABULARIES]


def vocabulary_beside(path: Path) -> Path | None:
    """The vocabulary of a model file, see `vocabularies_of`; None if there is none."""
    return next((file for file in map(path.with_name, vocabularies_of(path.name)) if file.is_file()), None)


def read_vocabulary(path: Path) -> Pieces:
    """Read a vocabulary: what turns a text into the ids of its pieces, without special tokens.

    Raises:
        FileFormatError: the file is damaged or too large, or its library is not installed.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise FileFormatError(path, f"it has {size / 2**20:.0f} MB, and a vocabulary {MOST_BYTES >> 20} at most")
    return _read_json(path) if path.suffix == ".json" else _read_sentence_pieces(path)


def _read_json(path: Path) -> Pieces:
    try:
        import tokenizers
    except ImportError as error:
        raise FileFormatError(path, "the library `tokenizers` is needed to read it; install it") from error
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise FileFormatError(path, f"it is no tokenizer.json ({str(error)[:200]}); fetch it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _read_sentence_pieces(path: Path) -> Pieces:
    try:
        import sentencepiece
    except ImportError as error:
        raise FileFormatError(path, "the library `sentencepiece` is needed to read it; install it") from error
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, ValueError) as error:
        raise FileFormatError(path, "it is no model of SentencePiece, or was cut short; fetch it again") from error
    if not model.get_piece_size():
        raise FileFormatError(path, "it is empty; fetch it again")
    return lambda text: list(model.encode(text))
