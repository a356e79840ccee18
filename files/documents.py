"""Documents beside a model: JSON, read with duplicate keys refused, and vocabularies.

A vocabulary is read through the library that its kind is made for: tokenizer.json through `tokenizers`, SentencePiece's
.model through `sentencepiece`. Both come with ComfyUI; they are imported when such a file is read.
"""

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from .errors import FileFormatError
from .writing import write_whole

MAX_JSON_BYTES = 64 * 2**20
VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model")  # names beside a model, the best first
MOST_BYTES = 64 << 20  # of a vocabulary: SigLIP 2's, with 256,000 tokens, has 34 MB

Pieces = Callable[[str], list[int]]


class DuplicateKeyError(ValueError):
    """One JSON object names the same key twice, so two readers could see two different documents."""


def parse_json(text: str | bytes) -> object:
    """Parse a JSON document; ValueError if it is not JSON, nests too deeply, or has one key twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def read_json(path: str | PathLike) -> dict:
    """Read the JSON object in a file (an adapter_config.json, a config.json, an index, a workflow).

    Raises:
        FileFormatError: the file is missing, larger than 64 MiB, not UTF-8, not JSON, or not an object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FileFormatError(path, "it has more than 64 MiB, which no JSON file expected here needs")
        document = parse_json(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise FileFormatError(path, f"there is no such file in {path.parent}") from error
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    except FileFormatError:
        raise
    except ValueError as error:
        raise FileFormatError(path, f"it is not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise FileFormatError(path, f"a JSON object {{...}} was expected, and it holds a {type(document).__name__}")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(f"the key {key!r} is there twice")
            seen.add(key)
    return result


def vocabularies_of(name: str) -> list[str]:
    """The names that a model file's vocabulary can have beside it, the best first: `NAME.tokenizer.json` for
    NAME.safetensors, or tokenizer.json, or SentencePiece's names in the same two ways.
    """
    return [*(f"{Path(name).stem}.{own}" for own in VOCABULARIES), *VOCABULARIES]


def vocabulary_beside(path: Path) -> Path | None:
    """The vocabulary of a model file, see `vocabularies_of`; None if there is none."""
    return next((file for file in map(path.with_name, vocabularies_of(path.name)) if file.is_file()), None)


def put_vocabulary_beside(path: Path, vocabulary: Path) -> Path:
    """Copy a vocabulary beside a model file, under the model's own name; where the copy lies.

    Raises:
        FileFormatError: it is gone, or the disk refuses.
    """
    kind = next((own for own in VOCABULARIES if vocabulary.name.endswith(own)), VOCABULARIES[0])
    place = path.with_name(f"{path.stem}.{kind}")
    try:
        content = vocabulary.read_bytes()
    except OSError as error:
        raise FileFormatError(vocabulary, f"cannot be read: {error.strerror or error}") from error
    write_whole(place, lambda file: file.write(content), lasting=False)
    return place


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
