"""JSON files, read with duplicate keys refused."""

import json
from os import PathLike
from pathlib import Path

from .errors import FileFormatError

MAX_JSON_BYTES = 64 * 2**20


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
