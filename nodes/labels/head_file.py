"""Learned labels in a safetensors file: the tensors of the head, and in the metadata its classes and its model.

Tensors are a table: the fields of a head (clip_core/few_labels/heads.py) under their own names, beside `means`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from ...clip_core.few_labels.heads import HEADS, LearnedLabels, is_sound
from ...files.errors import FileFormatError
from ...files.tensors import open_tensors, write_tensors
from ...index.table import Facts
from ..catalog import SavedFiles
from ..clip.learned import ModelLabels

SUFFIX = ".labels.safetensors"
FILES = SavedFiles(SUFFIX, "shapes")  # of the bundled CLIP
_MARK, _VERSION = "cvl_labels", 1
_MEANS = "means"


def write_labels(path: Path, labels: ModelLabels) -> None:
    """Write learned labels, whole or not at all. Raises FileFormatError."""
    learned, head = labels.learned, labels.learned.head
    tensors = {name: getattr(head, name) for name in _tensor_names(type(head))} | {_MEANS: learned.means}
    facts = {
        "version": _VERSION,
        "kind": head.kind,
        "classes": list(learned.classes),
        "temperature": learned.temperature,
        "method": learned.method,
        "made": asdict(labels.made),
    }
    write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, {_MARK: json.dumps(facts)})


def read_labels(path: Path) -> ModelLabels:
    """Read learned labels.

    Raises:
        FileFormatError: the file is none of these, damaged, or of a later version.
    """
    with open_tensors(path) as file:
        if _MARK not in file.metadata:
            raise FileFormatError(
                path, "labels learned by Learn Labels (CVL) were expected, but it holds something else; choose another"
            )
        try:
            facts = json.loads(file.metadata[_MARK])
            if facts["version"] != _VERSION:
                raise FileFormatError(path, "it is of a later version of this pack; update the pack, or learn anew")
            kind = HEADS[facts["kind"]]
            names = [*_tensor_names(kind), _MEANS]
            tensors = file.read(names)
            head = kind(**{name: tensors[name] for name in _tensor_names(kind)})
            learned = LearnedLabels(
                tuple(map(str, facts["classes"])), head, float(facts["temperature"]), tensors[_MEANS], facts["method"]
            )
            labels = ModelLabels(learned, Facts(**facts["made"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(path, "these learned labels are damaged; learn them anew") from error
    if not is_sound(learned, labels.made.width):
        raise FileFormatError(path, "these learned labels are damaged; learn them anew")
    return labels


def _tensor_names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]
