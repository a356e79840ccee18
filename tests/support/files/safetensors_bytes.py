"""Safetensors files written byte by byte, and the sentence with which one is refused."""

import json
import struct

import pytest

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors


def raw(path, header, data=b""):
    """A file from a header (dict or literal text) and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def refusal(path) -> str:
    with pytest.raises(FileFormatError) as caught:
        open_tensors(path).close()
    text = str(caught.value)
    assert text.startswith(path.name + ": ") and "\n" not in text and "\x1b" not in text
    return text
